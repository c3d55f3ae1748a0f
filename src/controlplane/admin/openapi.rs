//! The OpenAPI 3.1 document, made from the list of operations and the declarations of the
//! configuration's keys. Its tests and `tests/blackbox/admin.rs` hold it to what is served.

use axum::Json;
use serde_json::{Map, Value, json};

use super::operations::{Gives, OPERATIONS, Operation, Takes};
use crate::controlplane::{config::schema, rollout::State};

/// `GET /v1/openapi.json`
pub(super) async fn show() -> Json<Value> {
    Json(document())
}

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in &OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| Value::Object(Map::new()));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.into(), describe(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ringway admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Shows and changes what a running ringway does. See docs/admin-api.md.",
        },
        "servers": [{ "url": "http://127.0.0.1:9180" }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn describe(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = path_parameters(operation.path);
    let mut query = |name: &str, schema: Value, doc: &str| {
        parameters.push(json!({
            "name": name, "in": "query", "schema": schema, "description": doc,
        }));
    };
    let text = || json!({ "type": "string" });
    let duration = || json!({ "type": "string", "pattern": schema::DURATION });
    match operation.takes {
        Takes::Page => {
            query(
                "limit",
                json!({ "type": "integer", "minimum": 1 }),
                "Most objects in the answer.",
            );
            query("after", text(), "The name behind which the page begins.");
        }
        Takes::Change | Takes::Object(_) | Takes::Patch(_) | Takes::Whole => {
            query("dry_run", json!({ "type": "boolean" }), "Only check.");
            query(
                "wait",
                json!({ "enum": ["accepted", "applied"] }),
                "\"applied\" answers when all cores obey.",
            );
            query("timeout", duration(), "Longest wait, \"5s\" by default; then 202.");
        }
        Takes::Asks => {
            query("method", text(), "The method.");
            query("url", text(), "The URL.");
            query("header", json!({ "type": "array", "items": text() }), "`name: value`.");
            query("listener", text(), "The listener.");
        }
        Takes::Beat => query(
            "ttl",
            duration(),
            "How long it counts; as long as `upstream.heartbeat.ttl` says without it.",
        ),
        Takes::Nothing | Takes::Read | Takes::Question | Takes::Health | Takes::Order => {}
    }
    let mut header = |name: &str, doc: &str| {
        parameters.push(json!({
            "name": name, "in": "header", "schema": text(), "description": doc,
        }));
    };
    match operation.takes {
        Takes::Read => header("If-None-Match", "The ETag that is known; then 304."),
        Takes::Change | Takes::Object(_) | Takes::Patch(_) | Takes::Whole => {
            header("If-Match", "The ETag of what is to be changed; else 412.");
            header("If-None-Match", "`*`: only if it is not there yet; else 412.");
        }
        _ => {}
    }
    let mut out = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "parameters": parameters,
        "responses": responses(operation),
        "security": if operation.open { json!([]) } else { json!([{ "token": [] }, {}]) },
    });
    if let (Some(body), Some(fields)) = (request_body(operation.takes), out.as_object_mut()) {
        fields.insert("requestBody".into(), body);
    }
    out
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = json!({ "type": "string" });
    let address = json!({ "type": "string", "pattern": "^.+:[0-9]+$" });
    let about = |name| match name {
        "endpoint" => (&address, "`host:port`."),
        _ => (&text, "Percent-encoded where it has other than letters, digits, `-`, `.`, `_`."),
    };
    names
        .map(|name| {
            let (schema, doc) = about(name);
            json!({
                "name": name, "in": "path", "required": true,
                "schema": schema, "description": doc,
            })
        })
        .collect()
}

/// `putV1RoutesId`.
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    let mut id = operation.method.to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        id += &first.to_ascii_uppercase();
        id += rest;
    }
    id
}

fn request_body(takes: Takes) -> Option<Value> {
    let json = |schema: Value| json!({ "application/json": { "schema": schema } });
    let content = match takes {
        Takes::Object(name) => json(reference(&format!("{name}Body"))),
        Takes::Patch(name) => {
            let doc = format!("Some keys of {name}; null removes one.");
            let partial = json!({ "schema": { "type": "object", "description": doc } });
            json!({ "application/json": partial, "application/merge-patch+json": partial })
        }
        Takes::Whole => json!({
            "application/json": { "schema": reference("Configuration") },
            "application/toml": { "schema": { "type": "string" } },
        }),
        Takes::Question => json(reference("Question")),
        Takes::Order => json(json!({ "type": "object", "maxProperties": 0 })),
        Takes::Health => json(reference("HealthBody")),
        _ => return None,
    };
    Some(json!({ "required": true, "content": content }))
}

