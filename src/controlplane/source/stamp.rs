//! Tells whether files are others than before without reading them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What the files of a configuration look like from outside. Equal stamps: nobody changed them. An
/// editor's rename, a ConfigMap's new symlink and a write each make another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Look>)>);

/// What one file looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// Looks at a file, through symlinks; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Stamp {
    /// Looks at a file, or at the `*.toml` files of a directory, through symlinks.
    pub fn of(path: &Path) -> Self {
        let mut files = vec![path.to_owned()];
        if let Ok(entries) = fs::read_dir(path) {
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let mut inside: Vec<PathBuf> =
                paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
            inside.sort();
            files = inside; // the directory itself changes with every swap file
        }
        let look = |path: PathBuf| {
            let look = Look::of(&path);
            (path, look)
        };
        Self(files.into_iter().map(look).collect())
    }

    /// The same with other files that the configuration names.
    pub fn and(mut self, others: impl IntoIterator<Item = (PathBuf, Option<Look>)>) -> Self {
        self.0.extend(others);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_a_file_shows_and_swap_files_do_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.toml");
        fs::write(&file, "one").expect("written");
        let first = Stamp::of(directory.path());
        assert_eq!(Stamp::of(directory.path()), first);
        fs::write(directory.path().join(".a.toml.swp"), "x").expect("written");
        assert_eq!(Stamp::of(directory.path()), first);
        let other = directory.path().join("other");
        fs::write(&other, "one").expect("written");
        fs::rename(&other, &file).expect("renamed");
        let second = Stamp::of(directory.path());
        assert_ne!(second, first);
        fs::write(directory.path().join("b.toml"), "").expect("written");
        assert_ne!(Stamp::of(directory.path()), second);
        assert_eq!(
            Stamp::of(&directory.path().join("none")),
            Stamp::of(&directory.path().join("none"))
        );
    }
}
