//! Two futures in one task, without allocation and without dropping either.
#![allow(unsafe_code)]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Which of two futures ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one, with its output.
    Left(A),
    /// The second one, with its output.
    Right(B),
}

/// Polls both until one ends. The other is the caller's still, alive and in progress: end it, by a
/// shutdown of its socket, and await it, so that no receive or send is ever dropped. The one that
/// ended must not be polled again. When both could end, the first one does.
///
/// # Cancel safety
/// Cancel safe: both futures stay with the caller.
pub async fn race<A: Future, B: Future>(
    mut a: Pin<&mut A>,
    mut b: Pin<&mut B>,
) -> Either<A::Output, B::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Polls both until both have ended. Takes no more memory than both and their outputs.
///
/// # Cancel safety
/// Cancel safe if both are, but the output of one that ended before is lost.
pub fn join<A: Future, B: Future>(a: A, b: B) -> impl Future<Output = (A::Output, B::Output)> {
    Join { a: Side::Running(a), b: Side::Running(b) }
}

/// Not an `async` block: that would hold both futures twice, as they came and as they are pinned.
struct Join<A: Future, B: Future> {
    a: Side<A>,
    b: Side<B>,
}

enum Side<F: Future> {
    Running(F),
    Ended(Option<F::Output>),
}

impl<F: Future> Side<F> {
    /// Whether it has ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        // WHY UNSAFE: a projection; the safe way, boxing, is an allocation per exchange.
        // SAFETY: a running future is only reached through this pin and replaced by `Pin::set`,
        // which drops it in place; an output is never pinned.
        let Side::Running(future) = (unsafe { self.as_mut().get_unchecked_mut() }) else {
            return true;
        };
        // SAFETY: as above: `self` is pinned, and so is what it holds.
        match unsafe { Pin::new_unchecked(future) }.poll(cx) {
            Poll::Ready(output) => {
                self.set(Side::Ended(Some(output)));
                true
            }
            Poll::Pending => false,
        }
    }

    fn output(self: Pin<&mut Self>) -> Option<F::Output> {
        // WHY UNSAFE, SAFETY: as in `poll`; a running future is not moved here.
        match unsafe { self.get_unchecked_mut() } {
            Side::Running(_) => None,
            Side::Ended(output) => output.take(),
        }
    }
}

impl<A: Future, B: Future> Future for Join<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // WHY UNSAFE: a projection. SAFETY: both sides are only ever reached pinned; the type has
        // no `Drop` and is `Unpin` only if both are.
        let (mut a, mut b) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.a), Pin::new_unchecked(&mut this.b))
        };
        let ended = (a.as_mut().poll(cx), b.as_mut().poll(cx)); // both, always
        match ended {
            (true, true) => a.output().zip(b.output()).map_or(Poll::Pending, Poll::Ready),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Waker;

    /// Ends at its `n`th poll, and notes how often it was polled.
    async fn after_polls(n: u32, polled: &Cell<u32>) -> u32 {
        poll_fn(|_| {
            polled.set(polled.get() + 1);
            if polled.get() == n { Poll::Ready(n) } else { Poll::Pending }
        })
        .await
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_loser_of_a_race_lives_on() {
        let (fast, slow) = (Cell::new(0), Cell::new(0));
        let (mut a, mut b) = (pin!(after_polls(4, &slow)), pin!(after_polls(2, &fast)));
        {
            let mut race = pin!(race(a.as_mut(), b.as_mut()));
            assert!(poll(race.as_mut()).is_pending());
            assert_eq!(poll(race.as_mut()), Poll::Ready(Either::Right(2)));
        }
        assert!(poll(a.as_mut()).is_pending());
        assert_eq!(poll(a.as_mut()), Poll::Ready(4));
        assert_eq!((fast.get(), slow.get()), (2, 4));
    }

    #[test]
    fn joining_costs_no_memory_but_a_mark_for_each() {
        let futures = || (std::future::pending::<[u64; 50]>(), std::future::ready([1u64; 200]));
        let (a, b) = futures();
        let alone = size_of_val(&a).max(size_of::<[u64; 50]>()) + size_of_val(&b);
        assert!(size_of_val(&join(a, b)) <= alone + 32);
    }

    #[test]
    fn join_waits_for_both_and_polls_neither_too_often() {
        let (first, second) = (Cell::new(0), Cell::new(0));
        let mut both = pin!(join(after_polls(1, &first), after_polls(3, &second)));
        assert!(poll(both.as_mut()).is_pending());
        assert!(poll(both.as_mut()).is_pending());
        assert_eq!(poll(both.as_mut()), Poll::Ready((1, 3)));
        assert_eq!((first.get(), second.get()), (1, 3));
    }
}
