//! Keeps what the admin API was told in a file of `[admin] state_dir`, so that it survives a restart.
//!
//! The file is TOML (see [`Overlay`]) with its checksum on the last line. A new state is written
//! beside it ([`FileStore::stage`]: a full disk shows here), synced, and renamed over it
//! ([`Staged::keep`]: this waits for the disk): a crash at any byte leaves the old state or the new
//! one. A file whose checksum is wrong was damaged by something else and is never read in part.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    config::{
        overlay::{Kind, Object, Overlay},
        tree::{Item, Tree},
    },
    hash::hash,
};

/// The file in the directory.
const FILE_NAME: &str = "api.toml";

/// What it is written as until it is complete.
const NEW_NAME: &str = ".api.toml.new";

/// What the last line begins with.
const CHECKSUM: &str = "# checksum ";

/// The state file of one directory.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// The state file in a directory, which must exist.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// What is kept; nothing if there is no file yet.
    ///
    /// # Errors
    /// A directory that is not there, a file that can't be read or is damaged: with its path, and
    /// what to do.
    pub fn load(&self) -> Result<Overlay, String> {
        let path = self.path();
        let shown = path.display().to_string();
        let empty = Overlay::new(&shown);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match fs::metadata(&self.directory) {
                    Ok(metadata) if metadata.is_dir() => Ok(empty),
                    _ => Err(format!(
                        "state_dir: {} is no directory; make it and let ringway write to it",
                        self.directory.display()
                    )),
                };
            }
            Err(error) => return Err(format!("{shown}: can't be read: {error}")),
        };
        let Some(body) = checked(&text) else {
            return Err(format!(
                "{shown}: damaged, or edited by hand; put a copy back, or remove it to start with \
                 what the files say"
            ));
        };
        let tree = Tree::of_text(&shown, body);
        let routes = tree.routes.into_iter().map(|item| (Kind::Route, item));
        let upstreams = tree.upstreams.into_iter().map(|item| (Kind::Upstream, item));
        // In the order of the file, so that its lines are those that messages name.
        let mut all: Vec<_> = routes.chain(upstreams).collect();
        all.sort_by_key(|(_, item)| item.line);
        let object =
            |(kind, item): (Kind, Item)| Arc::new(Object::new(kind, &item.name, item.keys));
        Ok(empty.replaced(all.into_iter().map(object)))
    }

    /// Writes a state beside the one that is kept, in whose place it is put by [`Staged::keep`].
    ///
    /// # Errors
    /// Why it can't be written, and what to do.
    pub fn stage(&self, overlay: &Overlay) -> Result<Staged, String> {
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600) // header values in it may be secrets
            .open(self.new_path());
        let written = open.and_then(|mut file| {
            file.write_all(to_text(overlay).as_bytes())?;
            Ok(file)
        });
        match written {
            Ok(file) => Ok(Staged { store: self.clone(), file }),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn new_path(&self) -> PathBuf {
        self.directory.join(NEW_NAME)
    }

    /// Gives the space back, as the next attempt begins anew, and says what is wrong.
    fn failed(&self, error: &io::Error) -> String {
        let _ = fs::remove_file(self.new_path());
        let why = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => "free some space there",
            Some(libc::EACCES | libc::EROFS | libc::EPERM) => {
                "let ringway write there, or name another state_dir"
            }
            _ => "see to it that ringway can write there",
        };
        format!("{} can't be written: {error}; {why}", self.path().display())
    }
}

/// A state that is written, and not kept yet.
#[derive(Debug)]
pub struct Staged {
    store: FileStore,
    file: File,
}

impl Staged {
    /// Puts it in the place of the one that is kept, for good: waits for the disk.
    ///
    /// # Errors
    /// Why that can't be, and what to do; what was kept before still is, unless the directory was the
    /// last thing that could not be synced.
    pub fn keep(self) -> Result<(), String> {
        let Self { store, file } = self;
        let synced = file.sync_all();
        let kept = synced.and_then(|()| fs::rename(store.new_path(), store.path()));
        let kept = kept.and_then(|()| File::open(&store.directory)?.sync_all());
        kept.map_err(|error| store.failed(&error))
    }
}

