//! Work on whole configurations, beside the control thread: it may take a while, and what it leaves
//! behind goes with its thread.

use std::{sync::Arc, thread};

use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::{Api, failure::Failure};
use crate::controlplane::config::tree::Tree;

/// Runs `work` on a thread of its own, and gives back the memory it took.
///
/// # Errors
/// That there is no thread to be had, or that `work` has a defect.
pub(super) async fn run<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let place = Arc::clone(&api.trees).acquire_owned().await;
    let (sender, receiver) = oneshot::channel();
    let give_back = api.give_back;
    let thread = thread::Builder::new().name("ringway-admin".into()).spawn(move || {
        let _ = sender.send(work()); // the caller may have left
        give_back();
        drop(place);
    });
    let fail = |message: String, hint: &str| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "", message, hint)
    };
    thread.map_err(|error| fail(format!("no thread: {error}"), "raise `ulimit -u`"))?;
    receiver.await.map_err(|_| fail("a defect of ringway".into(), "please report it"))
}

/// The same with all tables in force.
///
/// # Errors
/// As [`run`].
pub(super) async fn with_tree<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Tree) -> T + Send + 'static,
) -> Result<T, Failure> {
    let (known, overlay) = {
        let rules = api.state.rules();
        (rules.known.clone(), rules.overlay.clone())
    };
    run(api, move || {
        let mut tree = Tree::read(&known.texts);
        tree.add_overlay(&overlay, &known);
        work(&tree)
    })
    .await
}
