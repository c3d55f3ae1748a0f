//! Everything about a change that can fail or takes time, on a thread of its own: edits, reading,
//! checking, compiling, binding, opening, saving, identities. What comes out of it only has to be sent.
//!
//! The quick way for endpoints does not make the cores wait for the disk, which takes its time even to
//! open a file while it syncs others: where there is plenty of room, and the last state could be kept,
//! the rules are sent first, and only the caller waits until the state is kept. If that fails, which
//! takes a disk that breaks, the rules before are sent again. Where there is little room the state is
//! written first, so that a full disk refuses the change.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::mpsc;

use crate::{
    base::{limits::STATE_ROOM_BYTES_MIN, pace},
    controlplane::{
        carry::Carry,
        certificates::files,
        changes::{Applied, Current, Edit, Effect, Order, Plan, Refused, Why},
        config::{Known, Level, Problem, overlay::Overlay},
        export::access_log::Sink,
        source::Stamp,
        state::State,
        store::{FileStore, Staged},
    },
    rt,
    server::{
        listen::{self, Inherited},
        reader::Reader,
        rules::{self, Fixed, Loaded, OwnBase, Source},
    },
    snapshot::{Snapshot, Upstream, messages::ListenSocket},
};

/// Prepares changes, one batch at a time; remembers what the last one left.
pub(super) struct Preparer {
    pub(super) source: Source,
    pub(super) reader: Reader,
    /// Whether the last state that was to be kept could be.
    pub(super) keeps: bool,
    /// Where the overlay is saved, if it survives a restart.
    pub(super) store: Option<FileStore>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) carry: Carry,
    /// What the files looked like when they were read last, whatever came of it.
    pub(super) stamp: Option<Stamp>,
    /// What the process took at its start.
    pub(super) fixed: Fixed,
    /// Bytes of a request head that fit into the buffers made at the start.
    pub(super) head_bytes_max: usize,
    pub(super) state: Arc<State>,
}

/// Rules that only have to be sent.
pub(super) struct Ready {
    pub(super) snapshot: Arc<Snapshot>,
    /// Sockets of new listeners, for each core.
    pub(super) sockets: Vec<Vec<ListenSocket>>,
    pub(super) overlay: Arc<Overlay>,
    /// What a reading of the files brought; nothing if only upstreams changed.
    pub(super) read: Option<Read>,
    pub(super) warnings: Vec<Problem>,
    /// What the API said for them survives a restart, as far as it is meant to; if not yet, a
    /// [`Step::Kept`] follows.
    pub(super) is_kept: bool,
}

/// What a reading of the files brings beside rules.
pub(super) struct Read {
    pub(super) level: Level,
    /// Where the access log goes, opened.
    pub(super) log: Option<Sink>,
    /// What is kept of the files.
    pub(super) known: Known,
}

/// What became of a batch.
pub(super) enum Outcome {
    /// New rules.
    Ready(Box<Ready>),
    /// It would work, or nothing is to be done: the rules stay as they are.
    Unchanged(Applied),
    /// The rules stay as they are, and why.
    Refused(Refused),
}

/// A batch and what became of it.
pub(super) struct Done {
    pub(super) orders: Vec<Order>,
    pub(super) outcome: Outcome,
}

impl Done {
    /// Whether a [`Step::Kept`] follows.
    pub(super) fn is_to_be_kept(&self) -> bool {
        matches!(&self.outcome, Outcome::Ready(ready) if !ready.is_kept)
    }
}

/// What became of a state that was written, and not kept yet when its rules were sent.
pub(super) enum Kept {
    /// It survives a restart.
    Yes,
    /// It does not, and shall not be in force then.
    No {
        /// Why.
        refused: Refused,
        /// The rules that were in force before, to be sent again.
        before: Box<Ready>,
    },
}

/// What the thread that prepares a batch has to say.
pub(super) enum Step {
    /// First.
    Done(Done),
    /// Then, after rules that are not kept.
    Kept(Kept),
}

/// A state that is to be kept when its rules have been sent.
struct Keeping {
    store: FileStore,
    /// Unless it is not even written yet.
    staged: Option<Staged>,
    /// What is to be kept.
    overlay: Arc<Overlay>,
    /// The rules and the state before.
    old: (Arc<Snapshot>, Arc<Overlay>),
    /// The rules that are sent.
    new: Arc<Snapshot>,
}

/// Starts a thread that prepares `orders` as one version. A dry run comes alone.
pub(super) fn start(
    preparer: &Arc<Mutex<Preparer>>,
    orders: Vec<Order>,
) -> io::Result<mpsc::Receiver<Step>> {
    let (sender, steps) = mpsc::channel(2);
    let preparer = Arc::clone(preparer);
    thread::Builder::new().name("ringway-compile".into()).spawn(move || {
        rt::memory::map_large_blocks();
        let mut preparer = preparer.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, keeping) = match preparer.prepare(&orders) {
            Ok(prepared) => prepared,
            Err(refused) => (Outcome::Refused(refused), None),
        };
        // There is room for both; nobody listens when the process ends.
        let _ = sender.try_send(Step::Done(Done { orders, outcome }));
        if let Some(keeping) = keeping {
            let _ = sender.try_send(Step::Kept(preparer.keep(keeping)));
        }
    })?;
    Ok(steps)
}

