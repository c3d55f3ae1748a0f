//! Which responses of an endpoint have pseudo-fields where none may be. The `h2` crate drops those of
//! requests, and all in trailers, without a word.

use super::block::Found;
use crate::base::limits;

/// The responses of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses {
    /// The stream of the block that is being read, and whether it ends with it.
    stream: u32,
    ends: bool,
    /// Streams that have their final head, and more to come. One that ringway has reset may stay.
    answered: Vec<u32>,
    /// Streams found to be malformed.
    pub(super) malformed: Vec<u32>,
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
            self.malformed.push(stream);
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
            std::mem::take(&mut all.malformed)
        };
        for (found, ends) in [(INTERIM, false), (INTERIM, false), (FINAL, false), (NONE, true)] {
            assert!(block(1, found, ends).is_empty());
        }
        assert!(block(3, FINAL, false).is_empty());
        assert_eq!(block(3, FINAL, true), [3], "trailers");
        assert!(block(5, FINAL, true).is_empty());
        assert_eq!(block(7, INTERIM, true), [7], "an end behind an interim response");
        assert_eq!(block(9, Found { is_foreign: true, ..FINAL }, true), [9]);
        assert!(block(11, FINAL, false).is_empty());
        assert_eq!(block(11, INTERIM, false), [11], "behind the final one");
        (0..2000).for_each(|n| assert!(block(13 + 2 * n, FINAL, false).is_empty()));
        assert_eq!(all.answered.len(), limits::H2_ANSWERED_KEPT);
        all.end(13 + 2 * 1999);
        assert_eq!(all.answered.len(), limits::H2_ANSWERED_KEPT - 1);
    }
}
