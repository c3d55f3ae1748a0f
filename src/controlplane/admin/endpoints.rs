//! `/v1/upstreams/{name}/endpoints`: endpoints one by one, by `host:port`. Each call is a change of
//! their upstream, and takes the quick way to the cores.

use std::sync::{Arc, Mutex};

use axum::{extract::State as Shared, response::Response};
use serde_json::{Map, Value, json};

use super::{
    Api,
    call::{Body, Conditions, Names, Options, check_values, merge},
    change::{Become, Slot, etag, lock, not_found, object_edit, submit},
    failure::Failure,
    objects::{find, invalid, show},
};
use crate::controlplane::{
    changes::{Refused, Why},
    config::{
        self,
        overlay::{Kind, Object},
    },
};

fn url_of(element: &Value) -> Option<&str> {
    element.as_str().or_else(|| element.get("url")?.as_str())
}

/// The name of an element of `endpoints`.
fn name_of(element: &Value) -> Option<String> {
    config::authority(url_of(element)?)
}

/// The URL of an endpoint that a body gives none of: it is spoken to as before, a new one as all others of its
/// upstream are. Never otherwise: a scheme that is guessed could send in plain text what was meant to be TLS.
fn url_like(endpoint: &str, old: Option<&Value>, others: &[Value]) -> Result<String, Refused> {
    let scheme = |one| url_of(one)?.split_once("://").map(|(scheme, _)| scheme);
    let mut schemes: Vec<&str> = match old {
        Some(old) => scheme(old).into_iter().collect(),
        None => others.iter().filter_map(scheme).collect(),
    };
    schemes.sort_unstable();
    schemes.dedup();
    match schemes[..] {
        [] => Ok(format!("http://{endpoint}")), // its upstream has none but those of DNS
        [scheme] => Ok(format!("{scheme}://{endpoint}")),
        _ => {
            let message = format!("its upstream has {} endpoints", schemes.join(" and "));
            let hint = format!("say which it is: \"url\": \"{}://{endpoint}\"", schemes[0]);
            Err(invalid("upstream.endpoints.url", message, &hint))
        }
    }
}

/// An element of `endpoints` with all its keys.
fn full(element: &Value) -> Map<String, Value> {
    let mut keys = match element {
        Value::Object(keys) => keys.clone(),
        url => Map::from_iter([("url".to_owned(), url.clone())]),
    };
    keys.entry("weight").or_insert(1.into());
    keys.entry("enabled").or_insert(true.into());
    keys
}