/// What the edits of a batch want.
struct Wanted {
    overlay: Arc<Overlay>,
    snapshot: Arc<Snapshot>,
    recompile: bool,
    /// Whether the files are read for that; an edit of the API is compiled with what was read before.
    reread: bool,
}

impl Preparer {
    fn prepare(&mut self, orders: &[Order]) -> Result<(Outcome, Option<Keeping>), Refused> {
        let old = Arc::clone(&self.state.rules().snapshot);
        let wanted = self.run_edits(orders, &old)?;
        let is_same = Arc::ptr_eq(&wanted.snapshot, &old) && wanted.overlay == self.overlay;
        if !wanted.recompile && is_same {
            let applied = Applied { version: old.version, warnings: Vec::new() };
            return Ok((Outcome::Unchanged(applied), None));
        }
        let version = old.version + 1;
        let (mut snapshot, warnings, read) = match wanted.recompile {
            true => {
                // A change of endpoints is no work; this is.
                rt::service::yield_to_workers();
                pace::rest_between_pieces();
                self.read(&wanted.overlay, wanted.reread, version)?
            }
            false => (with_version(&wanted.snapshot, version), Vec::new(), None),
        };
        let cores: Vec<usize> = self.fixed.runtime.workers.iter().map(|one| one.core).collect();
        let mut none = Inherited::default();
        let sockets = listen::bind_new(Some(&old), &snapshot, &cores, &mut none)
            .map_err(|error| refused_by_machine("listener", &error))?;
        if orders.iter().any(|order| order.change.dry_run) {
            return Ok((Outcome::Unchanged(Applied { version, warnings }), None));
        }
        let store = self.store.clone().filter(|_| *wanted.overlay != *self.overlay);
        let keeping = match store {
            Some(store) if wanted.recompile => {
                self.keep_now(store.stage(&wanted.overlay).and_then(Staged::keep))?;
                None
            }
            Some(store) => {
                let is_safe = self.keeps && has_plenty_of_room(&store);
                let staged = (!is_safe).then(|| store.stage(&wanted.overlay)).transpose();
                Some((store, self.keep_now(staged)?))
            }
            None => None,
        };
        // From here on nothing fails.
        self.carry.assign(Some(&old), &mut snapshot);
        self.state.rules().series.assign(Some(&old), &mut snapshot);
        let overlay_before = std::mem::replace(&mut self.overlay, Arc::clone(&wanted.overlay));
        let sockets = sockets.name(&snapshot);
        let (new, overlay, is_kept) = (Arc::new(snapshot), wanted.overlay, keeping.is_none());
        let snapshot = Arc::clone(&new);
        let keeping = keeping.map(|(store, staged)| {
            let (old, overlay) = ((old, overlay_before), Arc::clone(&overlay));
            Keeping { store, staged, overlay, old, new }
        });
        let ready = Ready { snapshot, sockets, overlay, read, warnings, is_kept };
        Ok((Outcome::Ready(Box::new(ready)), keeping))
    }

    /// Keeps what was written, or goes back to what is kept.
    fn keep(&mut self, keeping: Keeping) -> Kept {
        let Keeping { store, staged, overlay, old: (old, overlay_before), new } = keeping;
        let staged = staged.map_or_else(|| store.stage(&overlay), Ok);
        let Err(refused) = self.keep_now(staged.and_then(Staged::keep)) else { return Kept::Yes };
        let overlay = overlay_before;
        let mut snapshot = with_version(&old, new.version + 1);
        self.carry.assign(Some(&new), &mut snapshot);
        self.overlay = Arc::clone(&overlay);
        let before = Ready {
            snapshot: Arc::new(snapshot),
            sockets: Vec::new(),
            overlay,
            read: None,
            warnings: Vec::new(),
            is_kept: true,
        };
        Kept::No { refused, before: Box::new(before) }
    }

    /// Asks each order what it wants, those before it taken for granted.
    fn run_edits(&self, orders: &[Order], old: &Arc<Snapshot>) -> Result<Wanted, Refused> {
        let mut wanted = Wanted {
            overlay: Arc::clone(&self.overlay),
            snapshot: Arc::clone(old),
            recompile: false,
            reread: false,
        };
        for order in orders {
            match &order.change.edit {
                Edit::Reread => wanted.reread = true,
                Edit::RereadIfChanged => wanted.reread |= self.source.stamp() != self.stamp,
                Edit::With(edit) => {
                    let current = Current {
                        snapshot: &wanted.snapshot,
                        overlay: &wanted.overlay,
                        names: &self.reader.names,
                    };
                    let Plan { overlay, effect } = edit(&current)?;
                    wanted.overlay = overlay;
                    match effect {
                        Effect::Recompile => wanted.recompile = true,
                        Effect::Upstreams(changed) => match patched(&wanted.snapshot, changed) {
                            Some(snapshot) => wanted.snapshot = Arc::new(snapshot),
                            None => wanted.recompile = true,
                        },
                    }
                }
            }
        }
        wanted.recompile |= wanted.reread;
        Ok(wanted)
    }

