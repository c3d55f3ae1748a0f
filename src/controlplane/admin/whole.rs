//! `/v1/config`: the configuration in force as a whole, and replacing what the API holds of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    Api, aside,
    call::{Body, Conditions, Media, Options, check_values, not_json},
    change::{Outcome, Slot, etag, lock, submit},
    failure::{self, Failure, REQUEST},
    json,
    objects::show,
};
use crate::controlplane::{
    changes::{Edit, Effect, Plan},
    config::{
        self,
        canonical::{self, meaning},
        overlay::{Kind, Object, Overlay},
        tree::{Item, MASK, Tree},
    },
    diff,
};

/// `GET /v1/config`
pub(super) async fn get(api: Shared<Api>, conditions: Conditions) -> Result<Response, Failure> {
    let text = aside::with_tree(&api, |tree| tree.to_json().to_string()).await?;
    Ok(show(&text, None, &conditions))
}

/// `POST /v1/config`
pub(super) async fn post(
    api: Shared<Api>,
    options: Options,
    conditions: Conditions,
    body: Body,
) -> Result<Response, Failure> {
    let text = body.text()?.to_owned();
    let media = body.media;
    let (known, overlay) = {
        let rules = api.state.rules();
        (rules.known.clone(), Arc::clone(&rules.overlay))
    };
    // Takes as long as the configuration is long.
    let read = move || -> Result<Wanted, Failure> {
        let files = Tree::read(&known.texts);
        let mut before = files.clone();
        before.add_overlay(&overlay, &known);
        let asked = read_body(media, &text, &overlay)?;
        let objects = beside_files(&files, &asked)?;
        let after = overlay.replaced(objects.into_iter().map(Arc::new));
        let mut now = files;
        now.add_overlay(&after, &known);
        let changes = diff::diff(&before, &now);
        Ok(Wanted {
            before: etag(&before.to_json().to_string()),
            changes,
            after: Arc::new(after),
            overlay,
        })
    };
    let wanted = aside::run(&api, read).await??;
    let slot = Slot::default();
    let note = Arc::clone(&slot);
    let Wanted { before, changes, after, overlay } = wanted;
    let edit = Edit::With(Box::new(move |current| {
        // Another writer was faster: what was compared is no longer in force.
        let tag = if *current.overlay == overlay { before.clone() } else { etag("") };
        conditions.check(Some(&tag))?;
        let outcome = Outcome { change: "replaced", keys: None, overlay: Arc::clone(&after) };
        *lock(&note) = Some(outcome);
        Ok(Plan { overlay: Arc::clone(&after), effect: Effect::Recompile })
    }));
    let done = submit(&api, &options, edit, &slot, None).await?;
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let word = if changes.is_empty() { "unchanged" } else { "replaced" };
    Ok(done.answer(&api, &options, json!({ "change": word, "told": told, "changes": changes })))
}

/// What a call asks for.
struct Wanted {
    /// The ETag of what was in force.
    before: String,
    /// What differs.
    changes: Vec<diff::Change>,
    /// What the API says then.
    after: Arc<Overlay>,
    /// What it said when this was found out.
    overlay: Arc<Overlay>,
}

/// The tables of a body that is a valid configuration by itself.
fn read_body(media: Media, text: &str, overlay: &Overlay) -> Result<Tree, Failure> {
    let toml = match media {
        Media::Toml => text.to_owned(),
        Media::Json => match json::parse(text.as_bytes()) {
            Ok(Value::Object(sections)) => config::overlay::to_toml(&sections),
            Ok(_) => return Err(Failure::bad("", "not an object", "send {\"route\": [...], ...}")),
            Err(error) => return Err(not_json(&error)),
        },
    };
    let loaded = config::load_str(REQUEST, &toml);
    let loaded = loaded.map_err(|errors| {
        let problem = |problem| {
            let mut problem = failure::show(problem, overlay, None);
            if let (Media::Json, Some(fields)) = (media, problem.as_object_mut()) {
                // Places in a text that nobody wrote.
                fields.remove("line");
                fields.remove("column");
            }
            problem
        };
        Failure::of(StatusCode::BAD_REQUEST, errors.0.iter().map(problem).collect())
    })?;
    Ok(Tree::read(&loaded.known.texts))
}

