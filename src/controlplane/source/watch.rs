//! Notices that the files of a configuration change, by inotify.
//!
//! Watched are directories, not files: editors and `kubectl` replace files by renaming others over
//! them, and a watch on the old file would hear no more of it. On the way to the file every directory
//! that a symlink leads through is watched too (a ConfigMap's file is a link to `..data/`, which is a
//! link to a directory that is replaced).
//!
//! A rename is whole: it is told at once. A write may be half of one: it is told when nothing has moved
//! for [`WATCH_QUIET`], or, while it never is quiet, every [`WATCH_LATE`]. Whether anything really
//! changed is for the reader to find out ([`super::Stamp`]): many events mean nothing.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::base::limits::{WATCH_EVENTS_MAX, WATCH_LATE, WATCH_QUIET, WATCH_RENAME_QUIET};

/// Symlinks that may lie behind one another on the way to a file, as for the kernel.
const LINKS_MAX: usize = 40;

/// How a change looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Something was renamed into place.
    Whole,
    /// Something was written, perhaps not to its end.
    Partial,
}

/// Watches the files of one configuration.
pub struct Watch {
    path: PathBuf,
    /// Other files that the configuration names.
    named: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    events: mpsc::Receiver<Kind>,
    directories: BTreeSet<PathBuf>,
    /// What was heard last and is not told yet, and when it is told at the latest.
    heard: Option<(Kind, Instant)>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("directories", &self.directories).finish_non_exhaustive()
    }
}

/// Why files cannot be watched.
#[derive(Debug)]
pub struct WatchError(notify::Error);

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.0.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "; raise `sysctl fs.inotify.max_user_watches` and `fs.inotify.max_user_instances`"
            }
            _ => "",
        };
        write!(f, "{}{hint}", self.0)
    }
}

impl Watch {
    /// Watches a file, or the files of a directory.
    ///
    /// # Errors
    /// When inotify is exhausted or the directory cannot be read.
    pub fn start(path: &Path) -> Result<Self, WatchError> {
        let (sender, events) = mpsc::channel(WATCH_EVENTS_MAX);
        let heard = move |event: notify::Result<Event>| {
            if let Some(kind) = event.map_or(Some(Kind::Partial), |event| kind(&event)) {
                // Full: what waits there says the same.
                let _ = sender.try_send(kind);
            }
        };
        let watcher = notify::recommended_watcher(heard).map_err(WatchError)?;
        let directories = BTreeSet::new();
        let (path, named) = (path.to_owned(), Vec::new());
        let mut watch = Self { path, named, watcher, events, directories, heard: None };
        watch.follow()?;
        Ok(watch)
    }

    /// Watches these files too, in place of those named before. Whether they are others.
    pub fn also(&mut self, named: Vec<PathBuf>) -> bool {
        if self.named == named {
            return false;
        }
        self.named = named;
        // What cannot be watched is not there; it comes back with an event of a directory that is.
        let _ = self.follow();
        true
    }

    /// Waits until the files may be others than before, and hold still.
    ///
    /// # Cancel safety
    /// Cancel safe: what was heard before a drop is told by the next call.
    pub async fn changed(&mut self) {
        if self.heard.is_none() {
            let Some(kind) = self.events.recv().await else {
                return std::future::pending().await;
            };
            self.heard = Some((kind, Instant::now() + WATCH_LATE));
        }
        while let Some((kind, late)) = self.heard {
            let quiet = match kind {
                Kind::Whole => WATCH_RENAME_QUIET,
                Kind::Partial => WATCH_QUIET,
            };
            let until = (Instant::now() + quiet).min(late);
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                next = self.events.recv() => match next {
                    Some(next) => self.heard = Some((next, late)),
                    None => break,
                },
            }
        }
        self.heard = None;
        // Links may lead elsewhere now. What cannot be watched is gone, or comes back with an event
        // of a directory that can.
        let _ = self.follow();
    }

    /// Watches what the path leads through now, and nothing else.
    fn follow(&mut self) -> Result<(), WatchError> {
        let mut wanted = directories(&self.path);
        wanted.extend(self.named.iter().flat_map(|path| directories(path)));
        for old in self.directories.difference(&wanted) {
            let _ = self.watcher.unwatch(old);
        }
        self.directories.retain(|old| wanted.contains(old));
        let mut result = Ok(());
        for new in wanted {
            // Again, even if it is watched: it may be another directory of the same name.
            match self.watcher.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(new)),
                Err(error) => result = Err(WatchError(error)),
            }
        }
        match self.directories.is_empty() {
            true => result,
            false => Ok(()),
        }
    }
}

