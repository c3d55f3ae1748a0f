//! The requests under way on a connection to an endpoint, each at its place: where its driver finds them. A stream holds no
//! place open: it leaves when it is dropped.

use std::rc::{Rc, Weak};

use super::stream::Stream;

/// The streams of a connection.
#[derive(Default)]
pub(super) struct Places {
    places: Vec<Weak<Stream>>,
    free: Vec<usize>,
}

impl Places {
    /// A place for one more.
    pub(super) fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(Weak::new());
            self.places.len() - 1
        })
    }

    /// It is this stream's.
    pub(super) fn fill(&mut self, place: usize, stream: &Rc<Stream>) {
        self.places[place] = Rc::downgrade(stream);
    }

    /// Its stream has ended.
    pub(super) fn leave(&mut self, place: usize) {
        self.places[place] = Weak::new();
        self.free.push(place);
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Rc<Stream>> {
        self.places.iter().filter_map(Weak::upgrade)
    }

    /// The one with this number.
    #[cold]
    pub(super) fn find(&self, number: u32) -> Option<Rc<Stream>> {
        self.all().find(|stream| stream.number() == Some(number))
    }
}
