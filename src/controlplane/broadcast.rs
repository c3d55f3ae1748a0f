//! New rules to every core, and who obeys which.
//!
//! A core has at most one version on its way: the next is sent when it said that it obeys the last
//! one, and then the newest. So a slow core skips versions and never queues them.

use std::sync::Arc;

use crate::snapshot::{Snapshot, messages::ToWorker};

/// Hands a message to one core without waiting; false if its mailbox is full or the core is gone.
pub type Send = Box<dyn Fn(ToWorker) -> bool>;

/// One mailbox per core, newest wins.
pub struct Broadcast {
    cores: Vec<Core>,
    newest: Arc<Snapshot>,
}

struct Core {
    id: usize,
    send: Send,
    /// The version on its way or in force.
    sent: u64,
    /// The version in force.
    applied: u64,
}

impl Broadcast {
    /// The cores were started with `first`.
    pub fn new(first: Arc<Snapshot>, cores: impl IntoIterator<Item = (usize, Send)>) -> Self {
        let version = first.version;
        let core = |(id, send)| Core { id, send, sent: version, applied: version };
        Self { cores: cores.into_iter().map(core).collect(), newest: first }
    }

    /// Sends newer rules to every core that is not still busy with older ones.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        assert!(snapshot.version > self.newest.version, "versions only rise");
        self.newest = snapshot;
        for core in &mut self.cores {
            core.send_newest(&self.newest);
        }
    }

    /// Notes that a core obeys a version; sends it the newest if that is another one by now.
    pub fn applied(&mut self, id: usize, version: u64) {
        if let Some(core) = self.cores.iter_mut().find(|core| core.id == id) {
            core.applied = core.applied.max(version);
            core.send_newest(&self.newest);
        }
    }

    /// Tells every core something that is no rules.
    pub fn tell(&self, message: &ToWorker) {
        for core in &self.cores {
            (core.send)(message.clone());
        }
    }

    /// Whether every core obeys the newest rules.
    pub fn settled(&self) -> bool {
        self.cores.iter().all(|core| core.applied >= self.newest.version)
    }
}

impl Core {
    fn send_newest(&mut self, newest: &Arc<Snapshot>) {
        let free = self.applied >= self.sent;
        if free && self.sent < newest.version && (self.send)(ToWorker::Snapshot(Arc::clone(newest)))
        {
            self.sent = newest.version;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::controlplane::fixtures;

    /// A mailbox that remembers the versions it was given.
    fn mailbox() -> (Rc<RefCell<Vec<u64>>>, Send) {
        let versions = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&versions);
        let send = move |message: ToWorker| {
            if let ToWorker::Snapshot(snapshot) = message {
                kept.borrow_mut().push(snapshot.version);
            }
            true
        };
        (versions, Box::new(send))
    }

    #[test]
    fn a_slow_core_skips_versions() {
        let (fast, fast_send) = mailbox();
        let (slow, slow_send) = mailbox();
        let first = Arc::new(fixtures::snapshot(1));
        let mut broadcast = Broadcast::new(first, [(0, fast_send), (3, slow_send)]);
        assert!(broadcast.settled());
        for version in 2..=5 {
            broadcast.publish(Arc::new(fixtures::snapshot(version)));
            broadcast.applied(0, version);
            assert!(!broadcast.settled());
        }
        assert_eq!(*fast.borrow(), [2, 3, 4, 5]);
        assert_eq!(*slow.borrow(), [2], "one on its way, the others are not queued");
        broadcast.applied(3, 2);
        assert_eq!(*slow.borrow(), [2, 5], "then the newest");
        broadcast.applied(3, 5);
        assert!(broadcast.settled());
    }
}