fn responses(operation: &Operation) -> Value {
    let success = match operation.gives {
        Gives::Text => json!({
            "description": "Done.", "content": { "text/plain": { "schema": { "type": "string" } } },
        }),
        Gives::Json(name) => json!({
            "description": "Done.",
            "content": { "application/json": { "schema": reference(name) } },
        }),
    };
    let mut all = Map::from_iter([("200".to_owned(), success.clone())]);
    let is_change = operation.gives == Gives::Json("Changed");
    if is_change {
        all.insert("202".into(), success.clone());
    }
    if operation.method == "put" && is_change {
        all.insert("201".into(), success);
    }
    let mut conditional = &[][..];
    if operation.takes == Takes::Read {
        all.insert("304".into(), json!({ "description": "It is as it was." }));
        conditional = &[400];
    }
    let guarded = if operation.open { &[][..] } else { &[401, 403] };
    for status in operation.refusals.iter().chain(conditional).chain(guarded) {
        let content = match operation.gives {
            Gives::Text if operation.open => json!({ "text/plain": {} }),
            _ => json!({ "application/json": { "schema": reference("Refusal") } }),
        };
        let refusal = json!({ "description": meaning(*status), "content": content });
        all.insert(status.to_string(), refusal);
    }
    Value::Object(all)
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "It would not be valid; all mistakes are listed.",
        401 => "The token is missing or wrong.",
        403 => "Without a token only this machine may call.",
        404 => "There is no such object.",
        409 => "A file owns it, or others need it.",
        412 => "It is not in the state that If-Match or If-None-Match asks for.",
        413 => "The body is too long.",
        415 => "The Content-Type is not taken here.",
        429 => "Too many changes wait.",
        503 => "The process is not ready, or is ending.",
        507 => "The machine does not allow it: the state can't be saved, a port is busy.",
        _ => "Refused.",
    }
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in schema::objects() {
        let mut body = schema.clone();
        // The path names the object, its body need not.
        if let Some(required) = body["required"].as_array_mut() {
            required.retain(|key| key != "name" && key != "url");
        }
        all.insert(format!("{name}Body"), body);
        all.insert(name.to_owned(), schema);
    }
    let mut add = |name: &str, schema: Value| {
        all.insert(name.to_owned(), schema);
    };
    add("Configuration", schema::schema());
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let core = json!({ "type": "object", "properties": { "id": number(), "version": number() } });
    add("Any", json!({ "type": "object" }));
    add(
        "Status",
        json!({
            "type": "object",
            "properties": { "version": number(), "cores": list(core.clone()), "sources": list(json!({})) },
        }),
    );
    add(
        "Problem",
        json!({
            "type": "object",
            "required": ["file", "key", "message", "hint", "severity"],
            "properties": {
                "file": text(), "line": number(), "column": number(), "key": text(),
                "message": text(), "hint": text(), "severity": { "enum": ["error", "warning"] },
            },
        }),
    );
    add(
        "Refusal",
        json!({
            "type": "object",
            "required": ["error", "hint"],
            "properties": {
                "error": text(), "hint": text(), "problems": list(reference("Problem")),
            },
        }),
    );
    add(
        "Changed",
        json!({
            "type": "object",
            "required": ["version", "applied", "cores", "dry_run", "kept", "warnings"],
            "properties": {
                "change": { "enum": ["created", "replaced", "unchanged", "deleted"] },
                "etag": text(), "version": number(), "applied": { "type": "boolean" },
                "cores": list(core), "dry_run": { "type": "boolean" },
                "kept": { "type": "boolean", "description": "Whether it survives a restart." },
                "note": text(), "warnings": list(reference("Problem")),
                "route": reference("Route"), "upstream": reference("Upstream"),
                "endpoint": reference("Endpoint"), "told": list(text()), "changes": list(json!({})),
            },
        }),
    );
    let health = || json!({ "enum": ["up", "down", "draining"] });
    add(
        "HealthBody",
        json!({
            "type": "object",
            "required": ["health"],
            "additionalProperties": false,
            "properties": { "health": health() },
        }),
    );
    add(
        "Health",
        json!({
            "type": "object",
            "required": ["upstream", "endpoint", "health", "by_hand"],
            "properties": {
                "upstream": text(), "endpoint": text(), "health": health(), "by_hand": health(),
                "kept": { "type": "boolean", "description": "Whether it survives a restart." },
            },
        }),
    );
    let or_null = || json!({ "type": ["string", "null"] });
    add(
        "Question",
        json!({
            "type": "object",
            "required": ["method", "url"],
            "additionalProperties": false,
            "properties": {
                "method": text(), "url": text(), "headers": list(text()), "listener": or_null(),
            },
        }),
    );
    add(
        "Explained",
        json!({
            "type": "object",
            "properties": {
                "route": or_null(), "status": number(), "target": or_null(), "upstream": or_null(),
                "candidates": list(json!({
                    "type": "object", "properties": { "route": text(), "failed": or_null() },
                })),
                "version": number(), "text": text(),
            },
        }),
    );
    for (name, one, key) in [("Routes", "Route", "route"), ("Upstreams", "Upstream", "upstream")] {
        let item = json!({
            "type": "object",
            "properties": {
                "id": text(), "name": text(), "owner": text(), "etag": text(), key: reference(one),
            },
        });
        add(
            name,
            json!({
                "type": "object",
                "properties": {
                    format!("{key}s"): list(item), "total": number(), "next": or_null(),
                },
            }),
        );
    }
    add("UpstreamStatus", upstream_status());
    add("Rollout", rollout());
    add(
        "Rollouts",
        json!({ "type": "object", "properties": { "rollouts": list(reference("Rollout")) } }),
    );
    add(
        "Endpoints",
        json!({
            "type": "object",
            "properties": { "endpoints": list(json!({
                "type": "object",
                "properties": { "endpoint": text(), "etag": text(), "value": reference("Endpoint") },
            })) },
        }),
    );
    Value::Object(all)
}

