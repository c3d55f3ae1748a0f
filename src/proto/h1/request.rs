//! Request heads.

use super::{Field, Framing, HeadError, HeadLimits, Method, Parse, TargetForm, Version};

/// A request head as offsets into the buffer it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {}

#[allow(unused_variables, missing_docs)]
impl RequestHead {
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn parse(&mut self, buf: &[u8], limits: HeadLimits) -> Result<Parse, HeadError> {
        todo!()
    }
    pub fn started(&self, buf: &[u8]) -> bool {
        todo!()
    }
    pub fn method(&self) -> Method {
        todo!()
    }
    pub fn method_bytes<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        todo!()
    }
    pub fn version(&self) -> Version {
        todo!()
    }
    pub fn form(&self) -> TargetForm {
        todo!()
    }
    pub fn target<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        todo!()
    }
    pub fn path<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        todo!()
    }
    pub fn query<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        todo!()
    }
    pub fn host<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        todo!()
    }
    pub fn framing(&self) -> Framing {
        todo!()
    }
    pub fn keep_alive(&self) -> bool {
        todo!()
    }
    pub fn expects_continue(&self) -> bool {
        todo!()
    }
    pub fn upgrade(&self) -> bool {
        todo!()
    }
    pub fn max_forwards(&self) -> Option<u32> {
        todo!()
    }
    pub fn fields<'b>(&'b self, buf: &'b [u8]) -> impl Iterator<Item = Field<'b>> {
        [].into_iter()
    }
    pub fn field_values<'b>(
        &'b self,
        buf: &'b [u8],
        name: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> {
        [].into_iter()
    }
}