/// The objects of a body that no file has. What a file has must be the same in the body, or left
/// out of it.
fn beside_files(files: &Tree, asked: &Tree) -> Result<Vec<Object>, Failure> {
    let mut conflicts = Vec::new();
    let mut conflict = |title: String, place: String| {
        conflicts.push(json!({
            "file": REQUEST,
            "key": title,
            "message": format!("{title} is not as in {place}: files own what they name"),
            "hint": "change it in the file, or leave it out here",
            "severity": "error",
        }));
    };
    for section in canonical::sections() {
        let keys = |tree: &Tree| tree.sections.get(section).and_then(Value::as_object).cloned();
        let Some(given) = keys(asked) else { continue };
        let (mut given, mut own) =
            (meaning(section, &given), meaning(section, &keys(files).unwrap_or_default()));
        if given.get("token").and_then(Value::as_str) == Some(MASK) {
            given.remove("token"); // as callers read it
            own.remove("token");
        }
        if given != own {
            conflict(format!("[{section}]"), "the files".to_owned());
        }
    }
    let place = |item: &Item| format!("{}:{}", item.file, item.line);
    // What only files can have.
    let lists = [
        ("listener", &asked.listeners, &files.listeners),
        ("rollout", &asked.rollouts, &files.rollouts),
    ];
    for (section, asked, files) in lists {
        for item in asked {
            let own = files.iter().find(|own| own.name == item.name);
            if own.is_none_or(|own| !is_same(section, own, item)) {
                let place = own.map_or("the files".to_owned(), &place);
                conflict(format!("{section} \"{}\"", item.name), place);
            }
        }
    }
    let mut objects = Vec::new();
    for kind in [Kind::Upstream, Kind::Route] {
        let own = Own::of(kind, files.items(kind));
        for item in asked.items(kind) {
            match own.find(item) {
                Found::Same => {}
                Found::Other(own) => {
                    conflict(format!("{} \"{}\"", kind.word(), item.name), place(own));
                }
                Found::Nothing if item.name.starts_with('#') => {
                    let hint = "add id = \"...\": what the API holds has a name";
                    return Err(Failure::bad("route.id", "a route without an id", hint));
                }
                Found::Nothing => {
                    check_values(kind.word(), &item.keys)?;
                    objects.push(Object::new(kind, &item.name, item.keys.clone()));
                }
            }
        }
    }
    match conflicts.is_empty() {
        true => Ok(objects),
        false => Err(Failure::of(StatusCode::CONFLICT, conflicts)),
    }
}

fn is_same(section: &str, one: &Item, other: &Item) -> bool {
    meaning(section, &one.keys) == meaning(section, &other.keys)
}

/// What the files have of one kind, by name; routes without an id by what they mean.
struct Own<'a> {
    kind: Kind,
    by_name: HashMap<&'a str, &'a Item>,
    unnamed: HashSet<String>,
}

/// What the files say to a table of the body.
enum Found<'a> {
    Same,
    Other(&'a Item),
    Nothing,
}

impl<'a> Own<'a> {
    fn of(kind: Kind, items: &'a [Item]) -> Self {
        let (unnamed, named): (Vec<_>, Vec<_>) =
            items.iter().partition(|item| item.name.starts_with('#'));
        Self {
            kind,
            by_name: named.into_iter().map(|item| (&*item.name, item)).collect(),
            unnamed: unnamed.into_iter().map(|item| meaning_text(kind.word(), item)).collect(),
        }
    }

    fn find(&self, item: &Item) -> Found<'a> {
        match self.by_name.get(&*item.name) {
            Some(own) if is_same(self.kind.word(), own, item) => Found::Same,
            Some(own) => Found::Other(own),
            None if self.unnamed.is_empty() || !item.name.starts_with('#') => Found::Nothing,
            None if self.unnamed.contains(&meaning_text(self.kind.word(), item)) => Found::Same,
            None => Found::Nothing,
        }
    }
}

fn meaning_text(section: &str, item: &Item) -> String {
    json!(meaning(section, &item.keys)).to_string()
}
