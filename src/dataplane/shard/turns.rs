//! How many of something may be under way at once.

use std::{cell::Cell, rc::Rc};

/// A bound that is kept by counting.
#[derive(Default)]
pub struct Turns {
    under_way: Rc<Cell<usize>>,
}

impl Turns {
    /// Begins one more, if there are less than `max`.
    pub fn begin(&self, max: usize) -> Option<Turn> {
        let count = self.under_way.get();
        if count >= max {
            return None;
        }
        self.under_way.set(count + 1);
        Some(Turn { under_way: Rc::clone(&self.under_way) })
    }
}

/// One that is under way; it ends when this is dropped, also by a panic.
pub struct Turn {
    under_way: Rc<Cell<usize>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_ends_makes_room_for_another() {
        let turns = Turns::default();
        let (one, two) = (turns.begin(2), turns.begin(2));
        assert!(one.is_some() && two.is_some() && turns.begin(2).is_none());
        drop(one);
        assert!(turns.begin(2).is_some());
    }
}
