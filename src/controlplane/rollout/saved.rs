//! What a rollout has come to, as it survives the process: in a file, or in a message to the successor.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::run::State;

/// The file in `[admin] state_dir`.
const FILE_NAME: &str = "rollouts.json";

/// What it is written as until it is complete.
const NEW_NAME: &str = ".rollouts.json.new";

/// What one rollout has come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Its name.
    pub name: Box<str>,
    /// What it said: another one begins anew.
    pub definition: String,
    /// Whether it goes on.
    pub state: State,
    /// From 0.
    pub stage: usize,
    /// Why it is where it is.
    pub why: Box<str>,
    /// When the stage began, or it ended, seconds since 1970.
    pub since: f64,
    /// Requests and errors of the old version in earlier stages.
    pub earlier: (u64, u64),
}

/// What a directory has; nothing if there is no file yet.
///
/// # Errors
/// Why it can't be read.
pub fn load(directory: &Path) -> io::Result<Vec<Saved>> {
    match fs::read(directory.join(FILE_NAME)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Replaces what a directory has; after a crash the old or the new is there.
pub(super) fn save(directory: &Path, all: &[Saved]) -> io::Result<()> {
    if all.is_empty() && !directory.join(FILE_NAME).exists() {
        return Ok(());
    }
    let new = directory.join(NEW_NAME);
    let mut file = File::create(&new)?;
    let written = file.write_all(&serde_json::to_vec_pretty(all)?).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&new)))?; // gives the space back
    fs::rename(&new, directory.join(FILE_NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(load(directory.path()).expect("nothing").is_empty());
        let saved = Saved {
            name: "v2".into(),
            definition: "d".into(),
            state: State::Paused,
            stage: 2,
            why: "asked to".into(),
            since: 1.5,
            earlier: (10, 1),
        };
        save(directory.path(), &[saved]).expect("written");
        let back = load(directory.path()).expect("read");
        assert_eq!((&*back[0].name, back[0].state, back[0].stage), ("v2", State::Paused, 2));
        fs::write(directory.path().join(FILE_NAME), "[{").expect("written");
        assert!(load(directory.path()).is_err());
    }
}
