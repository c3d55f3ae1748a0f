//! Requests of HTTP/2 as text: refused, or read by the strict parser as exactly what was written.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, uri};
use ringway::proto::{
    h1::{Framing, HeadLimits, Parse, RequestHead},
    h2::write_request,
};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 65_535, count_max: 1024 };

/// The first byte says whether anything follows the fields; then fields, `name: value`, with 0xFF
/// between them. What the `h2` crate refuses is passed over.
pub fn check(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let Some((request, is_sane)) = request(data) else { return };
    let (parts, ()) = request.into_parts();
    let mut text = Vec::new();
    let Ok(written) = write_request(&mut text, &parts, None, first & 1 == 1, b"") else { return };
    let mut head = RequestHead::default();
    let Ok(parsed) = head.parse(&text, LIMITS) else { return };
    let Parse::Complete { head_bytes } = parsed else { panic!("a part of a head: {text:?}") };
    assert_eq!(head_bytes, text.len(), "all of the text is one head");
    assert!(is_sane, "a connection field passed");
    assert_eq!(head.method_bytes(&text), parts.method.as_str().as_bytes());
    if parts.method == Method::CONNECT {
        return; // refused by all who route
    }
    assert_eq!(head.framing(), written.framing);
    assert!(head.framing() != Framing::UntilClose);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    assert_eq!(head.target(&text), target.as_bytes());
    for (name, value) in &parts.headers {
        let name = name.as_str().as_bytes();
        if matches!(name, b"cookie" | b"host") {
            continue;
        }
        assert!(
            head.field_values(&text, name).any(|read| read == value.as_bytes()),
            "{name:?} is lost or changed"
        );
    }
    for field in head.fields(&text) {
        let made = [&b"host"[..], b"cookie", b"transfer-encoding"];
        let name = HeaderName::from_lowercase(field.name).expect("names stay as they were");
        assert!(parts.headers.contains_key(&name) || made.contains(&field.name));
    }
}

/// What the `h2` crate would hand over, and whether no field speaks of the connection.
fn request(data: &[u8]) -> Option<(Request<()>, bool)> {
    let mut request = Request::new(());
    let mut uri = uri::Parts::default();
    let mut fields = HeaderMap::new();
    let mut is_sane = true;
    for line in data.split(|byte| *byte == 0xFF).take(64) {
        let at = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
        let (name, value) = (&line[..at], &line[at + 1..]);
        match name {
            b":method" => *request.method_mut() = Method::from_bytes(value).ok()?,
            b":authority" => uri.authority = Some(uri::Authority::try_from(value).ok()?),
            b":path" => uri.path_and_query = Some(uri::PathAndQuery::try_from(value).ok()?),
            name => {
                let name = HeaderName::from_lowercase(name).ok()?;
                is_sane &= !matches!(
                    name.as_str(),
                    "connection"
                        | "keep-alive"
                        | "proxy-connection"
                        | "transfer-encoding"
                        | "upgrade"
                );
                fields.append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    if uri.authority.is_some() && uri.path_and_query.is_some() {
        uri.scheme = Some(uri::Scheme::HTTP);
    }
    *request.uri_mut() = uri::Uri::from_parts(uri).ok()?;
    *request.headers_mut() = fields;
    Some((request, is_sane))
}
