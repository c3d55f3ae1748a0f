//! Submits a change whenever the files of the source change.

use crate::{
    controlplane::{
        changes::{Change, Changes, Edit, Wait},
        log,
        source::Watch,
    },
    server::rules::Source,
};

/// Watches in a task of the control thread. Without a watch SIGHUP still works, so that is a warning.
pub(super) fn start(source: &Source, changes: &Changes) {
    let Source::Path(path) = source else { return };
    let mut watch = match Watch::start(path) {
        Ok(watch) => watch,
        Err(error) => {
            let name = path.display();
            log::warn(format_args!("{name} is not watched: {error}; SIGHUP reads it again"));
            return;
        }
    };
    let changes = changes.clone();
    tokio::spawn(async move {
        loop {
            watch.changed().await;
            changes.post(Change {
                from: "file watch".into(),
                edit: Edit::RereadIfChanged,
                dry_run: false,
                wait: Wait::Accepted,
            });
        }
    });
}
