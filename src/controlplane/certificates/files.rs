//! The files a configuration names: read in bounds, and noted so that they can be watched.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::base::limits;

/// Files that were named by the configuration read last, whatever came of it. One for the process:
/// there is one configuration, and one watch.
static NAMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Forgets what earlier configurations named.
pub fn begin() {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The files named since [`begin`].
pub fn named() -> Vec<PathBuf> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Reads a file and notes its name.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| format!("can't be read: {error}"))?;
    let most = limits::CERTIFICATE_FILE_BYTES_MAX;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't be read: {error}"))?;
    match bytes.len() as u64 > most {
        true => Err(format!("is larger than {most} bytes")),
        false => Ok(bytes),
    }
}
