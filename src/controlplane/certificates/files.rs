//! The files a configuration names: read in bounds, and noted so that they can be watched.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{base::limits, controlplane::source::Look};

/// Files that were named by the configuration read last, whatever came of it, and what they looked
/// like right before they were read. One for the process: there is one configuration, and one watch.
static NAMED: Mutex<BTreeMap<PathBuf, Option<Look>>> = Mutex::new(BTreeMap::new());

/// Forgets what earlier configurations named.
pub fn begin() {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The files named since [`begin`], as they looked when they were read.
pub fn as_read() -> Vec<(PathBuf, Option<Look>)> {
    let named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    named.iter().map(|(path, look)| (path.clone(), *look)).collect()
}

/// The same files, as they look now.
pub fn as_they_are() -> Vec<(PathBuf, Option<Look>)> {
    let look = |(path, _): (PathBuf, _)| {
        let look = Look::of(&path);
        (path, look)
    };
    as_read().into_iter().map(look).collect()
}

/// Reads a file and notes its name.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let look = Look::of(path);
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), look);
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
