//! `/v1/routes` and `/v1/upstreams`: objects one by one. Each call is the same for both kinds.

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete as delete_by, get as get_by, patch as patch_by, put as put_by},
};
use serde_json::{Map, Value, json};

use super::{
    Api, aside,
    call::{Body, Conditions, Names, Options, check_values, merge},
    change::{Become, Slot, etag, lock, not_found, object_edit, submit},
    failure::Failure,
};
use crate::controlplane::{
    changes::{Refused, Why},
    config::{
        overlay::{Kind, Object},
        tree::{Item, Tree},
    },
};

/// Tells a reader who owns an object.
const OWNER: HeaderName = HeaderName::from_static("ringway-owner");

/// `file ringway.toml:12`, or `api`.
fn owner(item: &Item) -> String {
    match &*item.file {
        "" => "api".to_owned(),
        file => format!("file {file}:{}", item.line),
    }
}

/// `GET /v1/routes`, `GET /v1/upstreams`
pub(super) fn list(kind: Kind) -> MethodRouter<Api> {
    get_by(move |api: Shared<Api>, options: Options| async move {
        let (limit, after) = (options.limit, options.after);
        let text = aside::with_tree(&api, move |tree| page(tree.items(kind), kind, limit, after));
        let text = text.await??;
        Ok::<_, Failure>(([(header::CONTENT_TYPE, "application/json")], text))
    })
}

/// One page of a list, as JSON.
fn page(
    items: &[Item],
    kind: Kind,
    limit: usize,
    after: Option<String>,
) -> Result<String, Failure> {
    let start = match &after {
        None => 0,
        Some(after) => match items.iter().position(|item| *item.name == **after) {
            Some(place) => place + 1,
            None => {
                let message = format!("there is no {} \"{after}\"", kind.word());
                return Err(Failure::bad("after", message, "begin again without it"));
            }
        },
    };
    let page = &items[start..items.len().min(start + limit)];
    let one = |item: &Item| {
        json!({
            kind.name_key(): item.name,
            "owner": owner(item),
            "etag": etag(&Value::Object(item.keys.clone()).to_string()),
            kind.word(): item.keys,
        })
    };
    let more = start + page.len() < items.len();
    let answer = json!({
        format!("{}s", kind.word()): page.iter().map(one).collect::<Vec<_>>(),
        "total": items.len(),
        "next": page.last().filter(|_| more).map(|last| &last.name),
    });
    Ok(format!("{answer}\n"))
}

/// `GET /v1/routes/{id}`, `GET /v1/upstreams/{name}`
pub(super) fn get(kind: Kind) -> MethodRouter<Api> {
    get_by(move |api: Shared<Api>, Names(name): Names<String>, conditions: Conditions| async move {
        let item = find(&api, kind, &name).await?;
        let text = Value::Object(item.keys.clone()).to_string();
        Ok::<_, Failure>(show(&text, Some(&owner(&item)), &conditions))
    })
}

/// An object in force. Those of the API are at hand; for others the files are read.
pub(super) async fn find(api: &Api, kind: Kind, name: &str) -> Result<Item, Failure> {
    let own = {
        let rules = api.state.rules();
        let aside = rules.known.is_aside(kind, name);
        rules.overlay.get(kind, name).filter(|_| !aside).cloned()
    };
    if let Some(object) = own {
        let (name, keys) = (object.name.clone(), object.keys());
        return Ok(Item { name, file: "".into(), line: 0, keys });
    }
    let title = name.to_owned();
    let find =
        move |tree: &Tree| tree.items(kind).iter().find(|item| *item.name == *title).cloned();
    let found = aside::with_tree(api, find).await?;
    found.ok_or_else(|| {
        let overlay = api.state.rules().overlay.clone();
        Failure::refused(&not_found(kind, name), &overlay, None)
    })
}

/// JSON with its ETag, or a 304.
pub(super) fn show(text: &str, owner: Option<&str>, conditions: &Conditions) -> Response {
    let tag = etag(text);
    let known = conditions.is_known(&tag);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => {
            ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
        }
    };
    let headers = response.headers_mut();
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(header::ETAG, &tag);
    insert(header::CACHE_CONTROL, "no-cache");
    if let Some(owner) = owner {
        insert(OWNER, owner);
    }
    response
}