fn elements(upstream: &Map<String, Value>) -> Vec<Value> {
    upstream.get("endpoints").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn tag_of(keys: &Map<String, Value>) -> String {
    etag(&Value::Object(keys.clone()).to_string())
}

/// `host:port` of the path in the form in which endpoints are compared.
pub(super) fn parse_name(text: &str) -> Result<String, Failure> {
    let hint = "write /endpoints/127.0.0.1:8081";
    config::authority(&format!("http://{text}"))
        .ok_or_else(|| Failure::bad("endpoint", format!("\"{text}\" is not host:port"), hint))
}

pub(super) fn missing(upstream: &str, endpoint: &str) -> Refused {
    let message = format!("upstream \"{upstream}\" has no endpoint {endpoint}");
    Refused::because(Why::NotFound, "endpoint", message, "add it with PUT")
}

/// `GET /v1/upstreams/{name}/endpoints`
pub(super) async fn list(
    api: Shared<Api>,
    Names(name): Names<String>,
    conditions: Conditions,
) -> Result<Response, Failure> {
    let upstream = find(&api, Kind::Upstream, &name).await?;
    let list: Vec<Value> = elements(&upstream.keys)
        .iter()
        .map(|element| {
            let keys = full(element);
            json!({ "endpoint": name_of(element), "etag": tag_of(&keys), "value": keys })
        })
        .collect();
    Ok(show(&json!({ "endpoints": list }).to_string(), None, &conditions))
}

/// `GET /v1/upstreams/{name}/endpoints/{endpoint}`
pub(super) async fn get(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Failure> {
    let endpoint = parse_name(&endpoint)?;
    let upstream = find(&api, Kind::Upstream, &name).await?;
    let all = elements(&upstream.keys);
    let Some(element) = all.iter().find(|one| name_of(one).as_ref() == Some(&endpoint)) else {
        let overlay = api.state.rules().overlay.clone();
        return Err(Failure::refused(&missing(&name, &endpoint), &overlay, None));
    };
    Ok(show(&Value::Object(full(element)).to_string(), None, &conditions))
}

/// `PUT /v1/upstreams/{name}/endpoints/{endpoint}`: `{"weight": 2, "enabled": true}`, or nothing.
pub(super) async fn put(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    options: Options,
    conditions: Conditions,
    body: Body,
) -> Result<Response, Failure> {
    let endpoint = parse_name(&endpoint)?;
    let keys = body.object()?;
    check_values("upstream.endpoints", &keys)?;
    check_url(&endpoint, &keys)?;
    let title = endpoint.clone();
    let change = move |old: Option<&Value>, all: &[Value]| {
        let mut keys = keys.clone();
        if !keys.contains_key("url") {
            keys.insert("url".into(), url_like(&title, old, all)?.into());
        }
        Ok(Some(keys))
    };
    apply(&api, name, endpoint, &options, conditions, change).await
}

/// `PATCH /v1/upstreams/{name}/endpoints/{endpoint}`: `{"enabled": false}` drains.
pub(super) async fn patch(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    options: Options,
    conditions: Conditions,
    body: Body,
) -> Result<Response, Failure> {
    let endpoint = parse_name(&endpoint)?;
    let patch = body.object()?;
    let mut alone = Map::new();
    merge(&mut alone, &patch);
    check_values("upstream.endpoints", &alone)?;
    check_url(&endpoint, &patch)?;
    let (upstream, title) = (name.clone(), endpoint.clone());
    let change = move |old: Option<&Value>, _: &[Value]| {
        let mut keys = full(old.ok_or_else(|| missing(&upstream, &title))?);
        merge(&mut keys, &patch);
        Ok(Some(keys))
    };
    apply(&api, name, endpoint, &options, conditions, change).await
}

/// `DELETE /v1/upstreams/{name}/endpoints/{endpoint}`
pub(super) async fn delete(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    options: Options,
    conditions: Conditions,
) -> Result<Response, Failure> {
    let endpoint = parse_name(&endpoint)?;
    let (upstream, title) = (name.clone(), endpoint.clone());
    let change = move |old: Option<&Value>, _: &[Value]| match old {
        Some(_) => Ok(None),
        None => Err(missing(&upstream, &title)),
    };
    apply(&api, name, endpoint, &options, conditions, change).await
}

fn check_url(endpoint: &str, keys: &Map<String, Value>) -> Result<(), Failure> {
    match keys.get("url") {
        Some(url) if url.as_str().and_then(config::authority).as_deref() != Some(endpoint) => {
            Err(Failure::bad(
                "upstream.endpoints.url",
                format!("it is {url}, and {endpoint} in the path"),
                "leave it out of the body: the path names the endpoint",
            ))
        }
        _ => Ok(()),
    }
}

/// What a call did to an endpoint.
type Seen = Arc<Mutex<Option<(&'static str, Option<Map<String, Value>>)>>>;

async fn apply(
    api: &Api,
    name: String,
    endpoint: String,
    options: &Options,
    conditions: Conditions,
    change: impl Fn(Option<&Value>, &[Value]) -> Result<Option<Map<String, Value>>, Refused>
    + Send
    + 'static,
) -> Result<Response, Failure> {
    let seen = Seen::default();
    let (note, title) = (Arc::clone(&seen), name.clone());
    let edit_upstream = move |old: Option<&Object>| {
        let mut upstream = old.ok_or_else(|| not_found(Kind::Upstream, &title))?.keys();
        let mut all = elements(&upstream);
        let place = all.iter().position(|one| name_of(one).as_ref() == Some(&endpoint));
        let before = place.map(|place| full(&all[place]));
        conditions.check(before.as_ref().map(tag_of).as_deref())?;
        let after = change(place.map(|place| &all[place]), &all)?;
        let word = match (&before, &after) {
            (None, _) => "created",
            (_, None) => "deleted",
            (Some(before), Some(after)) => {
                let after = full(&Value::Object(after.clone()));
                if *before == after { "unchanged" } else { "replaced" }
            }
        };
        match (place, after.clone()) {
            (Some(place), Some(keys)) => all[place] = Value::Object(keys),
            (None, Some(keys)) => all.push(Value::Object(keys)),
            (Some(_), None) if all.len() == 1 => {
                let hint = "drain it with PATCH {\"enabled\": false}, or delete the upstream";
                return Err(invalid("endpoint", "it is the last one of its upstream", hint));
            }
            (Some(place), None) => {
                all.remove(place);
            }
            (None, None) => {}
        }
        upstream.insert("endpoints".into(), all.into());
        let after = after.map(|keys| full(&Value::Object(keys)));
        *lock(&note) = Some((word, after));
        Ok(Become::Keys(upstream))
    };
    let known = api.state.rules().known.clone();
    let slot = Slot::default();
    let edit = object_edit(known, Kind::Upstream, name.clone(), slot.clone(), edit_upstream);
    let done = submit(api, options, edit, &slot, Some((Kind::Upstream, &name))).await?;
    let mut more = Map::new();
    if let Some((word, keys)) = lock(&seen).take() {
        more.insert("change".into(), word.into());
        if let Some(keys) = keys {
            more.insert("etag".into(), tag_of(&keys).into());
            more.insert("endpoint".into(), Value::Object(keys));
        }
    }
    Ok(done.answer(api, options, Value::Object(more)))
}
