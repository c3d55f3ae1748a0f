//! What a rollout has come to, as it survives the process: in a file, or in a message to the successor.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::run::State;
use crate::controlplane::state_file;

/// The file in `[admin] state_dir`.
const FILE_NAME: &str = "rollouts.json";

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
    state_file::load(directory, FILE_NAME)
}

/// Replaces what a directory has; after a crash the old or the new is there.
pub(super) fn save(directory: &Path, all: &[Saved]) -> io::Result<()> {
    state_file::save(directory, FILE_NAME, all)
}
