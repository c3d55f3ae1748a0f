//! The order of candidates, as one number for each place where a route can match.
//!
//! Of two candidates the one wins that comes first by
//!
//! 1. priority, higher first;
//! 2. host: exact, then the longest wildcard, then any;
//! 3. path class: exact, parameters, regex, prefix or rest;
//! 4. segment by segment from the left (classes 2 and 4): literal, `{x:regex}`, `{x}`, rest;
//! 5. number of conditions, more first;
//! 6. order in the files.
//!
//! Both candidates match the same request, so where both have a literal it is the same one, and
//! two wildcards are suffixes of one host: their length orders them. So the order never depends on
//! the request, and routes can be numbered once, when the table is built.

use super::pattern::{Segment, Segments, Tail};

/// The place of an entry among all entries of a table; lower wins.
pub(super) type Rank = u32;

/// After all.
pub(super) const RANK_LAST: Rank = Rank::MAX;

/// Which of the four path classes; the order of the variants is the order of candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathClass {
    Exact,
    Parameters,
    Regex,
    Prefix,
}

/// What an entry is sorted by, all but the order in the files; smaller comes first. Priority, host, class and shape in
/// one number, then conditions, for quick comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankKey(u128, u32);

impl RankKey {
    /// `shape` is the place of the path's [`shape`] among all shapes of the table.
    pub(super) fn new(
        priority: i64,
        host: HostRank,
        class: PathClass,
        shape: u32,
        conditions: u32,
    ) -> Self {
        let place = u64::from(host.0) << 48 | (class as u64) << 32 | u64::from(shape);
        let first = u128::from(mirror_priority(priority)) << 64 | u128::from(place);
        Self(first, u32::MAX - conditions)
    }

    /// The same for each key that is the same.
    pub(super) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.0.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.1.to_ne_bytes());
        bytes
    }
}

/// How specific a host pattern is; smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostRank(u16);

impl HostRank {
    pub(super) const EXACT: Self = Self(0);
    pub(super) const ANY: Self = Self(u16::MAX);

    /// Of a wildcard, by the bytes of its suffix.
    pub(super) fn wildcard(suffix: &[u8]) -> Self {
        Self(u16::MAX - 1 - suffix.len().min(1_000) as u16)
    }
}

/// `priority` so that the highest is the smallest, for all values.
fn mirror_priority(priority: i64) -> u64 {
    !(priority as u64 ^ 1 << 63)
}

/// The kinds of the segments, which compare bytewise as the order asks.
pub(super) fn shape(segments: &Segments<'_>, out: &mut Vec<u8>) {
    out.extend(segments.list.iter().map(|segment| match segment {
        Segment::Literal(_) => 0_u8,
        Segment::Regex(_) => 1,
        Segment::Any => 2,
    }));
    if segments.tail != Tail::End {
        out.push(3); // a rest is less specific than any segment, so the longer one wins
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pattern::Pattern, *};

    fn shape_of(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        shape(&Pattern::parse(text).unwrap().resolve(true).unwrap(), &mut out);
        out
    }

    #[test]
    fn segments_compare_from_the_left() {
        let ordered = [
            "/a/b/{*rest}",
            "/a/{x:b}/{*rest}",
            "/a/{x}/b/{*rest}",
            "/a/{x}/{*rest}",
            "/a/{*rest}",
            "/{x:a}/{*rest}",
            "/{x}/b/c/{*rest}",
            "/{x}/{*rest}",
            "/{*rest}",
        ];
        for pair in ordered.windows(2) {
            assert!(shape_of(pair[0]) < shape_of(pair[1]), "{pair:?}");
        }
        assert_eq!(shape_of("/{x:a}/{y}"), shape_of("/{x:b}/{z}"), "regexes are alike");
    }

    #[test]
    fn hosts_compare_by_class_and_length() {
        let [long, short] = [HostRank::wildcard(b"b.a.test"), HostRank::wildcard(b"a.test")];
        assert!(HostRank::EXACT < long && long < short && short < HostRank::ANY);
    }

    #[test]
    fn all_priorities_are_mirrored() {
        let sorted = [i64::MIN, -1, 0, 1, i64::MAX].map(mirror_priority);
        assert!(sorted.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn what_comes_first_in_the_order_decides_first() {
        let (any, exact) = (HostRank::ANY, HostRank::EXACT);
        let sorted = [
            RankKey::new(2, any, PathClass::Prefix, u32::MAX, 0),
            RankKey::new(-1, exact, PathClass::Prefix, u32::MAX, 0),
            RankKey::new(-1, any, PathClass::Regex, u32::MAX, 0),
            RankKey::new(-1, any, PathClass::Prefix, 1, 0),
            RankKey::new(-1, any, PathClass::Prefix, 2, 5),
            RankKey::new(-1, any, PathClass::Prefix, 2, 4),
        ];
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
