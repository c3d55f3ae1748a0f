//! What a route's captures matched: ranges into the path.

use std::sync::Arc;

use regex::bytes::{CaptureLocations, Regex};

use crate::base::limits::CAPTURES_MAX;

/// A range of the path: start and end, bytes.
pub(super) type Span = (u32, u32);

/// The captures of one match, in the order the pattern names them. Pooled by the caller: it holds
/// no bytes of a client but ranges, and scratch space that [`Captures::clear`] empties.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    spans: [Span; CAPTURES_MAX],
    count: u8,
    /// Where values are put together that a regex needs in one piece.
    pub(super) scratch: Vec<u8>,
    /// Room for the groups of the regex used last; a route that is hit again allocates nothing.
    locations: Option<(Arc<Regex>, CaptureLocations)>,
}

impl Captures {
    /// Forgets the captures; keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.scratch.clear();
    }

    /// The number of captures.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The capture at `index` as start and end in the path, bytes; empty if it took no part.
    pub fn span(&self, index: usize) -> (usize, usize) {
        if index >= self.len() {
            return (0, 0);
        }
        let (start, end) = self.spans[index];
        (start as usize, end as usize)
    }

    pub(super) fn set(&mut self, spans: &[Span]) {
        let count = spans.len().min(CAPTURES_MAX);
        self.spans[..count].copy_from_slice(&spans[..count]);
        self.count = count as u8; // at most CAPTURES_MAX
    }

    /// Takes the named groups of `regex` in `path`.
    pub(super) fn set_groups(&mut self, regex: &Arc<Regex>, path: &[u8]) {
        self.count = 0;
        let known = self.locations.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, regex));
        if !known {
            self.locations = Some((Arc::clone(regex), regex.capture_locations()));
        }
        let Some((_, locations)) = &mut self.locations else { return };
        if regex.captures_read(locations, path).is_none() {
            return;
        }
        let named = regex.capture_names().enumerate().filter(|(_, name)| name.is_some());
        for (slot, (group, _)) in self.spans.iter_mut().zip(named) {
            let (start, end) = locations.get(group).unwrap_or((0, 0));
            *slot = (start as u32, end as u32);
            self.count += 1;
        }
    }
}
