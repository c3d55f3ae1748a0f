//! The table of routes with the builder that made it, which takes the changes of the next reading: of
//! 10,000 routes a change touches a few, and only those are checked and put in or out.

use std::{collections::HashMap, iter, sync::Arc};

use super::kept::{Fit, KeptTable, Reading};
use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex},
        pace,
    },
    policy::route::{Conflict, RouteNumber, RouteTable, TableBuilder},
};

/// What was made of routes that match some way.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) table: Arc<RouteTable>,
    pub(super) conflicts: Box<[Conflict]>,
    builder: TableBuilder,
    /// Of each route, by position.
    numbers: Vec<RouteNumber>,
}

impl Built {
    /// Of a builder that was told all routes, and the number it gave to each.
    pub(super) fn new(builder: TableBuilder, numbers: Vec<RouteNumber>) -> Self {
        let layout = builder.lay_out();
        let conflicts = layout.conflicts().into();
        let table = Arc::new(layout.build());
        Self { table, conflicts, builder, numbers }
    }

    /// Of routes that were read before. `None` if one of them is not taken.
    pub(super) fn anew(
        mut builder: TableBuilder,
        readings: &[Arc<Reading>],
        listeners_of: impl Fn(&Fit) -> Vec<ListenerIndex>,
    ) -> Option<Self> {
        let positions = readings.iter().enumerate();
        let numbers = positions.map(|(position, reading)| {
            pace::step();
            add(&mut builder, position, reading, &listeners_of)
        });
        let numbers = numbers.collect::<Option<_>>()?;
        Some(Self::new(builder, numbers))
    }

    /// Of routes most of which were in a table for the same listeners before. `None` if one of them is
    /// not taken.
    pub(super) fn again(
        old: &KeptTable,
        readings: &[Arc<Reading>],
        listeners_of: impl Fn(&Fit) -> Vec<ListenerIndex>,
    ) -> Option<Self> {
        let before = positions_before(&old.readings, readings);
        let old = &*old.built;
        let mut stays = vec![None; old.numbers.len()];
        for (position, before) in before.iter().enumerate() {
            if let Some(before) = before {
                stays[*before as usize] = Some(position as u32);
            }
        }
        pace::long_step();
        let mut builder = old.builder.clone();
        pace::long_step();
        for (number, _) in old.numbers.iter().zip(&stays).filter(|(_, stays)| stays.is_none()) {
            pace::step();
            builder.remove(*number);
        }
        let mut numbers = Vec::with_capacity(readings.len());
        let mut new = Vec::new();
        for (position, (reading, before)) in readings.iter().zip(before).enumerate() {
            pace::step();
            let number = match before {
                Some(before) => old.numbers[before as usize],
                None => add(&mut builder, position, reading, &listeners_of)?,
            };
            match before {
                Some(before) if before as usize == position => {}
                Some(_) => builder.renumber(number, RouteIndex(position as u32)),
                None => new.push(number),
            }
            numbers.push(number);
        }
        let shadowed = old.conflicts.iter().filter_map(|conflict| match conflict {
            Conflict::Shadowed { route, .. } | Conflict::Same { second: route, .. } => {
                stays[route.0 as usize].map(|_| old.numbers[route.0 as usize])
            }
        });
        let layout = builder.lay_out();
        let conflicts = layout.conflicts_again(&new, &shadowed.collect::<Vec<_>>()).into();
        let table = Arc::new(layout.build());
        Some(Self { table, conflicts, builder, numbers })
    }

    /// Whether a new builder would be a good deal smaller.
    pub(super) fn is_sparse(&self) -> bool {
        self.builder.is_sparse()
    }
}

fn add(
    builder: &mut TableBuilder,
    position: usize,
    reading: &Reading,
    listeners_of: impl Fn(&Fit) -> Vec<ListenerIndex>,
) -> Option<RouteNumber> {
    let matching = &reading.matching;
    let spec = matching.spec(listeners_of(&reading.fit));
    builder.add_again(RouteIndex(position as u32), &spec, matching.groups)
}

/// Where each of `new` stood in `old`, for those that match as one there; ascending, so that those
/// have the order that they had.
fn positions_before(old: &[Arc<Reading>], new: &[Arc<Reading>]) -> Vec<Option<u32>> {
    let alike = |(old, new): &(&Arc<Reading>, &Arc<Reading>)| old.matches_as(new);
    let first = old.iter().zip(new).take_while(alike).count();
    let (old_rest, new_rest) = (&old[first..], &new[first..]);
    let last = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(alike).count();
    let old_middle = &old_rest[..old_rest.len() - last];
    let new_middle = &new_rest[..new_rest.len() - last];
    let middle = in_place(old_middle, new_middle).unwrap_or_else(|| moved(old_middle, new_middle));
    let middle = middle.into_iter().map(|place| Some(place? + first as u32));
    let behind = old.len() - last..old.len();
    (0..first as u32)
        .map(Some)
        .chain(middle)
        .chain(behind.map(|place| Some(place as u32)))
        .collect()
}

/// The same where most routes stand in the place that they had.
fn in_place(old: &[Arc<Reading>], new: &[Arc<Reading>]) -> Option<Vec<Option<u32>>> {
    let pairs = iter::zip(old, new).zip(0..);
    let places = pairs.map(|((old, new), place)| old.matches_as(new).then_some(place));
    let places: Vec<_> = places.collect();
    let changed = places.iter().filter(|place| place.is_none()).count();
    (old.len() == new.len() && changed <= old.len() / 4).then_some(places)
}

/// The same wherever they stood, by the longest row of them that has its old order.
fn moved(old: &[Arc<Reading>], new: &[Arc<Reading>]) -> Vec<Option<u32>> {
    let places: HashMap<*const Reading, u32> = old.iter().map(Arc::as_ptr).zip(0..).collect();
    let mut found: Vec<Option<u32>> =
        new.iter().map(|one| places.get(&Arc::as_ptr(one)).copied()).collect();
    let row = longest_ascending(&found);
    let mut row = row.into_iter().peekable();
    for (position, place) in found.iter_mut().enumerate() {
        if row.next_if_eq(&position).is_none() {
            *place = None;
        }
    }
    found
}

/// Positions of the longest row of ascending numbers, by patience sorting.
fn longest_ascending(numbers: &[Option<u32>]) -> Vec<usize> {
    // By length of a row, the position of the lowest number that such a row ends with; and from each
    // position the one before it in its row.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![usize::MAX; numbers.len()];
    for (position, number) in numbers.iter().enumerate().filter(|(_, number)| number.is_some()) {
        pace::step();
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before[position] = length.checked_sub(1).map_or(usize::MAX, |shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = position,
            None => ends.push(position),
        }
    }
    let mut row = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(position) = at.filter(|at| *at != usize::MAX) {
        row.push(position);
        at = Some(before[position]);
    }
    row.reverse();
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_keeps_its_order() {
        let row = |numbers: &[i32]| {
            let numbers: Vec<_> = numbers.iter().map(|one| u32::try_from(*one).ok()).collect();
            longest_ascending(&numbers)
        };
        assert_eq!(row(&[]), [0; 0]);
        assert_eq!(row(&[-1, -1]), [0; 0]);
        assert_eq!(row(&[9, 0, 1, -1, 2]), [1, 2, 4]);
        assert_eq!(row(&[0, 1, 2, 2, 3]), [0, 1, 3, 4]);
        assert_eq!(row(&[3, 4, 0, 1, 2]), [2, 3, 4]);
    }
}