/// `PUT /v1/routes/{id}`, `PUT /v1/upstreams/{name}`
pub(super) fn put(kind: Kind) -> MethodRouter<Api> {
    put_by(
        move |api: Shared<Api>,
              Names(name): Names<String>,
              options: Options,
              conditions: Conditions,
              body: Body| async move {
            let keys = body.object()?;
            check_values(kind.word(), &keys)?;
            check_name(kind.name_key(), kind.word(), &name, &keys)?;
            let change = move |old: Option<&Object>| {
                conditions.check(old.map(|old| etag(old.json())).as_deref())?;
                Ok(Become::Keys(keys.clone()))
            };
            apply(&api, kind, name, &options, change).await
        },
    )
}

/// A name in the body that is not that of the path is a slip somewhere.
pub(super) fn check_name(
    key: &str,
    section: &str,
    name: &str,
    keys: &Map<String, Value>,
) -> Result<(), Failure> {
    match keys.get(key) {
        Some(given) if given.as_str() != Some(name) => Err(Failure::bad(
            &format!("{section}.{key}"),
            format!("it is {given}, and \"{name}\" in the path"),
            "leave it out of the body: the path names the object",
        )),
        _ => Ok(()),
    }
}

/// `PATCH /v1/routes/{id}`, `PATCH /v1/upstreams/{name}`
pub(super) fn patch(kind: Kind) -> MethodRouter<Api> {
    patch_by(
        move |api: Shared<Api>,
              Names(name): Names<String>,
              options: Options,
              conditions: Conditions,
              body: Body| async move {
            let patch = body.object()?;
            let mut alone = Map::new();
            merge(&mut alone, &patch); // without the nulls that remove keys
            check_values(kind.word(), &alone)?;
            check_name(kind.name_key(), kind.word(), &name, &patch)?;
            let title = name.clone();
            let change = move |old: Option<&Object>| {
                conditions.check(old.map(|old| etag(old.json())).as_deref())?;
                let mut keys = old.ok_or_else(|| not_found(kind, &title))?.keys();
                merge(&mut keys, &patch);
                Ok(Become::Keys(keys))
            };
            apply(&api, kind, name, &options, change).await
        },
    )
}

/// `DELETE /v1/routes/{id}`, `DELETE /v1/upstreams/{name}`
pub(super) fn delete(kind: Kind) -> MethodRouter<Api> {
    delete_by(
        move |api: Shared<Api>,
              Names(name): Names<String>,
              options: Options,
              conditions: Conditions| async move {
            let title = name.clone();
            let change = move |old: Option<&Object>| {
                conditions.check(old.map(|old| etag(old.json())).as_deref())?;
                old.map(|_| Become::Gone).ok_or_else(|| not_found(kind, &title))
            };
            // What makes the rest invalid is in use: that is no fault of the call's form.
            let (from, to) = (StatusCode::BAD_REQUEST, StatusCode::CONFLICT);
            let done = apply(&api, kind, name, &options, change).await;
            done.map_err(|failure| failure.with_status(from, to))
        },
    )
}

/// Changes one object and answers.
pub(super) async fn apply(
    api: &Api,
    kind: Kind,
    name: String,
    options: &Options,
    change: impl Fn(Option<&Object>) -> Result<Become, Refused> + Send + 'static,
) -> Result<Response, Failure> {
    let known = api.state.rules().known.clone();
    let slot = Slot::default();
    let edit = object_edit(known, kind, name.clone(), slot.clone(), change);
    let done = submit(api, options, edit, &slot, Some((kind, &name))).await?;
    let outcome = lock(&slot).take();
    let more = outcome.map_or(Value::Null, |outcome| {
        let mut more = Map::from_iter([("change".to_owned(), outcome.change.into())]);
        if let Some(keys) = outcome.keys {
            let text = Value::Object(keys);
            more.insert("etag".into(), etag(&text.to_string()).into());
            more.insert(kind.word().into(), text);
        }
        Value::Object(more)
    });
    Ok(done.answer(api, options, more))
}

/// A refusal that blames the call.
pub(super) fn invalid(key: &str, message: impl Into<Box<str>>, hint: &str) -> Refused {
    Refused::because(Why::Invalid, key, message, hint)
}
