//! How many connections an upstream has, over all cores, where their number is limited; and which core
//! gets the next one. Exact: a connection that is opened or closed is one atomic operation on a line
//! that nothing else touches. No core starves: while others wait, a core gives up what it has beyond
//! its share. Pure but for the counters.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// How one core stands.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// Which core, counted from 0.
    pub core: u32,
    /// How many there are.
    pub cores: u32,
    /// Connections it has.
    pub held: u32,
    /// Its requests that wait for one.
    pub waiting: u32,
}

/// The connections of one upstream, all cores together.
#[derive(Debug, Default)]
pub struct ConnectionsCell {
    open: AtomicU32,
    waiting: AtomicU32,
    /// The core that opened the last one.
    last: AtomicU32,
}

impl ConnectionsCell {
    /// Takes a place for one more connection under a limit of `max`; whether there was one. To be given
    /// back by [`ConnectionsCell::give_back`].
    ///
    /// While others wait, a core that has its share leaves places to them; those beyond all shares go
    /// to any core but the one that got the last: so where there are fewer than cores, they go round.
    pub fn take(&self, max: u32, holder: Holder) -> bool {
        if self.others_waiting(holder) > 0
            && holder.held >= max / holder.cores.max(1)
            && self.last.load(Relaxed) == holder.core
        {
            return false;
        }
        let next = |count: u32| (count < max).then_some(count + 1);
        let is_taken = self.open.fetch_update(AcqRel, Relaxed, next).is_ok();
        if is_taken {
            self.last.store(holder.core, Relaxed);
        }
        is_taken
    }

    /// Gives a place back.
    pub fn give_back(&self) {
        let before = self.open.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "each place is given back once");
    }

    /// Whether a core may keep a connection that has served its request.
    pub fn may_keep(&self, max: u32, holder: Holder) -> bool {
        let is_fair = self.others_waiting(holder) == 0 || holder.held <= max / holder.cores.max(1);
        is_fair && self.open() <= max
    }

    /// How many requests of other cores wait for a connection.
    pub fn others_waiting(&self, holder: Holder) -> u32 {
        self.waiting.load(Relaxed).saturating_sub(holder.waiting)
    }

    /// Connections there are.
    pub fn open(&self) -> u32 {
        self.open.load(Acquire)
    }

    /// A request begins to wait for one. To be followed by [`ConnectionsCell::stop_waiting`].
    pub fn wait(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// It no longer does.
    pub fn stop_waiting(&self) {
        let before = self.waiting.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "who stops had begun");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cores that always have more requests than connections; each turn one of them, by chance, ends a
    /// request, or looks whether there is a place.
    fn served(max: u32, cores: u32, turns: u64) -> Vec<u32> {
        let cell = ConnectionsCell::default();
        let mut held = vec![0_u32; cores as usize];
        let mut served = vec![0_u32; cores as usize];
        (0..cores).for_each(|_| cell.wait());
        let mut seed = u64::from(max) << 8 | u64::from(cores);
        for _ in 0..turns {
            seed = crate::policy::balance::next_random(seed);
            let at = (seed >> 33) as usize % cores as usize;
            let mut holder = Holder { core: at as u32, cores, held: held[at], waiting: 1 };
            if held[at] > 0 && seed & 1 == 0 {
                served[at] += 1;
                if !cell.may_keep(max, holder) {
                    cell.give_back();
                    held[at] -= 1;
                    holder.held = held[at];
                }
            }
            if cell.take(max, holder) {
                held[at] += 1;
            }
            assert_eq!(held.iter().sum::<u32>(), cell.open());
            assert!(cell.open() <= max);
        }
        served
    }

    #[test]
    fn no_core_starves_whatever_the_limit() {
        for (max, cores) in [(1, 2), (2, 2), (3, 2), (4, 2), (1, 4), (3, 4), (5, 4), (64, 16)] {
            let served = served(max, cores, 200_000);
            let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
            assert!(least * 3 > *most, "{max} for {cores} cores: {served:?}");
        }
    }

    #[test]
    fn a_core_alone_gets_all_and_gives_way_when_others_come() {
        let cell = ConnectionsCell::default();
        let a = |held| Holder { core: 0, cores: 2, held, waiting: 0 };
        let b = |held| Holder { core: 1, cores: 2, held, waiting: 1 };
        assert!((0..4).all(|held| cell.take(4, a(held))) && !cell.take(4, a(4)));
        assert!(cell.may_keep(4, a(4)), "nobody else wants it");
        cell.wait();
        assert!(!cell.take(4, b(0)));
        assert!(!cell.may_keep(4, a(4)) && !cell.may_keep(4, a(3)) && cell.may_keep(4, a(2)));
        cell.give_back();
        assert!(!cell.take(4, a(3)), "it is for the other one");
        assert!(cell.take(4, b(0)));
        cell.stop_waiting();
        assert!(cell.may_keep(4, a(3)));
        assert!(!cell.may_keep(2, a(3)), "the limit was lowered");
    }

    #[test]
    fn cores_that_take_at_once_never_exceed_it() {
        let cell = ConnectionsCell::default();
        std::thread::scope(|scope| {
            for core in 0..4 {
                let cell = &cell;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if cell.take(3, Holder { core, cores: 4, held: 0, waiting: 0 }) {
                            assert!(cell.open() <= 3);
                            cell.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(cell.open(), 0);
    }
}
