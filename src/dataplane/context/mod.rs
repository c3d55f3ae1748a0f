//! What one request needs while it is in flight: pooled per core, bounded, blank between requests.

mod pool;

pub use pool::{ContextLease, ContextPool};

use crate::{
    base::limits,
    policy::{pace::Pace, route::Captures},
    proto::h1::{ChunkDecoder, RequestHead, ResponseHead},
    rt::Buf,
};

/// The moving parts of one request. Every buffer keeps its capacity from request to request.
#[derive(Default)]
pub struct RequestContext {
    /// Offsets into the client's input buffer.
    pub head: RequestHead,
    /// Offsets into the endpoint's response buffer.
    pub response: ResponseHead,
    /// What the route's path captured.
    pub captures: Captures,
    /// The request's host: lower-case, without port and final dot.
    pub host: Vec<u8>,
    /// The normalised path.
    pub path: Vec<u8>,
    /// The target that is sent upstream: path and query.
    pub target: Vec<u8>,
    /// The head (or own answer) being written.
    pub out: Vec<u8>,
    /// The response head being written; apart from `out`, which a retry needs again.
    pub response_out: Vec<u8>,
    /// Cookie fields to add to the response.
    pub cookies: Vec<u8>,
    /// The cookie field that gives the client a place in the route's split; apart from `cookies`,
    /// which each try writes anew.
    pub place_cookie: Vec<u8>,
    /// The first bytes of the response, where they were waited for before it is read.
    pub heard: Option<Buf>,
    /// How fast the response's body has to come.
    pub pace: Pace,
    /// What the access log wants of the head, kept because the head is overwritten in place. Apart:
    /// without a log nothing of it is touched.
    pub logged: Option<Box<LoggedHead>>,
    /// Decodes a chunked request body; reset where one begins.
    pub upload: ChunkDecoder,
    /// The same for the response.
    pub download: ChunkDecoder,
}

/// Copies of head fields for the access log.
#[derive(Default)]
pub struct LoggedHead {
    /// The method as sent.
    pub method: Vec<u8>,
    /// The target as sent.
    pub target: Vec<u8>,
    /// The effective host as sent.
    pub host: Vec<u8>,
    /// `User-Agent`.
    pub user_agent: Vec<u8>,
    /// `Referer`.
    pub referer: Vec<u8>,
}

impl LoggedHead {
    fn is_empty(&self) -> bool {
        self.method.is_empty() && self.target.is_empty()
    }

    fn buffers(&mut self) -> [&mut Vec<u8>; 5] {
        [
            &mut self.method,
            &mut self.target,
            &mut self.host,
            &mut self.user_agent,
            &mut self.referer,
        ]
    }
}

impl RequestContext {
    /// Forgets the request, keeping bounded capacity for the next one. The heads hold no bytes, and
    /// are cleared by whoever parses the next one: here their memory would be a cold miss.
    pub fn clear(&mut self) {
        self.captures.clear();
        self.heard = None;
        let Self { host, path, target, out, response_out, cookies, place_cookie, logged, .. } =
            self;
        let logged = logged.iter_mut().flat_map(|logged| logged.buffers());
        for buffer in
            [host, path, target, out, response_out, cookies, place_cookie].into_iter().chain(logged)
        {
            buffer.clear();
            if buffer.capacity() > limits::CONTEXT_BYTES_KEPT_MAX {
                buffer.shrink_to(limits::CONTEXT_BYTES_KEPT_MAX);
            }
        }
    }

    /// Whether nothing of a request is left in it.
    pub fn is_blank(&self) -> bool {
        self.host.is_empty()
            && self.path.is_empty()
            && self.target.is_empty()
            && self.heard.is_none()
            && self.out.is_empty()
            && self.response_out.is_empty()
            && self.cookies.is_empty()
            && self.place_cookie.is_empty()
            && self.logged.as_ref().is_none_or(|logged| logged.is_empty())
    }
}
