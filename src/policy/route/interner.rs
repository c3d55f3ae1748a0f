//! Numbers for keys, while tables are built and changed.

use super::hash::{NONE, first_slot, hash, next_slot};

/// Gives equal keys the same number, and counts who uses it: a key that nobody uses any more is gone,
/// and its number is given to another.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    /// The keys, and what is left of those that are gone.
    bytes: Vec<u8>,
    keys: Vec<Key>,
    slots: Vec<u32>,
    /// Numbers that no key has.
    free: Vec<u32>,
    /// Bytes of keys that are gone.
    gone_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    hash: u64,
    /// Its place in [`Interner::bytes`], and its length.
    start: u32,
    len: u32,
    /// Its key space.
    seed: u32,
    /// 0 if the number is free.
    users: u32,
}

impl Interner {
    /// The number of the key `bytes` in the key space `seed`, which has one more user now, and whether
    /// it is new.
    pub(super) fn intern(&mut self, seed: u32, bytes: &[u8]) -> (u32, bool) {
        if (self.keys.len() - self.free.len()) * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash(seed, bytes);
        let free = match self.look_up(hash, seed, bytes) {
            Ok(number) => {
                self.hold(number);
                return (number, false);
            }
            Err(free) => free,
        };
        let (start, len) = (self.bytes.len() as u32, bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        let number = self.number(Key { hash, start, len, seed, users: 1 });
        self.slots[free] = number;
        (number, true)
    }

    /// The number of a key that is known.
    pub(super) fn find(&self, seed: u32, bytes: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.look_up(hash(seed, bytes), seed, bytes).ok()
    }

    /// The number of a key, or else the slot where it would be.
    fn look_up(&self, hash: u64, seed: u32, bytes: &[u8]) -> Result<u32, usize> {
        let mut at = first_slot(hash, self.slots.len());
        while self.slots[at] != NONE {
            let number = self.slots[at];
            let key = &self.keys[number as usize];
            if key.hash == hash && key.seed == seed && self.is_text(key, bytes) {
                return Ok(number);
            }
            at = next_slot(at, self.slots.len());
        }
        Err(at)
    }

    /// One more uses this key.
    pub(super) fn hold(&mut self, number: u32) {
        self.keys[number as usize].users += 1;
    }

    /// One that used this key does not any more. Whether it was the last, and the key is gone.
    pub(super) fn release(&mut self, number: u32) -> bool {
        let key = &mut self.keys[number as usize];
        key.users -= 1;
        if key.users > 0 {
            return false;
        }
        self.gone_bytes += key.len as usize;
        self.clear_slot(number);
        self.free.push(number);
        if self.gone_bytes > self.bytes.len() / 2 {
            self.close_up();
        }
        true
    }

    /// Whether a key is these bytes. Nothing is compared with nothing by its length alone: what an empty slice
    /// points at may be no memory, and there memcmp(3) takes some 200 ns, by profiles: it seems to fault in vain.
    fn is_text(&self, key: &Key, bytes: &[u8]) -> bool {
        let start = key.start as usize;
        key.len as usize == bytes.len()
            && (bytes.is_empty() || self.bytes[start..start + bytes.len()] == *bytes)
    }

    /// The key with this number.
    pub(super) fn get(&self, number: u32) -> &[u8] {
        let key = &self.keys[number as usize];
        &self.bytes[key.start as usize..(key.start + key.len) as usize]
    }

    /// The key space of this key.
    pub(super) fn seed(&self, number: u32) -> u32 {
        self.keys[number as usize].seed
    }

    /// Its [`hash`].
    pub(super) fn hash(&self, number: u32) -> u64 {
        self.keys[number as usize].hash
    }

    /// The numbers that keys have, ascending.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let used = |(number, key): (usize, &Key)| (key.users > 0).then_some(number as u32);
        self.keys.iter().enumerate().filter_map(used)
    }

