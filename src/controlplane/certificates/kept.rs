//! What is in use, by what it was made of: pairs, whole listeners, and the keys of their tickets.
//!
//! Weak references: what no snapshot holds any more is forgotten. One for the process, because what
//! is carried over is carried from one version of the rules to the next.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::tls::{ClientTls, Pair, ServerTls, Tickets};

type Digest = [u8; 32];

/// What was made, by its digest.
struct Kept<T>(Mutex<Option<HashMap<Digest, Weak<T>>>>);

static EXPIRED_IS_REFUSED: AtomicBool = AtomicBool::new(false);
static PAIRS: Kept<Pair> = Kept(Mutex::new(None));
static LISTENERS: Kept<ServerTls> = Kept(Mutex::new(None));
static UPSTREAMS: Kept<ClientTls> = Kept(Mutex::new(None));
static TICKETS: Kept<Tickets> = Kept(Mutex::new(None));

impl<T> Kept<T> {
    fn with<R>(&self, run: impl FnOnce(&mut HashMap<Digest, Weak<T>>) -> R) -> R {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(map.get_or_insert_default())
    }

    fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        self.with(|map| map.get(digest)?.upgrade())
    }

    fn keep(&self, digest: Digest, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.with(|map| {
            map.retain(|_, one| one.strong_count() > 0);
            map.insert(digest, Arc::downgrade(&value));
        });
        value
    }
}

/// A pair that is in use.
pub(super) fn pair(digest: &Digest) -> Option<Arc<Pair>> {
    PAIRS.get(digest)
}

pub(super) fn keep_pair(digest: Digest, pair: Pair) -> Arc<Pair> {
    PAIRS.keep(digest, pair)
}

/// From now on no expired certificate is taken: for `ringway check`.
pub fn refuse_expired() {
    EXPIRED_IS_REFUSED.store(true, Relaxed);
}

/// Whether a certificate that has expired is refused: where it would replace one that is in use. A
/// start takes it, because one of many is no reason to serve nothing.
pub(super) fn is_expired_refused() -> bool {
    EXPIRED_IS_REFUSED.load(Relaxed) || is_serving()
}

/// Whether some listener is in use.
fn is_serving() -> bool {
    LISTENERS.with(|map| map.values().any(|one| one.strong_count() > 0))
}

/// What a listener makes of its settings: the same object as long as they are the same.
///
/// # Errors
/// Those of `make`.
pub fn listener<E>(
    digest: &Digest,
    make: impl FnOnce() -> Result<ServerTls, E>,
) -> Result<Arc<ServerTls>, E> {
    match LISTENERS.get(digest) {
        Some(same) => Ok(same),
        None => Ok(LISTENERS.keep(*digest, make()?)),
    }
}

/// What an upstream makes of its settings, as [`listener`]: its sessions are remembered there.
///
/// # Errors
/// Those of `make`.
pub fn upstream<E>(
    digest: &Digest,
    make: impl FnOnce() -> Result<ClientTls, E>,
) -> Result<Arc<ClientTls>, E> {
    match UPSTREAMS.get(digest) {
        Some(same) => Ok(same),
        None => Ok(UPSTREAMS.keep(*digest, make()?)),
    }
}

/// The keys of the tickets of one listener and kind of client: the same object as long as the rules
/// for these clients are the same, whatever happens to certificates.
///
/// # Errors
/// Those of `make`.
pub fn tickets<E>(
    digest: &Digest,
    make: impl FnOnce() -> Result<Tickets, E>,
) -> Result<Arc<Tickets>, E> {
    match TICKETS.get(digest) {
        Some(same) => Ok(same),
        None => Ok(TICKETS.keep(*digest, make()?)),
    }
}