    fn read(
        &mut self,
        overlay: &Arc<Overlay>,
        reread: bool,
        version: u64,
    ) -> Result<(Snapshot, Vec<Problem>, Option<Read>), Refused> {
        let Known { texts, kept, .. } = self.state.rules().known.clone();
        // Before reading: a change that comes while we read makes another stamp.
        let own_stamp = self.source.own_stamp();
        let base = match reread {
            true => OwnBase::Source(self.source.clone()),
            false => OwnBase::Texts(texts),
        };
        let loaded = rules::load(&self.reader, base, overlay, kept, version);
        if reread {
            self.stamp = own_stamp.map(|stamp| stamp.and(files::as_read()));
        }
        let Loaded { snapshot, fixed, level, warnings, known } = loaded?;
        self.refuse_what_is_fixed(&fixed, &snapshot)?;
        let log = rules::open_log(&snapshot).map_err(|(name, error)| {
            let message = format!("cannot open {name}: {error}");
            Refused::because(Why::Machine, "log.access", message, "give this user the right to")
        })?;
        Ok((snapshot, warnings, Some(Read { level, log, known })))
    }

    /// What a process takes at its start and keeps. Making the rest of such a change would leave rules
    /// in force that no file says.
    fn refuse_what_is_fixed(&self, fixed: &Fixed, snapshot: &Snapshot) -> Result<(), Refused> {
        let hint = "restart, or send SIGUSR2: the new process obeys all of it";
        let keys = self.fixed.differences(fixed);
        if !keys.is_empty() {
            let message = "can't change while the process runs; none of the change was made";
            return Err(Refused::because(Why::Conflict, &keys.join(", "), message, hint));
        }
        // Buffers are made at the start, for the largest head that was allowed then.
        let max = self.head_bytes_max;
        if snapshot.listeners.iter().any(|one| one.limits.header_bytes_max > max) {
            let message = format!(
                "the buffers of this process hold {max} bytes, and can't change while it runs; none \
                 of the change was made"
            );
            let key = "listener.limits.header_bytes_max";
            return Err(Refused::because(Why::Conflict, key, message, hint));
        }
        Ok(())
    }

    /// Notes whether a state could be written or kept; refuses the change if not.
    fn keep_now<T>(&mut self, result: Result<T, String>) -> Result<T, Refused> {
        self.keeps = result.is_ok();
        result.map_err(not_kept)
    }
}

/// Room for states as large as any, many times over.
fn has_plenty_of_room(store: &FileStore) -> bool {
    rt::service::free_bytes(store.directory()).is_ok_and(|free| free > STATE_ROOM_BYTES_MIN)
}

fn not_kept(message: String) -> Refused {
    let hint = "nothing was changed; make room, or the directory writable, and try again";
    Refused::because(Why::Machine, "state_dir", message, hint)
}

fn refused_by_machine(key: &str, error: &dyn std::fmt::Display) -> Refused {
    // The error names its own remedy behind the last semicolon.
    let text = error.to_string();
    let (message, hint) = text.rsplit_once("; ").unwrap_or((&text, "try another address"));
    Refused::because(Why::Machine, key, message, hint)
}

/// The same rules with another number.
fn with_version(snapshot: &Snapshot, version: u64) -> Snapshot {
    Snapshot {
        version,
        listeners: snapshot.listeners.clone(),
        listener_ids: snapshot.listener_ids.clone(),
        table: Arc::clone(&snapshot.table),
        routes: Arc::clone(&snapshot.routes),
        upstreams: snapshot.upstreams.clone(),
        access_log: snapshot.access_log.clone(),
        dns: Arc::clone(&snapshot.dns),
        rollouts: Arc::clone(&snapshot.rollouts),
        drain_timeout: snapshot.drain_timeout,
    }
}

/// The same rules with other upstreams; `None` if one of them is new.
fn patched(snapshot: &Snapshot, changed: Vec<Upstream>) -> Option<Snapshot> {
    let mut new = with_version(snapshot, snapshot.version);
    for upstream in changed {
        let place = new.upstreams.iter_mut().find(|one| one.name == upstream.name)?;
        *place = Arc::new(upstream);
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    #[test]
    fn a_patch_shares_all_but_what_it_changes() {
        let old = fixtures::snapshot(4);
        let mut upstream = Upstream::clone(&old.upstreams[0]);
        upstream.pool_idle_max_per_core = 7;
        let new = patched(&old, vec![upstream.clone()]).expect("it is there");
        assert_eq!(new.upstreams[0].pool_idle_max_per_core, 7);
        assert!(Arc::ptr_eq(&new.routes, &old.routes) && Arc::ptr_eq(&new.table, &old.table));
        upstream.name = "other".into();
        assert!(patched(&old, vec![upstream]).is_none());
    }
}