/// `controlplane::rollout::Shown`.
fn rollout() -> Value {
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let fared = json!({
        "type": "object",
        "properties": {
            "requests": number, "errors": number, "p99_us": { "type": ["integer", "null"] },
        },
    });
    json!({
        "type": "object",
        "properties": {
            "name": text, "route": text, "from": text, "to": text,
            "state": { "enum": State::ALL.map(State::word) },
            "stage": number, "stages": number, "share": { "type": "number" }, "why": text,
            "since": { "type": "number", "description": "Seconds since 1970." },
            "old": fared, "new": fared, "promoted": number, "rolled_back": number,
        },
    })
}

/// `controlplane::standing::Shown`, and what holds for all of them.
fn upstream_status() -> Value {
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let breaker = json!({ "enum": ["closed", "open", "half_open", null] });
    let word = json!({
        "enum": [
            "disabled", "no_address", "ejected", "breaker", "health_check", "heartbeat", "hand",
        ],
    });
    let endpoint = json!({
        "type": "object",
        "properties": {
            "endpoint": text, "address": { "type": ["string", "null"] },
            "state": { "enum": ["up", "down", "draining", "ejected", "disabled"] },
            "kept_by": {
                "type": "array", "items": word,
                "description": "Everybody who keeps requests from it.",
            },
            "ejected_for_ms": { "type": ["integer", "null"] }, "ejections": number,
            "breaker": breaker, "in_flight": number, "requests": number, "errors": number,
            "retries": number,
        },
    });
    json!({
        "type": "object",
        "properties": {
            "upstream": text, "breaker": breaker,
            "overload": {
                "type": ["object", "null"],
                "properties": {
                    "in_flight": number, "pending": number, "limit": number,
                    "connections": { "type": ["integer", "null"] },
                },
            },
            "endpoints": { "type": "array", "items": endpoint },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// All `$ref`s of a document.
    fn references(value: &Value, found: &mut HashSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(elements) => elements.iter().for_each(|one| references(one, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = HashSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let place = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(place).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_is_there_once_with_an_id_of_its_own() {
        let document = document();
        let mut ids = HashSet::new();
        for operation in &OPERATIONS {
            let described = &document["paths"][operation.path][operation.method];
            assert_eq!(described["summary"], operation.summary);
            let id = described["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id), "{} {}", operation.method, operation.path);
        }
        assert_eq!(document["paths"]["/v1/routes/{id}"]["put"]["operationId"], "putV1RoutesId");
    }
}
