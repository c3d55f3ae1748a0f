//! Which responses of an endpoint have pseudo-fields where none may be, or a body without a head. The `h2` crate drops
//! pseudo-fields of requests, and all in trailers, without a word, and ends the connection for the other.

use super::block::Found;
use crate::base::limits;

/// What a peer has done that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// What an endpoint sends on this stream is malformed.
    Malformed(u32),
    /// An endpoint sends a body on this stream, which is malformed if a head is still waited for there. Otherwise the stream has
    /// ended, and that is the crate's.
    Headless(u32),
    /// The request of a client that this stream begins with is malformed.
    Request(u32),
}

/// The responses of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses {
    /// The stream of the block that is being read, and whether it ends with it.
    stream: u32,
    ends: bool,
    /// Streams that have their final head, and more to come. One that ringway has reset may stay.
    answered: Vec<u32>,
    /// What it was found to have done.
    pub(super) suspects: Vec<Suspect>,
}

impl Responses {
    /// HEADERS begin.
    pub(super) fn begin(&mut self, stream: u32, ends: bool) {
        (self.stream, self.ends) = (stream, ends);
    }

    /// Nothing more comes on a stream.
    pub(super) fn end(&mut self, stream: u32) {
        if let Some(at) = self.answered.iter().position(|one| *one == stream) {
            self.answered.remove(at);
        }
    }

    /// DATA come.
    pub(super) fn take_data(&mut self, stream: u32, ends: bool) {
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.1
        //# one HEADERS frame (followed by zero or more CONTINUATION frames)
        //# containing the header section
        match self.answered.iter().position(|one| *one == stream) {
            Some(at) if ends => drop(self.answered.remove(at)),
            Some(_) => {}
            None => self.suspect(Suspect::Headless(stream)),
        }
    }

    /// Takes note of one that has done what it must not.
    #[cold]
    pub(super) fn suspect(&mut self, suspect: Suspect) {
        if self.suspects.last() != Some(&suspect) {
            self.suspects.push(suspect);
        }
    }

    /// Where many are remembered, forgets those of streams that are not open.
    pub(super) fn forget_unless(&mut self, is_open: impl Fn(u32) -> bool) {
        if self.answered.len() == limits::H2_ANSWERED_KEPT {
            self.answered.retain(|stream| is_open(*stream));
        }
    }

    /// A header block has ended.
    pub(super) fn take_block(&mut self, found: Found) {
        let stream = self.stream;
        let is_answered = self.answered.contains(&stream);
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.3
        //# Pseudo-header fields defined for requests MUST NOT appear in
        //# responses; pseudo-header fields defined for responses MUST NOT
        //# appear in requests.  Pseudo-header fields MUST NOT appear in a
        //# trailer section.  Endpoints MUST treat a request or response that
        //# contains undefined or invalid pseudo-header fields as malformed
        let is_misplaced = found.has_status && (is_answered || (found.is_interim && self.ends));
        if found.is_foreign || is_misplaced {
            self.suspect(Suspect::Malformed(stream));
        }
        if self.ends {
            self.end(stream);
        } else if !is_answered && !found.is_interim {
            if self.answered.len() == limits::H2_ANSWERED_KEPT {
                self.answered.remove(0); // the oldest: most likely one that was reset
            }
            self.answered.push(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINAL: Found = Found { is_foreign: false, has_status: true, is_interim: false };
    const INTERIM: Found = Found { is_interim: true, ..FINAL };
    const NONE: Found = Found { has_status: false, ..FINAL };

    #[test]
    fn heads_have_a_status_and_trailers_none() {
        let mut all = Responses::default();
        let mut block = |stream, found, ends| {
            all.begin(stream, ends);
            all.take_block(found);
            std::mem::take(&mut all.suspects)
        };
        let malformed = |stream| [Suspect::Malformed(stream)];
        for (found, ends) in [(INTERIM, false), (INTERIM, false), (FINAL, false), (NONE, true)] {
            assert!(block(1, found, ends).is_empty());
        }
        assert!(block(3, FINAL, false).is_empty());
        assert_eq!(block(3, FINAL, true), malformed(3), "trailers");
        assert!(block(5, FINAL, true).is_empty());
        assert_eq!(block(7, INTERIM, true), malformed(7), "an end behind an interim response");
        assert_eq!(block(9, Found { is_foreign: true, ..FINAL }, true), malformed(9));
        assert!(block(11, FINAL, false).is_empty());
        assert_eq!(block(11, INTERIM, false), malformed(11), "behind the final one");
        (0..2000).for_each(|n| assert!(block(13 + 2 * n, FINAL, false).is_empty()));
        assert_eq!(all.answered.len(), limits::H2_ANSWERED_KEPT);
        all.end(13 + 2 * 1999);
        assert_eq!(all.answered.len(), limits::H2_ANSWERED_KEPT - 1);
    }

    #[test]
    fn bodies_have_a_head() {
        let mut all = Responses::default();
        let mut take = |stream, ends| {
            all.take_data(stream, ends);
            std::mem::take(&mut all.suspects)
        };
        let headless = |stream| [Suspect::Headless(stream)];
        assert_eq!(take(1, false), headless(1));
        let mut all = Responses::default();
        for found in [INTERIM, FINAL] {
            all.take_data(1, false);
            all.begin(1, false);
            all.take_block(found);
        }
        assert_eq!(std::mem::take(&mut all.suspects), headless(1), "twice the same");
        all.take_data(1, false);
        all.take_data(1, true);
        assert!(all.suspects.is_empty());
        all.take_data(1, false);
        assert_eq!(all.suspects, headless(1), "behind the end: its owner knows");
    }

    /// One that is open for long is not forgotten for others that were reset.
    #[test]
    fn who_is_open_is_remembered() {
        let mut all = Responses::default();
        for n in 0..5000 {
            all.begin(2 * n + 1, false);
            all.take_block(FINAL);
            all.forget_unless(|stream| stream == 1 || stream > 2 * n - 100);
        }
        all.take_data(1, false);
        assert!(all.suspects.is_empty() && all.answered.len() < limits::H2_ANSWERED_KEPT);
    }
}
