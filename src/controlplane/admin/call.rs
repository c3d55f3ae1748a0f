//! What a call brings along: options of its query, conditions of its head, its body.

use std::{collections::HashMap, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    failure::{Failure, REQUEST},
    json,
};
use crate::{
    base::limits::{ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX, ADMIN_WAIT_MAX},
    controlplane::{
        changes::{Refused, Why},
        config::{Severity, names, units},
    },
};

/// How long `wait=applied` waits unless told otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// `?name=value` of a call, each name known.
#[derive(Debug)]
pub(super) struct Options {
    /// Whether nothing is to change.
    pub(super) dry_run: bool,
    /// How long to wait until all cores obey; `None` not at all.
    pub(super) wait: Option<Duration>,
    /// Objects in one answer.
    pub(super) limit: usize,
    /// The name behind which a page begins.
    pub(super) after: Option<String>,
}

/// The names that a query may hold.
const OPTIONS: [&str; 5] = ["dry_run", "wait", "timeout", "limit", "after"];

impl<S: Send + Sync> FromRequestParts<S> for Options {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Ok(Query(query)) = query else {
            return Err(Failure::bad(
                "",
                "the query can't be read",
                "write ?name=value&name=value",
            ));
        };
        Self::read(&query)
    }
}

impl Options {
    fn read(query: &HashMap<String, String>) -> Result<Self, Failure> {
        if let Some(unknown) = query.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
            let hint = names::did_you_mean(unknown, OPTIONS, || {
                format!("it takes {}", names::list(OPTIONS))
            });
            return Err(Failure::bad(unknown, format!("unknown parameter \"{unknown}\""), hint));
        }
        let get = |name: &str| query.get(name).map(String::as_str);
        let timeout = match get("timeout").map(units::parse_duration) {
            None => WAIT_DEFAULT,
            Some(Ok(timeout)) if timeout <= ADMIN_WAIT_MAX => timeout,
            Some(_) => return Err(Failure::bad("timeout", "not a duration up to 30s", "write 5s")),
        };
        Ok(Self {
            dry_run: match get("dry_run") {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => {
                    return Err(Failure::bad(
                        "dry_run",
                        "it is true or false",
                        "write dry_run=true",
                    ));
                }
            },
            wait: match get("wait") {
                None | Some("accepted") => None,
                Some("applied") => Some(timeout),
                Some(_) => {
                    let hint = "write wait=applied, or leave it out";
                    return Err(Failure::bad("wait", "it is \"accepted\" or \"applied\"", hint));
                }
            },
            limit: match get("limit").map(str::parse) {
                None => ADMIN_PAGE_DEFAULT,
                Some(Ok(limit)) if (1..=ADMIN_PAGE_MAX).contains(&limit) => limit,
                Some(_) => {
                    let message = format!("it is outside 1..={ADMIN_PAGE_MAX}");
                    return Err(Failure::bad("limit", message, "write limit=1000"));
                }
            },
            after: get("after").map(str::to_owned),
        })
    }
}

/// If-Match and If-None-Match. Source: RFC 9110 §13.1.1, §13.1.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    /// With their quotes; weak ones begin with `W/`.
    List(Vec<String>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<Self>, Failure> {
        let mut list = Vec::new();
        for value in headers.get_all(&name) {
            let bad = || {
                let message = format!("{name} is no list of entity tags");
                Failure::bad("", message, "send back the ETag as it came, quotes included")
            };
            let text = value.to_str().map_err(|_| bad())?;
            if text.trim() == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',').map(str::trim) {
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                if opaque.len() < 2 || !opaque.starts_with('"') || !opaque.ends_with('"') {
                    return Err(bad());
                }
                list.push(tag.to_owned());
            }
        }
        Ok((!list.is_empty()).then_some(Self::List(list)))
    }

    /// Whether one of them is the tag. A weak one never is: it may stand for other bytes.
    fn contain(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::List(list), Some(tag)) => list.iter().any(|one| one == tag),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self {
            matches: Tags::read(&parts.headers, header::IF_MATCH)?,
            none_matches: Tags::read(&parts.headers, header::IF_NONE_MATCH)?,
        })
    }
}

