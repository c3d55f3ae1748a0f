//! CORS: which other origins a browser lets use a route, and what it has to be told for that.
//!
//! Source: the Fetch standard, §3.3 "CORS protocol"; <https://fetch.spec.whatwg.org/#http-cors-protocol>.

/// `route.cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who may.
    pub origins: Vec<OriginPattern>,
    /// Header fields that requests may have, as one list; `None` for those that are asked for.
    pub allow_headers: Option<Box<[u8]>>,
    /// Fields of responses that scripts may read, as one list; may be empty.
    pub expose_headers: Box<[u8]>,
    /// Whether requests may carry cookies and the like.
    pub credentials: bool,
    /// How long a browser may remember the answer, in seconds.
    pub max_age: Option<u64>,
}

/// An origin: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// Any.
    Any,
    /// This one, in lower case.
    Exact(Box<[u8]>),
    /// Hosts below a name: what comes before and what comes after the part that is free.
    Below(Box<[u8]>, Box<[u8]>),
}

impl OriginPattern {
    /// Reads `*`, `null`, `https://app.example.com:8443` or `https://*.example.com`. `None` for
    /// anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match &*text {
            "*" => return Some(Self::Any),
            "null" => return Some(Self::Exact(b"null".as_slice().into())),
            _ => {}
        }
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
        };
        let scheme_ok = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok());
        if scheme.is_empty() || !scheme_ok || !port_ok {
            return None;
        }
        match host.strip_prefix("*.") {
            Some(below) if is_host(below) => {
                let start = format!("{scheme}://").into_bytes();
                let end = authority.as_bytes()[1..].to_vec();
                Some(Self::Below(start.into(), end.into()))
            }
            None if is_host(host) => Some(Self::Exact(text.as_bytes().into())),
            _ => None,
        }
    }

    fn takes(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => origin.eq_ignore_ascii_case(text),
            Self::Below(start, end) => {
                let (Some(head), Some(tail)) = (
                    origin.get(..start.len()),
                    origin.len().checked_sub(end.len()).and_then(|at| origin.get(at..)),
                ) else {
                    return false;
                };
                origin.len() > start.len() + end.len()
                    && head.eq_ignore_ascii_case(start)
                    && tail.eq_ignore_ascii_case(end)
                    && origin[start.len()..origin.len() - end.len()]
                        .iter()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b))
            }
        }
    }
}

impl Cors {
    /// Whether an origin may use the route.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|pattern| pattern.takes(origin))
    }

    /// Whether everybody gets the same answer.
    fn is_for_all(&self) -> bool {
        self.origins.contains(&OriginPattern::Any) && !self.credentials
    }

    /// Appends the fields that a response to a request of this origin has; of none if it has none, or
    /// it is not allowed.
    pub fn write_response(&self, origin: Option<&[u8]>, out: &mut Vec<u8>) {
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            self.write_origin(origin, out);
            if !self.expose_headers.is_empty() {
                push_line(out, b"access-control-expose-headers", &self.expose_headers);
            }
        }
        if !self.is_for_all() {
            out.extend_from_slice(b"vary: Origin\r\n");
        }
    }

    /// Appends the fields of the answer to a preflight of an allowed origin, which asks for a method
    /// and perhaps for header fields.
    pub fn write_preflight(
        &self,
        origin: &[u8],
        method: &[u8],
        headers: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        self.write_origin(origin, out);
        push_line(out, b"access-control-allow-methods", method);
        if let Some(headers) = self.allow_headers.as_deref().or(headers) {
            push_line(out, b"access-control-allow-headers", headers);
        }
        if let Some(seconds) = self.max_age {
            push_line(out, b"access-control-max-age", seconds.to_string().as_bytes());
        }
        out.extend_from_slice(
            b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n",
        );
    }

    fn write_origin(&self, origin: &[u8], out: &mut Vec<u8>) {
        let origin = if self.is_for_all() { b"*" } else { origin };
        push_line(out, b"access-control-allow-origin", origin);
        if self.credentials {
            push_line(out, b"access-control-allow-credentials", b"true");
        }
    }
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|text| OriginPattern::parse(text).unwrap()).collect(),
            allow_headers: None,
            expose_headers: b"grpc-status".as_slice().into(),
            credentials,
            max_age: Some(600),
        }
    }

    #[test]
    fn origins_are_taken_exactly() {
        let all = ["https://app.test", "https://*.shop.test:8443", "http://localhost:3000"];
        let cors = cors(&all, false);
        for is in [
            "https://app.test",
            "HTTPS://App.Test",
            "https://a.shop.test:8443",
            "https://a.b.shop.test:8443",
            "http://localhost:3000",
        ] {
            assert!(cors.allows(is.as_bytes()), "{is}");
        }
        for is_not in [
            "",
            "null",
            "http://app.test",
            "https://app.test.evil.test",
            "https://app.test:444",
            "https://shop.test:8443",
            "https://.shop.test:8443",
            "https://a.shop.test",
            "https://evil/.shop.test:8443",
            "https://evil@a.shop.test:8443",
            "https://evilshop.test:8443",
        ] {
            assert!(!cors.allows(is_not.as_bytes()), "{is_not}");
        }
    }

    #[test]
    fn what_is_no_origin() {
        for text in
            ["", "app.test", "https://", "https://a/", "https://*", "https://a.*.test", "*."]
        {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_browsers_are_told() {
        let response = |cors: &Cors, origin: Option<&str>| {
            let mut out = Vec::new();
            cors.write_response(origin.map(str::as_bytes), &mut out);
            String::from_utf8(out).unwrap()
        };
        let expose = "access-control-expose-headers: grpc-status\r\n";
        assert_eq!(
            response(&cors(&["*"], false), Some("https://a.test")),
            format!("access-control-allow-origin: *\r\n{expose}")
        );
        assert_eq!(
            response(&cors(&["https://a.test"], true), Some("https://a.test")),
            format!(
                "access-control-allow-origin: https://a.test\r\n\
                 access-control-allow-credentials: true\r\n{expose}vary: Origin\r\n"
            )
        );
        for other in [None, Some("https://b.test")] {
            assert_eq!(response(&cors(&["https://a.test"], true), other), "vary: Origin\r\n");
        }
        let mut out = Vec::new();
        let asked = Some(&b"x-grpc-web"[..]);
        cors(&["https://a.test"], false).write_preflight(
            b"https://a.test",
            b"POST",
            asked,
            &mut out,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "access-control-allow-origin: https://a.test\r\n\
             access-control-allow-methods: POST\r\n\
             access-control-allow-headers: x-grpc-web\r\n\
             access-control-max-age: 600\r\n\
             vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
        );
    }
}
