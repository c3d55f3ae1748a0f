//! Small files in `[admin] state_dir`, in JSON, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

/// What the file of this name has; nothing if there is none yet.
///
/// # Errors
/// Why it can't be read.
pub(super) fn load<T: DeserializeOwned>(directory: &Path, name: &str) -> io::Result<Vec<T>> {
    match fs::read(directory.join(name)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Replaces what the file has; after a crash the old or the new is there. Waits for the disk. None is made to
/// say nothing.
///
/// # Errors
/// Why it can't be written: then it is as it was.
pub(super) fn save<T: Serialize>(directory: &Path, name: &str, all: &[T]) -> io::Result<()> {
    if all.is_empty() && !directory.join(name).exists() {
        return Ok(());
    }
    let new = directory.join(format!(".{name}.new"));
    let mut file = File::create(&new)?;
    let written = file.write_all(&serde_json::to_vec_pretty(all)?).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&new)))?; // gives the space back
    fs::rename(&new, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        save::<u8>(at, "n.json", &[]).expect("nothing");
        assert!(!at.join("n.json").exists() && load::<u8>(at, "n.json").expect("none").is_empty());
        for all in [vec![1, 2], vec![], vec![3]] {
            save(at, "n.json", &all).expect("written");
            assert_eq!(load::<u8>(at, "n.json").expect("read"), all);
        }
        assert_eq!(fs::read_dir(at).expect("listed").count(), 1, "nothing is left beside it");
        fs::write(at.join("n.json"), "[{").expect("written");
        assert!(load::<u8>(at, "n.json").is_err());
        fs::create_dir(at.join(".n.json.new")).expect("made");
        assert!(save(at, "n.json", &[1]).is_err());
    }
}
