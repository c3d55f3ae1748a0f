//! From a call to a change of the rules and back: who owns what, conditions, what became of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    Api,
    call::Options,
    failure::{self, Failure},
};
use crate::{
    controlplane::{
        changes::{Applied, Change, Current, Edit, Effect, Plan, Refused, Why},
        compile,
        config::{
            self, Known,
            overlay::{Kind, Object, Overlay},
            tree::Tree,
        },
        hash::hash,
    },
    telemetry::CoreStats,
};

/// The ETag of a text.
pub(super) fn etag(text: &str) -> String {
    format!("\"{}\"", hash(text.as_bytes()))
}

/// What a change makes of an object.
#[derive(Debug)]
pub(super) enum Become {
    /// It has these keys from now on.
    Keys(Map<String, Value>),
    /// It is gone.
    Gone,
}

/// What a change did, for its answer.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// `created`, `replaced`, `unchanged`, `deleted`.
    pub(super) change: &'static str,
    /// The keys it has now.
    pub(super) keys: Option<Map<String, Value>>,
    /// What the API would have said then: lines of problems refer to it.
    pub(super) overlay: Arc<Overlay>,
}

/// Where an edit leaves what it did: it runs elsewhere, and may run again.
pub(super) type Slot = Arc<Mutex<Option<Outcome>>>;

/// Locks a slot; nothing panics while one is locked.
pub(super) fn lock<T>(slot: &Mutex<Option<T>>) -> MutexGuard<'_, Option<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The edit of one object. `change` sees its keys, if the API has it, and says what becomes of
/// them; it checks the conditions of the call.
pub(super) fn object_edit(
    known: Known,
    kind: Kind,
    name: String,
    slot: Slot,
    change: impl Fn(Option<&Object>) -> Result<Become, Refused> + Send + 'static,
) -> Edit {
    Edit::With(Box::new(move |current| {
        let old = current.overlay.get(kind, &name).filter(|_| !known.is_aside(kind, &name));
        let set_aside = known.is_aside(kind, &name);
        let mut owner = None;
        // In force and not ours: a file's, or ours until an order of the same batch removed it.
        if old.is_none() && (set_aside || is_in_force(current, kind, &name)) {
            owner = place_in_files(&known, kind, &name);
        }
        if let (Some(place), false) = (&owner, set_aside) {
            return Err(owned(place, kind, &name));
        }
        // What steps aside for a file can only be removed.
        let stored = old.or_else(|| current.overlay.get(kind, &name)).map(|object| &**object);
        let (overlay, word, keys) = match change(stored)? {
            Become::Keys(_) if set_aside => {
                return Err(owned(owner.as_deref().unwrap_or("a file"), kind, &name));
            }
            Become::Keys(keys) => {
                let object = Object::new(kind, &name, keys);
                let word = match stored {
                    None => "created",
                    Some(old) if *old == object => "unchanged",
                    Some(_) => "replaced",
                };
                let keys = object.keys();
                (current.overlay.with(object), word, Some(keys))
            }
            Become::Gone => (current.overlay.without(kind, &name), "deleted", None),
        };
        let overlay = Arc::new(overlay);
        let quick = kind == Kind::Upstream && keys.is_some() && stored.is_some();
        let outcome = Outcome { change: word, keys, overlay: Arc::clone(&overlay) };
        *lock(&slot) = Some(outcome);
        let effect = match quick {
            true => {
                let upstream = config::load_upstream(&overlay, &name)?;
                let dns = &current.snapshot.dns;
                Effect::Upstreams(vec![compile::compile_upstream(upstream, dns, current.names)])
            }
            false => Effect::Recompile,
        };
        Ok(Plan { overlay, effect })
    }))
}

/// Whether the rules have it, wherever it comes from.
fn is_in_force(current: &Current<'_>, kind: Kind, name: &str) -> bool {
    let snapshot = current.snapshot;
    match kind {
        Kind::Route => snapshot.routes.iter().any(|route| *route.id == *name),
        Kind::Upstream => snapshot.upstreams.iter().any(|upstream| *upstream.name == *name),
    }
}

