//! What a request is known by when it shall always go the same way: the client's address, a field, a
//! cookie, a parameter of the path or of the query.

use std::net::IpAddr;

use super::{
    balance::{KeyHash, cookie, hash_address, hash_key},
    route::{Captures, FieldSource, query_value},
};

/// What a request is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKey {
    /// The address of its client; behind trusted proxies the one they name.
    Ip,
    /// The first field with this name, lower-case.
    Header(Box<[u8]>),
    /// The cookie with this name.
    Cookie(Box<[u8]>),
    /// The capture of the route's path with this name, still encoded.
    Path(Box<str>),
    /// The first pair of the query with this key; its value as sent.
    Query(Box<[u8]>),
}

/// Captures of a route that are asked for by name.
pub type NamedCaptures = [(Box<str>, u8)];

/// The parts of a request that a key may be in.
pub struct KeySource<'a, F> {
    /// The client.
    pub client: IpAddr,
    /// The fields of its head.
    pub fields: &'a F,
    /// What follows `?`, as sent.
    pub query: Option<&'a [u8]>,
    /// The normalised path.
    pub path: &'a [u8],
    /// What the route captured in it.
    pub captures: &'a Captures,
    /// Which of them have a name that is asked for.
    pub names: &'a NamedCaptures,
}

impl RequestKey {
    /// Reads `ip`, `header:x-user`, `cookie:sid`, `path:id` or `query:q`. `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "ip" {
            return Some(Self::Ip);
        }
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        let token = name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte));
        match kind {
            "header" if token => Some(Self::Header(name.to_ascii_lowercase().into_bytes().into())),
            "cookie" if token => Some(Self::Cookie(name.as_bytes().into())),
            "path" => Some(Self::Path(name.into())),
            "query" => Some(Self::Query(name.as_bytes().into())),
            _ => None,
        }
    }

    /// The hash of a request's key; `None` if the request has none.
    pub fn hash<F: FieldSource>(&self, from: &KeySource<'_, F>) -> Option<KeyHash> {
        let bytes = match self {
            Self::Ip => return Some(hash_address(from.client)),
            Self::Header(name) => from.fields.values(name).next()?,
            Self::Cookie(name) => cookie(from.fields.values(b"cookie"), name)?,
            Self::Query(name) => query_value(from.query, name)?,
            Self::Path(name) => {
                let (_, index) = from.names.iter().find(|(known, _)| known == name)?;
                let (start, end) = from.captures.span(usize::from(*index));
                from.path.get(start..end)?
            }
        };
        (!bytes.is_empty()).then(|| hash_key(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fields(&'static [(&'static str, &'static str)]);

    impl FieldSource for Fields {
        fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
            let name = name.to_vec();
            let same = move |field: &&(&str, &str)| field.0.as_bytes() == name;
            self.0.iter().filter(same).map(|field| field.1.as_bytes())
        }
    }

    #[test]
    fn each_key_is_found_where_it_is() {
        let source = KeySource {
            client: "192.0.2.1".parse().expect("an address"),
            fields: &Fields(&[("x-user", "u7"), ("cookie", "a=1; sid=s9"), ("x-empty", "")]),
            query: Some(b"p=1&q=z"),
            path: b"/users/42",
            captures: &Captures::default(),
            names: &[],
        };
        let hash = |text: &str| RequestKey::parse(text).expect(text).hash(&source);
        assert_eq!(hash("ip"), Some(hash_address(source.client)));
        assert_eq!(hash("header:X-User"), Some(hash_key(b"u7")));
        assert_eq!(hash("cookie:sid"), Some(hash_key(b"s9")));
        assert_eq!(hash("query:q"), Some(hash_key(b"z")));
        for missing in ["header:x-none", "header:x-empty", "cookie:SID", "query:z", "path:id"] {
            assert_eq!(hash(missing), None, "{missing}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "IP", "ip:", "header", "header:", "header:a b", "cookie:a=b", "user:x"] {
            assert_eq!(RequestKey::parse(text), None, "{text}");
        }
    }
}
