//! What operators say of endpoints by hand (`/v1/upstreams/{name}/endpoints/{endpoint}/health`), as it outlives
//! the process: in a file of `[admin] state_dir`, or in messages to the successor.
//!
//! What is in force lies in the cells of the endpoints, where the cores look; here it is only written down.
//! Tests: `tests/blackbox/endpoints.rs`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{log, state_file};
use crate::{
    base::clock::now_ms,
    snapshot::{
        Snapshot,
        cells::{Health, Voice},
    },
};

/// The file in `[admin] state_dir`.
const FILE_NAME: &str = "by-hand.json";

/// An endpoint that somebody took out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The name of its upstream.
    pub upstream: Box<str>,
    /// Its `host:port`.
    pub endpoint: Box<str>,
    /// `down` or `draining`.
    pub health: Box<str>,
}

/// Where it is written down.
#[derive(Debug, Default)]
pub struct ByHand {
    directory: Option<PathBuf>,
    /// What the file has. Held while it is written, so that the newest is what it has in the end.
    written: Mutex<Vec<Said>>,
}

/// All endpoints that somebody took out; of several addresses of a name one is told.
pub fn said(snapshot: &Snapshot) -> impl Iterator<Item = Said> {
    snapshot.upstreams.iter().flat_map(|upstream| {
        let all = upstream.endpoints.iter().enumerate().filter(|(at, one)| {
            let before = &upstream.endpoints[..*at];
            one.cell.said_by(Voice::Hand) != Health::Up
                && before.last().is_none_or(|last| last.authority != one.authority)
        });
        all.map(|(_, one)| Said {
            upstream: upstream.name.clone(),
            endpoint: one.authority.clone(),
            health: one.cell.said_by(Voice::Hand).name().into(),
        })
    })
}

impl ByHand {
    /// Goes on from what a predecessor said, or else from what the directory has: says it again of the
    /// endpoints that there still are.
    pub fn go_on(inherited: Vec<Said>, directory: Option<&Path>, snapshot: &Snapshot) -> Self {
        let all = match directory {
            Some(directory) if inherited.is_empty() => {
                state_file::load(directory, FILE_NAME).unwrap_or_else(|error| {
                    log::error(format_args!(
                        "endpoints that were taken out by hand can't be read from {}: {error}; they \
                         take requests again",
                        directory.join(FILE_NAME).display()
                    ));
                    Vec::new()
                })
            }
            _ => inherited,
        };
        for one in &all {
            let words = [Health::Down, Health::Draining];
            let Some(health) = words.into_iter().find(|word| word.name() == &*one.health) else {
                continue;
            };
            let named = snapshot.upstreams.iter().filter(|upstream| upstream.name == one.upstream);
            for endpoint in named.flat_map(|upstream| upstream.endpoints.iter()) {
                if endpoint.authority == one.endpoint {
                    endpoint.cell.set_health(Voice::Hand, health, now_ms());
                }
            }
        }
        Self { directory: directory.map(Path::to_owned), written: Mutex::new(all) }
    }

    /// The same after a change of the rules, if there is anything to write, beside the control thread, which
    /// answers probes and scrapes. Must be called on its runtime.
    pub fn keep_aside(self: &Arc<Self>, snapshot: &Arc<Snapshot>) {
        let is_as_written =
            || self.written.try_lock().is_ok_and(|all| said(snapshot).eq(all.iter().cloned()));
        if self.directory.is_some() && !is_as_written() {
            let (this, of) = (Arc::clone(self), Arc::clone(snapshot));
            tokio::task::spawn_blocking(move || this.keep(&of));
        }
    }

    /// Writes down what is said now, if that is something else than before; whether a restart will know it. Waits
    /// for the disk then.
    pub fn keep(&self, snapshot: &Snapshot) -> bool {
        let Some(directory) = &self.directory else { return false };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Said> = said(snapshot).collect();
        if all == *written {
            return true;
        }
        match state_file::save(directory, FILE_NAME, &all) {
            Ok(()) => {
                *written = all;
                true
            }
            Err(error) => {
                log::error(format_args!(
                    "endpoints that were taken out by hand can't be written to {}: {error}; a restart would \
                     not know of the last change",
                    directory.join(FILE_NAME).display()
                ));
                false
            }
        }
    }
}
