//! Round-robin: each in turn, and as often as its weight says.
//!
//! Equal weights need a cursor. Unequal ones are spread by strides: each member has a point at which
//! it is due, and after its turn is due one stride (the inverse of its weight) later; the earliest
//! is next, found by a heap. First points lie half a stride in. So after T picks each of n members
//! with the share p has had its T·p, less or more by at most 1/2 + n·p/2, in whatever state the
//! rotation began.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{Ask, Rotation, Strategy};
use crate::base::ids::EndpointIndex;

/// The stride of weight 1. Strides of the largest weights keep 22 bit, so that rounding costs one
/// request in millions.
const STRIDE_WHOLE: u64 = 1 << 48;

/// When points are moved back towards 0: they grow by one stride at most after that.
const POINT_MAX: u64 = 1 << 62;

/// When a member is due, and its position in the rotation.
type Due = Reverse<(u64, u16)>;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    core: u32,
    is_new: bool,
    /// Of equal weights: the position of the next.
    cursor: usize,
    /// Of unequal ones.
    due: BinaryHeap<Due>,
    /// Those passed over in one pick.
    aside: Vec<Due>,
    endpoints: Vec<EndpointIndex>,
    strides: Vec<u64>,
}

impl Turns {
    pub(super) fn new(core: u32) -> Self {
        Self {
            core,
            is_new: true,
            cursor: 0,
            due: BinaryHeap::new(),
            aside: Vec::new(),
            endpoints: Vec::new(),
            strides: Vec::new(),
        }
    }

    fn pick_by_cursor(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let members = rotation.members();
        for _ in 0..members.len() {
            let endpoint = members.get(self.cursor)?.endpoint;
            self.cursor = if self.cursor + 1 < members.len() { self.cursor + 1 } else { 0 };
            if !ask.avoids(endpoint) {
                return Some(endpoint);
            }
        }
        None
    }

    fn pick_by_stride(&mut self, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let picked = loop {
            let Some(mut top) = self.due.peek_mut() else { break None };
            let (point, position) = top.0;
            let endpoint = *self.endpoints.get(usize::from(position))?;
            if !ask.avoids(endpoint) {
                let stride = self.strides.get(usize::from(position)).copied().unwrap_or(1);
                *top = Reverse((point + stride, position));
                break Some((endpoint, point));
            }
            self.aside.push(std::collections::binary_heap::PeekMut::pop(top));
        };
        self.due.extend(self.aside.drain(..));
        let (endpoint, point) = picked?;
        if point > POINT_MAX {
            self.move_back(point);
        }
        Some(endpoint)
    }

    #[cold]
    fn move_back(&mut self, by: u64) {
        let moved = self
            .due
            .drain()
            .map(|Reverse((point, position))| Reverse((point.saturating_sub(by), position)));
        let moved: Vec<Due> = moved.collect();
        self.due.extend(moved);
    }

    /// How much of a stride each endpoint is still away from its turn.
    fn waits(&self) -> HashMap<EndpointIndex, f64> {
        let Some(Reverse((now, _))) = self.due.peek().copied() else { return HashMap::new() };
        let wait = |Reverse((point, position)): &Due| {
            let position = usize::from(*position);
            let strides = (point - now) as f64 / self.strides[position] as f64;
            (self.endpoints[position], strides.min(1.0))
        };
        self.due.iter().map(wait).collect()
    }

    fn restart(&mut self, rotation: &Rotation) {
        let waits = self.waits();
        let members = rotation.members();
        self.endpoints.clear();
        self.endpoints.extend(members.iter().map(|one| one.endpoint));
        self.strides.clear();
        self.strides.extend(members.iter().map(|one| STRIDE_WHOLE / u64::from(one.weight.max(1))));
        let due = self.strides.iter().zip(members).enumerate().map(|(position, (stride, one))| {
            let wait = waits.get(&one.endpoint).copied().unwrap_or(0.5);
            Reverse(((*stride as f64 * wait) as u64, position as u16))
        });
        self.due = due.collect();
        self.aside.clear();
        self.aside.reserve(members.len());
    }
}

impl Strategy for Turns {
    fn update(&mut self, rotation: &Rotation) {
        let count = rotation.members().len();
        if std::mem::take(&mut self.is_new) {
            self.cursor = self.core as usize;
        }
        self.cursor = self.cursor.checked_rem(count).unwrap_or(0);
        if rotation.is_uniform() {
            self.due.clear();
            return;
        }
        let is_first = self.due.is_empty();
        self.restart(rotation);
        if is_first {
            // A cycle is as long as the sum of the weights; these steps are enough to begin elsewhere.
            let nothing = Ask { random: 0, key: None, avoid: &[], load: &super::least::Idle };
            for _ in 0..self.cursor {
                self.pick_by_stride(&nothing);
            }
        }
    }

    #[inline]
    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        if self.due.is_empty() {
            self.pick_by_cursor(rotation, ask)
        } else {
            self.pick_by_stride(ask)
        }
    }
}
