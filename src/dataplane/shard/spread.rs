//! Keeps connections evenly spread over the cores.
//!
//! The kernel gives each new connection to a core by the hash of its addresses: with many short ones
//! that is even, with ten long ones it is often 7 to 3. A core that has just accepted one looks at
//! how many the others have, and hands it to one that has clearly fewer. That happens once per
//! connection, before its first byte; the path of a request knows nothing of it.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::{
    base::{
        ids::ListenerId,
        limits::{HANDED_MAX, SPREAD_LOOKS_MAX},
    },
    rt::{self, Accepted, Mailbox, MailboxSender},
};

/// Connections of one core; on cache lines of its own, as every core writes to it.
#[derive(Default)]
#[repr(align(128))]
struct Seats {
    taken: AtomicU32,
}

/// What makes a core that stops look as if it had more connections than any other.
const CLOSED: u32 = u32::MAX / 2;

/// A connection's seat at a core; free again when dropped.
pub struct Seat {
    all: Arc<[Seats]>,
    index: usize,
}

impl Seat {
    fn take(all: &Arc<[Seats]>, index: usize) -> Self {
        all[index].taken.fetch_add(1, Relaxed);
        Self { all: Arc::clone(all), index }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all[self.index].taken.fetch_sub(1, Relaxed);
    }
}

/// A connection on its way from the core that accepted it to the one that serves it.
pub struct Handed {
    /// The connection.
    pub accepted: Accepted,
    /// Where it came in.
    pub listener: ListenerId,
    /// Its seat at the core it goes to.
    pub seat: Seat,
}

/// One core's view of all.
pub struct Spread {
    all: Arc<[Seats]>,
    own: usize,
    /// Where the core looks first, so that two don't choose the same one in step.
    next: Cell<usize>,
    /// By core, like `all`; empty where connections stay where they are.
    ways: Vec<MailboxSender<Handed>>,
    handed: Mailbox<Handed>,
}

/// Makes the views of `cores` cores, in order. Unless `is_on`, connections stay where they are.
///
/// # Panics
/// Without a free descriptor; called at start only.
pub fn spread(cores: usize, is_on: bool) -> Vec<Spread> {
    let all: Arc<[Seats]> = (0..cores).map(|_| Seats::default()).collect();
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| rt::mailbox(HANDED_MAX)).unzip();
    let ways = if is_on && cores > 1 { senders } else { Vec::new() };
    let view = |(own, handed)| Spread {
        all: Arc::clone(&all),
        own,
        next: Cell::new(own + 1),
        ways: ways.clone(),
        handed,
    };
    mailboxes.into_iter().enumerate().map(view).collect()
}

impl Spread {
    /// Gives a connection that this core accepted its seat: here, and then it comes back, or at a
    /// core with clearly fewer, and then it is on its way there.
    pub fn place(&self, accepted: Accepted, listener: ListenerId) -> Option<(Accepted, Seat)> {
        let Some(index) = self.lighter() else {
            return Some((accepted, Seat::take(&self.all, self.own)));
        };
        let seat = Seat::take(&self.all, index);
        match self.ways[index].send(Handed { accepted, listener, seat }) {
            Ok(()) => None,
            // It has enough to take over, or is gone: better late here than never there.
            Err(rt::Undelivered::Full(back) | rt::Undelivered::Closed(back)) => {
                Some((back.accepted, Seat::take(&self.all, self.own)))
            }
        }
    }

    /// A core with fewer connections than this one, by more than chance makes it: one, and an eighth
    /// of what it has.
    fn lighter(&self) -> Option<usize> {
        let cores = self.all.len();
        if self.ways.is_empty() {
            return None;
        }
        let own = self.all[self.own].taken.load(Relaxed);
        let first = self.next.replace((self.next.get() + 1) % cores);
        let others = (0..cores).map(|step| (first + step) % cores).filter(|at| *at != self.own);
        let (least, index) = others
            .take(SPREAD_LOOKS_MAX)
            .map(|at| (self.all[at].taken.load(Relaxed), at))
            .min_by_key(|(taken, _)| *taken)?;
        (own > least + least / 8).then_some(index)
    }

    /// The next connection that another core hands over; waits for it. `None` if there never will
    /// be one.
    ///
    /// # Cancel safety
    /// Cancel safe: none is taken before the last await.
    pub async fn handed(&self) -> Option<Handed> {
        self.handed.recv().await
    }

    /// Asks the other cores to hand over no more. What is on its way still arrives.
    pub fn close(&self) {
        self.all[self.own].taken.fetch_add(CLOSED, Relaxed);
    }

    /// Whether connections are here or on their way, on a core that was closed.
    pub fn is_empty(&self) -> bool {
        self.all[self.own].taken.load(Relaxed) <= CLOSED
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn accepted() -> (Accepted, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        (Accepted::new(stream.into(), peer), client)
    }

    fn counts(view: &Spread) -> Vec<u32> {
        view.all.iter().map(|one| one.taken.load(Relaxed)).collect()
    }

    #[test]
    fn whichever_core_accepts_them_ten_connections_are_spread_evenly() {
        for heavy in 0..4 {
            let views = spread(4, true);
            let mut kept = Vec::new();
            for _ in 0..10 {
                kept.extend(views[heavy].place(accepted().0, ListenerId(1)).map(|(_, seat)| seat));
            }
            let mut all = counts(&views[0]);
            all.sort_unstable();
            assert_eq!(all, [2, 2, 3, 3]);
            assert_eq!(kept.len() as u32, counts(&views[0])[heavy], "the others are on their way");
        }
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let views = spread(2, true);
        let kept = views[0].place(accepted().0, ListenerId(1));
        assert_eq!(counts(&views[0]), [1, 0]);
        drop(kept);
        assert_eq!(counts(&views[0]), [0, 0]);
        let _here = views[0].place(accepted().0, ListenerId(1));
        assert!(views[0].place(accepted().0, ListenerId(1)).is_none(), "handed over");
        let there = views[1].handed.try_recv().unwrap();
        assert_eq!(there.listener, ListenerId(1));
        drop(there);
        assert_eq!(counts(&views[0]), [1, 0]);
    }

    #[test]
    fn a_core_that_stops_or_is_gone_gets_none() {
        let mut views = spread(2, true);
        let _here = views[0].place(accepted().0, ListenerId(1));
        views[1].close();
        assert!(views[1].is_empty());
        assert!(views[0].place(accepted().0, ListenerId(1)).is_some());
        let views2 = spread(2, true);
        let _here = views2[0].place(accepted().0, ListenerId(1));
        drop(views.pop());
        let mut views2 = views2;
        drop(views2.pop());
        assert!(views2[0].place(accepted().0, ListenerId(1)).is_some(), "its mailbox is closed");
        assert_eq!(counts(&views2[0])[1], 0);
    }

    #[test]
    fn what_is_on_its_way_keeps_a_stopping_core_waiting() {
        let views = spread(2, true);
        let _here = views[0].place(accepted().0, ListenerId(1));
        assert!(views[0].place(accepted().0, ListenerId(1)).is_none());
        views[1].close();
        assert!(!views[1].is_empty());
        drop(views[1].handed.try_recv());
        assert!(views[1].is_empty());
    }

    #[test]
    fn off_means_where_the_kernel_put_them() {
        let views = spread(2, false);
        let kept: Vec<_> =
            (0..10).map(|_| views[0].place(accepted().0, ListenerId(1)).unwrap()).collect();
        assert_eq!(counts(&views[0]), [10, 0]);
        drop(kept);
    }
}