/// The text of the file.
fn to_text(overlay: &Overlay) -> String {
    let body = overlay.to_toml(|_, _| false);
    let checksum = hash(body.as_bytes());
    format!("{body}{CHECKSUM}{checksum}\n")
}

/// The text above the checksum, if that is right.
fn checked(text: &str) -> Option<&str> {
    let start = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, last) = text.split_at(start);
    let checksum = last.strip_prefix(CHECKSUM)?.strip_suffix('\n')?;
    (checksum == hash(body.as_bytes())).then_some(body)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn save(store: &FileStore, overlay: &Overlay) -> Result<(), String> {
        store.stage(overlay)?.keep()
    }

    fn overlay(store: &FileStore, routes: usize) -> Overlay {
        let empty = Overlay::new(&store.path().display().to_string());
        (0..routes).fold(empty, |overlay, number| {
            let mut keys = Map::new();
            keys.insert("upstream".into(), json!("ü \"1\""));
            keys.insert("headers".into(), json!({ "x y": "~^[0-9]+$\n", "z": "" }));
            overlay.with(Object::new(Kind::Route, &format!("r{number}"), keys))
        })
    }

    #[test]
    fn what_is_saved_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path());
        assert!(store.load().unwrap().is_empty());
        for routes in [3, 1, 0] {
            save(&store, &overlay(&store, routes)).unwrap();
            assert_eq!(store.load().unwrap(), overlay(&store, routes));
        }
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    /// A crash while the new state is written leaves that many of its bytes in the file beside.
    #[test]
    fn a_crash_at_any_byte_leaves_the_old_or_the_new_state() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path());
        let (old, new) = (overlay(&store, 2), overlay(&store, 3));
        save(&store, &old).unwrap();
        let text = to_text(&new);
        for bytes in 0..=text.len() {
            fs::write(directory.path().join(NEW_NAME), &text.as_bytes()[..bytes]).unwrap();
            assert_eq!(store.load().unwrap(), old, "after {bytes} bytes");
        }
        let staged = store.stage(&new).unwrap();
        assert_eq!(store.load().unwrap(), old, "it is not kept yet");
        staged.keep().unwrap();
        assert_eq!(store.load().unwrap(), new);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_anywhere_is_refused_and_never_read_in_part() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path());
        let text = to_text(&overlay(&store, 2)).into_bytes();
        for bytes in 0..text.len() {
            fs::write(store.path(), &text[..bytes]).unwrap();
            assert!(store.load().is_err(), "cut after {bytes} bytes");
            let mut changed = text.clone();
            changed[bytes] ^= 1;
            fs::write(store.path(), &changed).unwrap();
            assert!(store.load().is_err(), "byte {bytes} changed");
        }
        fs::write(store.path(), &text).unwrap();
        assert!(store.load().is_ok());
    }

    #[test]
    fn what_can_not_be_written_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(&directory.path().join("missing"));
        assert!(store.load().unwrap_err().contains("is no directory"));
        assert!(save(&store, &overlay(&store, 1)).unwrap_err().contains("can't be written"));
        let store = FileStore::new(directory.path());
        save(&store, &overlay(&store, 1)).unwrap();
        fs::create_dir(directory.path().join(NEW_NAME)).unwrap();
        assert!(store.stage(&overlay(&store, 2)).is_err());
        assert_eq!(store.load().unwrap(), overlay(&store, 1));
        fs::remove_dir(directory.path().join(NEW_NAME)).unwrap();
        let staged = store.stage(&overlay(&store, 2)).unwrap();
        fs::remove_file(directory.path().join(NEW_NAME)).unwrap();
        assert!(staged.keep().unwrap_err().contains("can't be written"));
        assert_eq!(store.load().unwrap(), overlay(&store, 1));
    }
}
