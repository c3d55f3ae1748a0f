//! Hash tables small enough for 100,000 routes: eight bytes a slot, any number of slots.
//!
//! Keys come from the configuration; a request only looks up. So a client that knows the hash can
//! find the longest chain but not make one, and no secret seed is needed.

/// A hash of `bytes` within the key space `seed`. Quick for short keys; not against an adversary.
pub(in crate::policy) fn hash(seed: u32, bytes: &[u8]) -> u64 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xD6E8_FEB8_6659_FD93;
    let mut state = (u64::from(seed) ^ A).wrapping_add((bytes.len() as u64) << 32);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        state = fold(state ^ word(chunk), B);
    }
    fold(fold(state ^ word(chunks.remainder()), A), B)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Multiplies and folds the two halves together, so that every bit counts.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    (product as u64) ^ ((product >> 64) as u64)
}

/// No item: the mark of an empty slot, and of a link that leads nowhere.
pub(super) const NONE: u32 = u32::MAX;

/// From keys to item numbers; the keys themselves lie with the items.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Half of the hash: tells most strangers apart without a look at the item.
    tag: u32,
    item: u32,
}

impl Index {
    /// An index of items with these hashes; their keys are distinct.
    pub(super) fn build(items: impl ExactSizeIterator<Item = (u64, u32)>) -> Self {
        let count = items.len();
        if count == 0 {
            return Self::default();
        }
        let mut slots = vec![Slot { tag: 0, item: NONE }; count * 3 / 2 + 1].into_boxed_slice();
        for (hash, item) in items {
            let mut at = first_slot(hash, slots.len());
            while slots[at].item != NONE {
                at = next_slot(at, slots.len());
            }
            slots[at] = Slot { tag: hash as u32, item };
        }
        Self { slots }
    }

    /// The item with this hash that `is` says is the one.
    pub(super) fn get(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = first_slot(hash, self.slots.len());
        loop {
            let slot = self.slots[at];
            if slot.item == NONE {
                return None; // a third of the slots is empty, so this comes soon
            }
            if slot.tag == hash as u32 && is(slot.item) {
                return Some(slot.item);
            }
            at = next_slot(at, self.slots.len());
        }
    }
}

/// Spreads the high half of the hash over `slots`, without a division.
pub(super) fn first_slot(hash: u64, slots: usize) -> usize {
    (((hash >> 32) * slots as u64) >> 32) as usize
}

pub(super) fn next_slot(at: usize, slots: usize) -> usize {
    if at + 1 == slots { 0 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_finds_each_key_and_no_other() {
        let keys: Vec<String> = (0..10_000).map(|n| format!("/service-{n}/items")).collect();
        let hashes = keys.iter().map(|key| hash(7, key.as_bytes()));
        let index = Index::build(hashes.zip(0..10_000).collect::<Vec<_>>().into_iter());
        let get = |key: &str| index.get(hash(7, key.as_bytes()), |item| keys[item as usize] == key);
        for (item, key) in keys.iter().enumerate() {
            assert_eq!(get(key), Some(item as u32));
        }
        for n in 10_000..20_000 {
            assert_eq!(get(&format!("/service-{n}/items")), None);
        }
        assert_eq!(Index::default().get(5, |_| true), None);
    }

    #[test]
    fn hashes_spread_over_the_slots() {
        // Chains stay short for keys that differ in little: by chance alone the longest is near 20.
        let keys: Vec<String> = (0..100_000).map(|n| format!("/{n}")).collect();
        let mut taken = vec![0_u8; 150_000];
        for key in &keys {
            taken[first_slot(hash(0, key.as_bytes()), 150_000)] += 1;
        }
        assert!(taken.iter().all(|count| *count < 10));
    }
}
