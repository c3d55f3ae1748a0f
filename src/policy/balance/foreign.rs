//! Strategies that are not ringway's own: a program that uses ringway as a library registers them by name
//! before it starts, and configurations then name them. `examples/strategy.rs` is one.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::Strategy;

type Make = dyn Fn(u32) -> Box<dyn Strategy> + Send + Sync;

/// Makes a strategy for one core and one upstream.
#[derive(Clone)]
pub struct Factory {
    name: Box<str>,
    make: Arc<Make>,
}

impl Factory {
    /// The name in TOML.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn make(&self, core: u32) -> Box<dyn Strategy> {
        (self.make)(core)
    }
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Factory({})", self.name)
    }
}

/// The same if they have the same name: a name is registered once.
impl PartialEq for Factory {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Factory {}

/// Asked when a configuration is read, never on a core.
static REGISTERED: Mutex<Vec<Factory>> = Mutex::new(Vec::new());

/// Makes a strategy known under a name, for `strategy = "name"` of an upstream. `make` is called
/// on each core that serves an upstream with it, with the number of the core. To be called before
/// configurations are read; the first of a name stays, and ringway's own names come first.
pub fn register(name: &str, make: impl Fn(u32) -> Box<dyn Strategy> + Send + Sync + 'static) {
    let mut all = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if all.iter().all(|one| &*one.name != name) {
        all.push(Factory { name: name.into(), make: Arc::new(make) });
    }
}

/// The strategy registered under a name.
pub fn find_registered(name: &str) -> Option<Factory> {
    registered().into_iter().find(|one| &*one.name == name)
}

/// All that were registered.
pub fn registered() -> Vec<Factory> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
