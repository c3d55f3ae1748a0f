//! Two futures in one task, without allocation and without dropping either.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

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

/// Polls both until both have ended.
///
/// # Cancel safety
/// Cancel safe if both are, but the output of one that ended before is lost.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    match race(a.as_mut(), b.as_mut()).await {
        Either::Left(left) => (left, b.await),
        Either::Right(right) => (a.await, right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Waker};

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
    fn join_waits_for_both_and_polls_neither_too_often() {
        let (first, second) = (Cell::new(0), Cell::new(0));
        let mut both = pin!(join(after_polls(1, &first), after_polls(3, &second)));
        assert!(poll(both.as_mut()).is_pending());
        assert!(poll(both.as_mut()).is_pending());
        assert_eq!(poll(both.as_mut()), Poll::Ready((1, 3)));
        assert_eq!((first.get(), second.get()), (1, 3));
    }
}