/// File and line of a table of the files. Reads them all: for refusals.
fn place_in_files(known: &Known, kind: Kind, name: &str) -> Option<String> {
    let tree = Tree::read(&known.texts);
    let item = tree.items(kind).iter().find(|item| *item.name == *name)?;
    Some(format!("{}:{}", item.file, item.line))
}

fn owned(place: &str, kind: Kind, name: &str) -> Refused {
    Refused::because(
        Why::Conflict,
        kind.name_key(),
        format!("{} \"{name}\" belongs to {place}: files own what they name", kind.word()),
        "change it there, or choose another name",
    )
}

/// No object of this name; for PATCH, DELETE and endpoints.
pub(super) fn not_found(kind: Kind, name: &str) -> Refused {
    Refused::because(
        Why::NotFound,
        kind.name_key(),
        format!("there is no {} \"{name}\"", kind.word()),
        "make it with PUT",
    )
}

/// A change that was accepted, and how far it got.
#[derive(Debug)]
pub(super) struct Done {
    version: u64,
    applied: bool,
    warnings: Vec<Value>,
}

/// Submits an edit and waits as long as the call wants. `asked` is the object it is about.
pub(super) async fn submit(
    api: &Api,
    options: &Options,
    edit: Edit,
    slot: &Slot,
    asked: Option<(Kind, &str)>,
) -> Result<Done, Failure> {
    let change = Change { from: "admin API".into(), edit, dry_run: options.dry_run };
    let result = api.state.changes.submit(change).await;
    let attempt = lock(slot).as_ref().map(|outcome| Arc::clone(&outcome.overlay));
    let overlay = attempt.unwrap_or_else(|| Arc::clone(&api.state.rules().overlay));
    let Applied { version, warnings } =
        result.map_err(|refused| Failure::refused(&refused, &overlay, asked))?;
    let applied = match options.wait {
        Some(longest) if !options.dry_run => wait_for_cores(api, version, longest).await,
        _ => false,
    };
    let warnings = warnings.iter().map(|one| failure::show(one, &overlay, asked)).collect();
    Ok(Done { version, applied, warnings })
}

/// Whether all cores obey a version, or something newer, within a time.
async fn wait_for_cores(api: &Api, version: u64, longest: Duration) -> bool {
    let obeyed = || {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        api.state.cores.iter().all(|core| core.snapshot_version.get() >= version)
    };
    let end = Instant::now() + longest;
    loop {
        let mut acknowledged = std::pin::pin!(api.state.acknowledged.notified());
        acknowledged.as_mut().enable(); // before the look, so that none is missed
        if obeyed() {
            return true;
        }
        if timeout_at(end, acknowledged).await.is_err() {
            return obeyed();
        }
    }
}

impl Done {
    /// The answer: what was done, the version, which core obeys which.
    pub(super) fn answer(self, api: &Api, options: &Options, more: Value) -> Response {
        let mut body = Map::new();
        if let Value::Object(more) = more {
            body.extend(more);
        }
        body.insert("version".into(), self.version.into());
        body.insert("applied".into(), self.applied.into());
        let core = |core: &Arc<CoreStats>| json!({ "id": core.core(), "version": core.snapshot_version.get() });
        body.insert("cores".into(), api.state.cores.iter().map(core).collect());
        body.insert("dry_run".into(), options.dry_run.into());
        body.insert("kept".into(), (api.keeps && !options.dry_run).into());
        if !api.keeps {
            let note = "lasts until the restart: [admin] has no state_dir";
            body.insert("note".into(), note.into());
        }
        body.insert("warnings".into(), self.warnings.into());
        // Accepted, but not seen on all cores in the time that was given.
        let late = options.wait.is_some() && !self.applied && !options.dry_run;
        let status = match body.get("change").and_then(Value::as_str) {
            _ if late => StatusCode::ACCEPTED,
            Some("created") if !options.dry_run => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        let tag = body.get("etag").and_then(Value::as_str).and_then(|tag| tag.parse().ok());
        let mut response = (status, Json(Value::Object(body))).into_response();
        if let Some(tag) = tag {
            let tag: HeaderValue = tag;
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}
