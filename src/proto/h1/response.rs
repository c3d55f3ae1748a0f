//! Response heads.

use super::{Field, Framing, HeadError, HeadLimits, Method, Parse, Version};

/// What a response answers: its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTo {
    /// The method that was sent.
    pub method: Method,
    /// Whether an upgrade was asked for.
    pub upgrade: bool,
}

/// A response head as offsets into the buffer it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {}

#[allow(unused_variables, missing_docs)]
impl ResponseHead {
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: HeadLimits,
        of: ResponseTo,
    ) -> Result<Parse, HeadError> {
        todo!()
    }
    pub fn status(&self) -> u16 {
        todo!()
    }
    pub fn version(&self) -> Version {
        todo!()
    }
    pub fn framing(&self) -> Framing {
        todo!()
    }
    pub fn content_length(&self) -> Option<u64> {
        todo!()
    }
    pub fn keep_alive(&self) -> bool {
        todo!()
    }
    pub fn is_interim(&self) -> bool {
        todo!()
    }
    pub fn is_upgrade(&self) -> bool {
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
