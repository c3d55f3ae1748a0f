//! `route.cors`.

use super::{table::Table, value::Value};
use crate::{
    policy::cors::{Cors, OriginPattern},
    proto::bytes::is_token,
};

/// What scripts have to read of an answer in gRPC-Web.
const GRPC_FIELDS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Reads the table; what is wrong has been reported. `grpc_web`: of a route with that.
pub(super) fn read(table: &Table<'_>, grpc_web: bool) -> Option<Cors> {
    let list = table.require("origins");
    let allow_headers = names(table, "allow_headers");
    let mut expose_headers = names(table, "expose_headers").unwrap_or_default();
    if grpc_web {
        let missing = GRPC_FIELDS
            .iter()
            .filter(|name| !expose_headers.iter().any(|known| known.eq_ignore_ascii_case(name)));
        let missing: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
        expose_headers.extend(missing);
    }
    let credentials = table.boolean("credentials");
    let max_age = table.duration_opt("max_age").map(|length| length.as_secs());
    let list = list?;
    if list.elements_len() == Some(0) {
        list.error("an empty list allows nobody", "name an origin, or remove cors");
        return None;
    }
    // All of them are looked at, whatever is wrong with one.
    let origins: Vec<_> =
        list.texts().iter().map(|(text, value)| origin(text, value, credentials)).collect();
    let join = |names: Vec<String>| names.join(", ").into_bytes().into_boxed_slice();
    Some(Cors {
        origins: origins.into_iter().collect::<Option<_>>()?,
        allow_headers: allow_headers.map(join),
        expose_headers: join(expose_headers),
        credentials,
        max_age,
    })
}

fn origin(text: &str, value: &Value<'_>, credentials: bool) -> Option<OriginPattern> {
    match OriginPattern::parse(text) {
        Some(OriginPattern::Any) if credentials => {
            value.error(
                "everybody, with the cookies of whoever asks",
                "name the origins, or remove credentials",
            );
            None
        }
        Some(pattern) => Some(pattern),
        None => {
            value.error(
                format!("\"{}\" is not an origin", value.shown(text)),
                "write a scheme and a host, such as \"https://app.example.com\"",
            );
            None
        }
    }
}

/// Names of header fields.
fn names(table: &Table<'_>, key: &str) -> Option<Vec<String>> {
    let list = table.get(key)?;
    let texts = list.texts();
    for (text, value) in texts.iter().filter(|(text, _)| !is_token(text.as_bytes())) {
        let message = format!("\"{}\" can't be the name of a header field", value.shown(text));
        value.error(message, "write a name such as \"authorization\"");
    }
    Some(texts.into_iter().map(|(text, _)| text.into_owned()).collect())
}