/// What an event means for us; `None`: nothing.
fn kind(event: &Event) -> Option<Kind> {
    let is_noise = |path: &PathBuf| path.file_name().is_some_and(is_scratch);
    if !event.paths.is_empty() && event.paths.iter().all(is_noise) {
        return None;
    }
    match event.kind {
        EventKind::Modify(ModifyKind::Name(_)) => Some(Kind::Whole),
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(_)
        | EventKind::Any
        | EventKind::Other => Some(Kind::Partial),
        EventKind::Access(_) => None,
    }
}

/// Files that editors keep beside the one they edit.
fn is_scratch(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    (name.starts_with(b".") && !name.starts_with(b"..")) || name.ends_with(b"~") || name == b"4913"
}

/// The directories whose entries decide what a path leads to.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut next = Some(path.to_owned());
    for _ in 0..LINKS_MAX {
        let Some(path) = next.take() else { break };
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => break,
        };
        // `..data/ringway.toml`: the directory is reached by a link of its own.
        if fs::symlink_metadata(parent).is_ok_and(|meta| meta.is_symlink()) {
            all.extend(parent.parent().map(Path::to_owned));
        }
        all.insert(parent.to_owned());
        if let Ok(target) = fs::read_link(&path) {
            next = Some(parent.join(target));
        } else if path.is_dir() {
            all.insert(path.clone());
            all.extend(links_of(&path));
        }
    }
    all
}

/// The directories that the files of a directory are linked through.
fn links_of(directory: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    let entries = entries.filter_map(Result::ok);
    let links = entries.filter(|one| one.file_type().is_ok_and(|kind| kind.is_symlink()));
    let targets = links.filter(|one| one.path().extension().is_some_and(|end| end == "toml"));
    targets.flat_map(|one| directories(&one.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn hears(watch: &mut Watch, what: &str) {
        let heard = tokio::time::timeout(PATIENCE, watch.changed()).await;
        heard.unwrap_or_else(|_| panic!("not heard: {what}"));
    }

    #[tokio::test]
    async fn writes_and_renames_are_heard() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.toml");
        fs::write(&file, "one").expect("written");
        let mut watch = Watch::start(&file).expect("watched");
        fs::write(&file, "two").expect("written");
        hears(&mut watch, "a write").await;
        for round in 0..3 {
            let new = directory.path().join("new");
            fs::write(&new, "three").expect("written");
            hears(&mut watch, "a neighbour").await;
            fs::rename(&new, &file).expect("renamed");
            hears(&mut watch, &format!("rename {round}")).await;
        }
    }

    /// Who waits with a time-out must not lose what was heard just before it.
    #[tokio::test]
    async fn a_change_is_heard_by_who_gives_up_and_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.toml");
        fs::write(&file, "one").expect("written");
        let mut watch = Watch::start(&file).expect("watched");
        fs::write(&file, "two").expect("written");
        let heard = async {
            while tokio::time::timeout(Duration::from_millis(1), watch.changed()).await.is_err() {}
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("heard");
    }

    #[tokio::test]
    async fn a_config_map_swap_is_heard() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        let publish = |number: u32| {
            let real = root.join(format!("..{number}"));
            fs::create_dir(&real).expect("made");
            fs::write(real.join("a.toml"), "x").expect("written");
            symlink(format!("..{number}"), root.join("..data_tmp")).expect("linked");
            fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
        };
        publish(1);
        symlink("..data/a.toml", root.join("a.toml")).expect("linked");
        for path in [root.to_owned(), root.join("a.toml")] {
            let mut watch = Watch::start(&path).expect("watched");
            for number in [10, 20] {
                publish(number + u32::from(path == root));
                hears(&mut watch, "a swap").await;
            }
        }
    }

    #[tokio::test]
    async fn a_flood_is_told_now_and_then() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.toml");
        fs::write(&file, "one").expect("written");
        let mut watch = Watch::start(&file).expect("watched");
        let end = Instant::now() + Duration::from_secs(1);
        let (mut told, mut written) = (0, 0);
        while Instant::now() < end {
            tokio::select! {
                () = watch.changed() => told += 1,
                () = async {
                    loop {
                        fs::write(&file, "two").expect("written");
                        written += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        if written % 50 == 0 { break }
                    }
                } => {}
            }
        }
        assert!(told <= 1_000 / WATCH_LATE.as_millis() + 1, "{told} for {written} writes");
    }

    #[test]
    fn what_editors_leave_lying_about_is_no_change() {
        for name in [".a.toml.swp", "a.toml~", "4913"] {
            assert!(is_scratch(OsStr::new(name)), "{name}");
        }
        assert!(!is_scratch(OsStr::new("..data")) && !is_scratch(OsStr::new("a.toml")));
    }
}
