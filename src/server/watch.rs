//! Submits a change whenever the files of the source change.

use std::path::PathBuf;

use tokio::time::timeout;

use crate::{
    base::limits,
    controlplane::{
        certificates::files,
        changes::{Change, Changes, Edit},
        log,
        source::{Stamp, Watch},
    },
    server::rules::Source,
};

/// Watches in a task of the control thread. `seen` is what the files looked like when they were read.
/// Without a watch SIGHUP still works, so that is a warning.
pub(super) fn start(source: &Source, mut seen: Option<Stamp>, changes: &Changes) {
    let Source::Path(path) = source else { return };
    let mut watch = match Watch::start(path) {
        Ok(watch) => watch,
        Err(error) => {
            let name = path.display();
            log::warn(format_args!("{name} is not watched: {error}; SIGHUP reads it again"));
            return;
        }
    };
    let (path, changes) = (path.clone(), changes.clone());
    tokio::spawn(async move {
        loop {
            // Most events are of other files of the directory. The first look is for what changed
            // before the watch began.
            let now = Some(Stamp::of(&path).and(files::as_they_are()));
            if now != seen && changes.post(reread()) {
                seen = now;
            }
            // Which files a configuration names is known when it has been read.
            while timeout(limits::WATCH_NAMED, watch.changed()).await.is_err() {
                let named: Vec<PathBuf> =
                    files::as_read().into_iter().map(|(path, _)| path).collect();
                if watch.also(named) {
                    break;
                }
            }
        }
    });
}

fn reread() -> Change {
    Change { from: "file watch".into(), edit: Edit::RereadIfChanged, dry_run: false }
}
