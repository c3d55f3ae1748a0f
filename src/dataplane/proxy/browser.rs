//! What browsers need of a route: CORS, and gRPC-Web in the place of gRPC. Kept apart from the
//! exchange, since most requests have nothing of it.

use super::exchange::{Call, Exchange};
use crate::{
    base::reason::Reason,
    dataplane::context::RequestContext,
    policy::route::{Captures, RouteMatch, RouteQuery},
    proto::{
        grpc,
        grpc_web::{Dialect, Recoder},
        h1::{Answer, Method, ResponseHead, write_answer},
    },
    snapshot::RouteExtra,
};

use super::target::Fields;

/// What is done for a browser.
pub(super) struct Browser {
    /// Writes the body of the request anew, unless that may stay as it is.
    pub(super) request: Option<Recoder>,
    /// What becomes of the response.
    pub(super) response: ForBrowser,
}

/// What is done with a response for a browser.
pub(super) struct ForBrowser {
    /// Whether the route speaks of CORS: what the endpoint says of it does not count.
    is_cors: bool,
    /// Fields of CORS.
    pub(super) fields: Vec<u8>,
    web: Option<Web>,
}

/// A call in gRPC-Web.
struct Web {
    dialect: Dialect,
    recoder: Recoder,
}

impl ForBrowser {
    /// Adds to the head for the endpoint, which is complete, that this is a call.
    pub(super) fn write_call(&self, out: &mut Vec<u8>) {
        let Some(web) = &self.web else { return };
        out.truncate(out.len().saturating_sub(b"\r\n".len()));
        out.extend_from_slice(b"content-type: ");
        web.dialect.write_call_type(out);
        out.extend_from_slice(b"\r\nte: trailers\r\n\r\n");
    }

    /// Prepares the head of the response: appends the fields that are added to it to `fields`. Returns
    /// what its body has to be written anew with.
    pub(super) fn respond(
        &mut self,
        head: &mut ResponseHead,
        bytes: &[u8],
        fields: &mut Vec<u8>,
    ) -> Option<&mut Recoder> {
        if self.is_cors {
            head.drop_fields(bytes, |name| name.starts_with(b"access-control-"));
        }
        fields.extend_from_slice(&self.fields);
        let web = self.web.as_mut()?;
        let is_call = head.field_values(bytes, b"content-type").next().is_some_and(grpc::is_call);
        if !is_call {
            return None; // of something between us and the service
        }
        head.drop_fields(bytes, |name| name == b"content-type" || name == b"trailer");
        fields.extend_from_slice(b"content-type: ");
        web.dialect.write_response_type(fields);
        fields.extend_from_slice(b"\r\n");
        Some(&mut web.recoder)
    }

    /// The type of an answer of ringway's own to a call, and its fields; `None` if it is none.
    pub(super) fn failure(&self, reason: Reason) -> Option<(String, Vec<u8>)> {
        let web = self.web.as_ref()?;
        let mut content_type = Vec::new();
        web.dialect.write_response_type(&mut content_type);
        let mut fields = self.fields.clone();
        grpc::write_failure(&mut fields, reason);
        Some((String::from_utf8_lossy(&content_type).into_owned(), fields))
    }
}

impl Exchange<'_> {
    /// Notes what the route does for browsers.
    #[cold]
    pub(super) fn note_browser(&mut self, extra: &RouteExtra) {
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        let first = |name: &'static [u8]| head.field_values(bytes, name).next();
        let mut fields = Vec::new();
        if let Some(cors) = &extra.cors {
            cors.write_response(first(b"origin"), &mut fields);
        }
        let dialect = first(b"content-type").filter(|_| extra.grpc_web);
        let dialect = dialect.and_then(|kind| Dialect::of(kind, first(b"accept")));
        if dialect.is_some() {
            let timeout = first(b"grpc-timeout").and_then(grpc::parse_timeout);
            self.call = Some(Call { timeout });
            self.context.head.drop_fields(bytes, |name| name == b"content-type" || name == b"te");
        }
        let request = dialect.as_ref().and_then(Recoder::request);
        let web = dialect.map(|dialect| Web { recoder: Recoder::response(&dialect), dialect });
        let response = ForBrowser { is_cors: extra.cors.is_some(), fields, web };
        self.browser = Some(Box::new(Browser { request, response }));
    }

    /// How a call in gRPC-Web is told that it failed.
    pub(super) fn web_failure(&self, reason: Reason) -> Option<(String, Vec<u8>)> {
        self.browser.as_ref()?.response.failure(reason)
    }

    /// Answers a call in gRPC-Web with nothing but its failure.
    #[cold]
    pub(super) fn write_web_failure(
        &mut self,
        content_type: &str,
        fields: &[u8],
        reason: Reason,
        keep_alive: bool,
    ) {
        self.context.out.clear();
        write_answer(
            &mut self.context.out,
            &Answer {
                status: 200,
                reason: reason.code(),
                body: &[],
                content_type,
                allow: None,
                keep_alive,
                client_version: self.context.head.version(),
                head_request: false,
                date: &self.shard.date.get(),
                extra: fields,
            },
        );
    }

    /// Whether the request asks whether another one may be sent.
    pub(super) fn is_preflight(&self) -> bool {
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        let has = |name: &'static [u8]| head.field_values(bytes, name).next().is_some();
        head.method() == Method::Options && has(b"access-control-request-method") && has(b"origin")
    }

    /// The answer to a preflight, if the route of the request it asks for speaks of CORS.
    #[cold]
    pub(super) fn preflight(&mut self) -> Option<Reason> {
        let bytes = self.client.input_bytes();
        let RequestContext { head, host, path, .. } = &*self.context;
        let first = |name: &'static [u8]| head.field_values(bytes, name).next();
        let method = first(b"access-control-request-method")?;
        let query = RouteQuery {
            listener: self.listener_index,
            host,
            path,
            query: head.query(bytes),
            method,
            fields: &Fields { head, bytes },
        };
        let table = self.table;
        let RouteMatch::Found(route) = table.snapshot.table.find(&query, &mut Captures::default())
        else {
            return None;
        };
        let cors = table.snapshot.route(route).extra.as_ref()?.cors.as_ref()?;
        self.record.route = Some(route);
        let origin = first(b"origin")?;
        let mut fields = Vec::new();
        let reason = if cors.allows(origin) {
            let headers = first(b"access-control-request-headers");
            cors.write_preflight(origin, method, headers, &mut fields);
            Reason::CorsPreflight
        } else {
            cors.write_response(Some(origin), &mut fields);
            Reason::CorsRefused
        };
        let response = ForBrowser { is_cors: true, fields, web: None };
        self.browser = Some(Box::new(Browser { request: None, response }));
        Some(reason)
    }
}