    /// One more than the highest number that a key has had.
    pub(super) fn bound(&self) -> usize {
        self.keys.len()
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len() - self.free.len()
    }

    /// Gives a key a number.
    fn number(&mut self, key: Key) -> u32 {
        if let Some(number) = self.free.pop() {
            self.keys[number as usize] = key;
            return number;
        }
        self.keys.push(key);
        self.keys.len() as u32 - 1
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(16);
        self.slots = vec![NONE; slots];
        for (number, key) in self.keys.iter().enumerate().filter(|(_, key)| key.users > 0) {
            let mut at = first_slot(key.hash, slots);
            while self.slots[at] != NONE {
                at = next_slot(at, slots);
            }
            self.slots[at] = number as u32;
        }
    }

    /// Empties the slot of a key, and moves those behind it up that would not be found else.
    fn clear_slot(&mut self, number: u32) {
        let slots = self.slots.len();
        let home = |keys: &[Key], number: u32| first_slot(keys[number as usize].hash, slots);
        let ahead = |from: usize, to: usize| if to < from { to + slots - from } else { to - from };
        let mut hole = home(&self.keys, number);
        while self.slots[hole] != number {
            hole = next_slot(hole, slots);
        }
        let mut at = next_slot(hole, slots);
        while self.slots[at] != NONE {
            let home = home(&self.keys, self.slots[at]);
            if ahead(home, at) >= ahead(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = next_slot(at, slots);
        }
        self.slots[hole] = NONE;
    }

    /// Moves the keys together.
    fn close_up(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.gone_bytes);
        for key in self.keys.iter_mut().filter(|key| key.users > 0) {
            let old = key.start as usize;
            key.start = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[old..old + key.len as usize]);
        }
        (self.bytes, self.gone_bytes) = (bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interned_keys_keep_their_number() {
        let mut interner = Interner::default();
        let numbers: Vec<_> =
            (0..1_000_u32).map(|n| interner.intern(n % 3, format!("k{n}").as_bytes()).0).collect();
        for n in 0..1_000_u32 {
            let key = format!("k{n}");
            assert_eq!(interner.intern(n % 3, key.as_bytes()), (numbers[n as usize], false));
            assert_eq!(interner.find(n % 3, key.as_bytes()), Some(numbers[n as usize]));
            assert_eq!(interner.find(n % 3 + 1, key.as_bytes()), None);
            assert_eq!(interner.get(numbers[n as usize]), key.as_bytes());
        }
        assert_eq!(interner.len(), 1_000);
    }

    /// Keys come and go: at each moment those that are used are found, and no others.
    #[test]
    fn keys_that_nobody_uses_are_gone_and_the_others_stay() {
        let mut interner = Interner::default();
        let mut known = std::collections::HashMap::new();
        let mut random = 1_u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (random >> 33) % 700;
            let (seed, text) = (n as u32 % 2, format!("/service-{n}"));
            let (number, users) = known.entry(n).or_insert((NONE, 0_u32));
            if *users > 0 && (random >> 20).is_multiple_of(2) {
                *users -= 1;
                assert_eq!(interner.release(*number), *users == 0);
            } else {
                let (new_number, is_new) = interner.intern(seed, text.as_bytes());
                assert_eq!(is_new, *users == 0);
                assert!(is_new || new_number == *number);
                (*number, *users) = (new_number, *users + 1);
            }
            if step % 500 == 0 {
                for (n, (number, users)) in &known {
                    let found = interner.find(*n as u32 % 2, format!("/service-{n}").as_bytes());
                    assert_eq!(found, (*users > 0).then_some(*number));
                }
                let used = known.values().filter(|(_, users)| *users > 0).count();
                assert_eq!((interner.len(), interner.numbers().count()), (used, used));
            }
        }
        let longest = 700 * "/service-123".len();
        assert!(
            interner.bound() <= 700 && interner.bytes.len() <= 2 * longest,
            "they are used again"
        );
    }
}
