//! The guards of the routes that a table is built of, equal ones once.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::{
    condition::{Guard, MethodBits, Want},
    regexes::{Purpose, Regexes},
    tree::bound,
};

/// The guard of a route without conditions.
pub(super) const GUARD_NONE: u32 = 0;

/// A guard by value: its methods, and each condition as sorted text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct GuardKey {
    pub(super) methods: MethodBits,
    pub(super) checks: Box<[Box<[u8]>]>,
}

/// All guards, each with how many routes have it.
#[derive(Clone, Debug)]
pub(super) struct Guards {
    numbers: HashMap<Arc<GuardKey>, u32>,
    list: Slab<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    key: Arc<GuardKey>,
    guard: Guard,
    users: u32,
}

impl Guards {
    /// Only [`GUARD_NONE`], which stays.
    pub(super) fn new() -> Self {
        let mut guards = Self { numbers: HashMap::new(), list: Slab::new() };
        let none = || Guard { methods: 0, checks: Arc::new([]) };
        guards.intern(GuardKey::default(), &mut Regexes::default(), none);
        guards
    }

    /// The number of the guard with these conditions, which one more route has now.
    pub(super) fn intern(
        &mut self,
        key: GuardKey,
        regexes: &mut Regexes,
        make: impl FnOnce() -> Guard,
    ) -> u32 {
        if let Some(number) = self.numbers.get(&key).copied() {
            self.hold(number);
            return number;
        }
        let (key, guard) = (Arc::new(key), make());
        numbers_of(&guard, regexes).into_iter().for_each(|regex| regexes.hold(regex));
        let number = self.list.insert(Known { key: Arc::clone(&key), guard, users: 1 }) as u32;
        self.numbers.insert(key, number);
        number
    }

    /// One more route has it.
    pub(super) fn hold(&mut self, number: u32) {
        self.list[number as usize].users += 1;
    }

    /// A route that had it is gone, and behind the last the guard as well.
    pub(super) fn release(&mut self, number: u32, regexes: &mut Regexes) {
        let known = &mut self.list[number as usize];
        known.users -= 1;
        if known.users == 0 {
            let Known { key, guard, .. } = self.list.remove(number as usize);
            numbers_of(&guard, regexes).into_iter().for_each(|regex| regexes.release(regex));
            self.numbers.remove(&key);
        }
    }

    /// What makes a guard equal to another.
    pub(super) fn key(&self, number: u32) -> &GuardKey {
        &self.list[number as usize].key
    }

    /// All of them by number; where there is none stands one without conditions.
    pub(super) fn list(&self) -> Box<[Guard]> {
        let none = &self.list[GUARD_NONE as usize].guard;
        let guard = |number| self.list.get(number).map_or(none, |known| &known.guard).clone();
        (0..bound(&self.list)).map(guard).collect()
    }
}

/// The numbers of the regexes that a guard asks.
fn numbers_of(guard: &Guard, regexes: &Regexes) -> Vec<u32> {
    let number = |want: &Want| match want {
        Want::Regex(regex) => regexes.find(Purpose::Value, regex.as_str()),
        Want::Present | Want::Literal(_) => None,
    };
    guard.checks.iter().filter_map(|check| number(&check.want)).collect()
}
