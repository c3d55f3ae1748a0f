//! Listeners that newer rules no longer have, as long as their connections may go on: with them the
//! last rules that had them.

use std::{cell::RefCell, rc::Rc};

use super::Table;
use crate::base::ids::ListenerId;

struct Left {
    listener: ListenerId,
    table: Rc<Table>,
    until_tick: u64,
}

/// The listeners on their way out; nearly always none.
#[derive(Default)]
pub(super) struct Leaving {
    left: RefCell<Vec<Left>>,
}

impl Leaving {
    /// Its connections are served by `table` until `until_tick`.
    pub(super) fn add(&self, listener: ListenerId, table: Rc<Table>, until_tick: u64) {
        self.left.borrow_mut().push(Left { listener, table, until_tick });
    }

    /// The last rules that had a listener, while its connections may go on.
    pub(super) fn table(&self, listener: ListenerId) -> Option<Rc<Table>> {
        let left = self.left.borrow();
        left.iter().find(|one| one.listener == listener).map(|one| Rc::clone(&one.table))
    }

    /// Forgets the listeners whose time is up, after telling `each`.
    pub(super) fn end(&self, now_tick: u64, each: impl Fn(ListenerId)) {
        let mut left = self.left.borrow_mut();
        if left.is_empty() {
            return;
        }
        left.retain(|one| {
            if now_tick >= one.until_tick {
                each(one.listener);
            }
            now_tick < one.until_tick
        });
    }
}
