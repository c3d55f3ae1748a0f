//! Places for what a core keeps by [`Identity`]: a value there, none yet, or one whose time is over.
//!
//! [`Upstreams`](super::Upstreams) keeps states and pools in them; their tests are there.

use std::{cell::RefCell, rc::Rc};

use crate::base::ids::Identity;

/// A place, and the least generation that may still be kept there.
struct Slot<T> {
    generation: u32,
    value: Option<Rc<T>>,
}

/// Values by identity.
pub(super) struct Slots<T> {
    slots: RefCell<Vec<Slot<T>>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: RefCell::default() }
    }
}

/// How a place answers.
pub(super) enum Kept<T> {
    /// It is there.
    Here(Rc<T>),
    /// It may be put there.
    Missing,
    /// Its time is over.
    Gone,
}

impl<T> Slots<T> {
    pub(super) fn get(&self, identity: Identity) -> Kept<T> {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(identity.place as usize) else { return Kept::Missing };
        match &slot.value {
            _ if slot.generation > identity.generation => Kept::Gone,
            Some(value) if slot.generation == identity.generation => Kept::Here(Rc::clone(value)),
            _ => Kept::Missing,
        }
    }

    /// Puts a value in its place and returns who was there before.
    pub(super) fn put(&self, identity: Identity, value: &Rc<T>) -> Option<Rc<T>> {
        let slot = Slot { generation: identity.generation, value: Some(Rc::clone(value)) };
        self.replace(identity.place, slot)
    }

    /// Ends a value: nothing of this generation is kept from now on.
    pub(super) fn end(&self, identity: Identity) -> Option<Rc<T>> {
        match self.get(identity) {
            Kept::Gone => None,
            _ => {
                let generation = identity.generation.saturating_add(1);
                self.replace(identity.place, Slot { generation, value: None })
            }
        }
    }

    fn replace(&self, place: u32, slot: Slot<T>) -> Option<Rc<T>> {
        let mut slots = self.slots.borrow_mut();
        let place = place as usize;
        if slots.len() <= place {
            slots.resize_with(place + 1, || Slot { generation: 0, value: None });
        }
        std::mem::replace(&mut slots[place], slot).value
    }

    /// Does something with each value there is.
    pub(super) fn each(&self, mut visit: impl FnMut(&T)) {
        self.slots.borrow().iter().filter_map(|slot| slot.value.as_deref()).for_each(&mut visit);
    }
}