impl Conditions {
    /// Whether a change may go on; `tag` is that of what is there now.
    ///
    /// # Errors
    /// What is there instead: a 412.
    pub(super) fn check(&self, tag: Option<&str>) -> Result<(), Refused> {
        let fail = |message: String, hint: &str| {
            Err(Refused::because(Why::Precondition, "", message, hint))
        };
        let again = "read it again, and send the change with the ETag of that answer";
        match (&self.matches, &self.none_matches, tag) {
            (Some(tags), _, None) if !tags.contain(None) => {
                fail("If-Match: there is no such object any more".into(), again)
            }
            (Some(tags), _, Some(tag)) if !tags.contain(Some(tag)) => {
                fail(format!("If-Match: somebody changed it; its ETag is {tag} now"), again)
            }
            (_, Some(tags), Some(tag)) if tags.contain(Some(tag)) => fail(
                format!("If-None-Match: it is there already, with the ETag {tag}"),
                "leave If-None-Match out to replace it",
            ),
            _ => Ok(()),
        }
    }

    /// Whether a reader has what it asks for already: a 304.
    pub(super) fn is_known(&self, tag: &str) -> bool {
        self.none_matches.as_ref().is_some_and(|tags| tags.contain(Some(tag)))
    }
}

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`, or `application/merge-patch+json`.
    Json,
    /// `application/toml`.
    Toml,
}

/// A body and what it is.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) media: Media,
    bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let media = media(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let (message, hint) = match &rejection {
                BytesRejection::FailedToBufferBody(_)
                    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    ("the body is too long", "send less at once")
                }
                _ => ("the body ended too early", "send it again"),
            };
            Failure::new(rejection.status(), "", message, hint)
        })?;
        Ok(Self { media, bytes })
    }
}

/// Pages of other sites can make a browser send forms and plain text, but not these types without
/// asking first; so a type is not optional.
fn media(headers: &HeaderMap) -> Result<Media, Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let plain = given.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match plain.as_str() {
        "application/json" | "application/merge-patch+json" => Ok(Media::Json),
        "application/toml" => Ok(Media::Toml),
        _ => Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "",
            format!("Content-Type \"{plain}\" is not taken here"),
            "send Content-Type: application/json",
        )),
    }
}

impl Body {
    /// The text of it.
    pub(super) fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.bytes)
            .map_err(|_| Failure::bad("", "the body is not UTF-8", "send it as UTF-8"))
    }

    /// An object in JSON.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Failure> {
        if self.media != Media::Json {
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "",
                "one object is sent as JSON",
                "send Content-Type: application/json",
            ));
        }
        match json::parse(&self.bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Failure::bad("", "not an object", "send {\"key\": value, ...}")),
            Err(error) => Err(not_json(&error)),
        }
    }
}

/// Names in the path of a call, their percent-encoding undone.
#[derive(Debug)]
pub(super) struct Names<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Ok(Path(names)) = Path::<T>::from_request_parts(parts, state).await else {
            let hint = "write names in UTF-8, percent-encoded where they need it";
            return Err(Failure::bad("", "a name in the path is not UTF-8", hint));
        };
        Ok(Self(names))
    }
}

pub(super) fn not_json(error: &serde_json::Error) -> Failure {
    let problem = json!({
        "file": REQUEST,
        "line": error.line(),
        "column": error.column(),
        "key": "",
        "message": format!("not JSON: {error}"),
        "hint": "see https://www.json.org",
        "severity": Severity::Error,
    });
    Failure::of(StatusCode::BAD_REQUEST, vec![problem])
}

/// How deep values may be nested; no key needs more than three.
const DEPTH_MAX: usize = 16;

/// Refuses what JSON has and the configuration can't hold, and expressions: they would let a caller
/// read the environment and the files of ringway.
pub(super) fn check_values(path: &str, keys: &Map<String, Value>) -> Result<(), Failure> {
    check_entries(path, keys, 0)
}

fn check_entries(path: &str, keys: &Map<String, Value>, depth: usize) -> Result<(), Failure> {
    keys.iter().try_for_each(|(key, value)| check_value(&format!("{path}.{key}"), value, depth))
}

fn check_value(path: &str, value: &Value, depth: usize) -> Result<(), Failure> {
    match value {
        _ if depth > DEPTH_MAX => {
            Err(Failure::bad(path, "nested too deeply", "no key needs more than three levels"))
        }
        Value::Null => Err(Failure::bad(path, "null is no value here", "leave the key out")),
        Value::String(text) if text.contains("${") => Err(Failure::bad(
            path,
            "expressions are for files; the admin API takes values",
            "write the value itself, or put this into a file",
        )),
        Value::Array(elements) => {
            elements.iter().try_for_each(|one| check_value(path, one, depth + 1))
        }
        Value::Object(entries) => check_entries(path, entries, depth + 1),
        _ => Ok(()),
    }
}

/// Changes some keys. Source: RFC 7396, "JSON Merge Patch".
pub(super) fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (target.get_mut(key), value) {
            (_, Value::Null) => {
                target.remove(key);
            }
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            (_, Value::Object(patch)) => {
                let mut inner = Map::new();
                merge(&mut inner, patch);
                target.insert(key.clone(), Value::Object(inner));
            }
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn patches_merge_as_the_rfc_says() {
        for (target, patch, result) in [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
            (json!({ "a": "b", "b": 1 }), json!({ "a": null }), json!({ "b": 1 })),
            (json!({ "a": [1] }), json!({ "a": [2] }), json!({ "a": [2] })),
            (
                json!({ "a": { "b": "c" } }),
                json!({ "a": { "b": "d", "c": null } }),
                json!({ "a": { "b": "d" } }),
            ),
            (json!({}), json!({ "a": { "b": { "c": null } } }), json!({ "a": { "b": {} } })),
        ] {
            let mut target = object(target);
            merge(&mut target, &object(patch));
            assert_eq!(Value::Object(target), result);
        }
    }

    fn conditions(name: header::HeaderName, value: &str) -> Conditions {
        let mut headers = HeaderMap::new();
        headers.insert(&name, value.parse().unwrap());
        let tags = Tags::read(&headers, name.clone()).unwrap();
        match name {
            header::IF_MATCH => Conditions { matches: tags, none_matches: None },
            _ => Conditions { matches: None, none_matches: tags },
        }
    }

    #[test]
    fn conditions_hold_or_not() {
        let matches = |value| conditions(header::IF_MATCH, value);
        let none = |value| conditions(header::IF_NONE_MATCH, value);
        assert!(matches("\"a\", \"b\"").check(Some("\"b\"")).is_ok());
        assert!(matches("*").check(Some("\"b\"")).is_ok());
        assert!(none("*").check(None).is_ok());
        assert!(none("\"a\"").check(Some("\"b\"")).is_ok());
        for (conditions, tag) in [
            (matches("\"a\""), Some("\"b\"")),
            (matches("W/\"a\""), Some("\"a\"")),
            (matches("\"a\""), None),
            (matches("*"), None),
            (none("*"), Some("\"a\"")),
            (none("\"a\""), Some("\"a\"")),
        ] {
            let refused = conditions.check(tag).expect_err("a precondition");
            assert_eq!(refused.why, Why::Precondition);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, "abc".parse().unwrap());
        assert!(Tags::read(&headers, header::IF_MATCH).is_err());
    }

    #[test]
    fn nulls_and_expressions_are_refused_wherever_they_stand() {
        assert!(check_values("route", &object(json!({ "a": [1, { "b": "$x" }] }))).is_ok());
        for value in [
            json!({ "a": null }),
            json!({ "a": [null] }),
            json!({ "a": { "b": "x${HOME}" } }),
            json!({ "a": ["${file:/etc/shadow}"] }),
            (0..40).fold(json!({ "a": 1 }), |inner, _| json!({ "a": [inner] })),
        ] {
            assert!(check_values("route", &object(value)).is_err());
        }
    }

    #[test]
    fn misspelt_parameters_are_named() {
        let query = HashMap::from([("dryrun".to_owned(), "true".to_owned())]);
        let failure = Options::read(&query).expect_err("refused");
        assert!(format!("{failure:?}").contains("did you mean \\\"dry_run\\\"?"), "{failure:?}");
        let query = HashMap::from([("wait".to_owned(), "applied".to_owned())]);
        assert_eq!(Options::read(&query).expect("read").wait, Some(WAIT_DEFAULT));
    }
}
