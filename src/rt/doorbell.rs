//! How the control plane reaches a core: a bounded channel and an eventfd to wake it with.
//!
//! A core whose tasks foreign threads may wake would need atomics in each waker, and a look at a
//! shared queue in each turn of the loop. An eventfd polled through the ring costs nothing
//! until it rings, and only a core that said it is asleep is rung.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::ring_fd::RingFd;
use super::sys;
use super::task::sleep;

/// How often a core that has no descriptor left to wait with looks into its mailbox.
const NO_BELL_PAUSE: Duration = Duration::from_millis(50);

/// Makes a mailbox for at most `bound` messages. The sender may be cloned and used from any thread,
/// the mailbox goes to one core.
///
/// # Panics
/// If no eventfd can be had (out of descriptors): it is called at start only.
pub fn mailbox<T>(bound: usize) -> (MailboxSender<T>, Mailbox<T>) {
    let fd = sys::eventfd(0).unwrap_or_else(|error| panic!("no eventfd for a mailbox: {error}"));
    let bell = Arc::new(Bell { fd, asleep: AtomicBool::new(false) });
    let (sender, receiver) = crossbeam_channel::bounded(bound);
    let sender = MailboxSender { sender, ring: RingWhenDropped(Arc::clone(&bell)) };
    (sender, Mailbox { receiver, bell })
}

struct Bell {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    fn ring_if_asleep(&self) {
        // With the fence in `Mailbox::recv`: either this sees `asleep`, or the core, which looks at
        // the channel once more after setting it, sees what was sent before.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            sys::eventfd_ring(&self.fd);
        }
    }
}

/// The sending side; any thread.
pub struct MailboxSender<T> {
    sender: Sender<T>,     // dropped first,
    ring: RingWhenDropped, // so that the core wakes up and sees it
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), ring: self.ring.clone() }
    }
}

#[derive(Clone)]
struct RingWhenDropped(Arc<Bell>);

impl Drop for RingWhenDropped {
    fn drop(&mut self) {
        self.0.ring_if_asleep();
    }
}

/// A message that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered<T> {
    /// `bound` messages wait already: the core is busy or stuck.
    Full(T),
    /// The core is gone.
    Closed(T),
}

impl<T> MailboxSender<T> {
    /// Puts a message into the mailbox and wakes the core if it sleeps. Never waits.
    ///
    /// # Errors
    /// See [`Undelivered`].
    pub fn send(&self, message: T) -> Result<(), Undelivered<T>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => Undelivered::Full(message),
            TrySendError::Disconnected(message) => Undelivered::Closed(message),
        })?;
        self.ring.0.ring_if_asleep();
        Ok(())
    }
}

/// The receiving side; can be sent to its core, then stays there.
pub struct Mailbox<T> {
    receiver: Receiver<T>,
    bell: Arc<Bell>,
}

impl<T> Mailbox<T> {
    /// The next message; waits for it. `None` when all senders are gone and all was received.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is taken before the last await.
    pub async fn recv(&self) -> Option<T> {
        loop {
            if let Some(received) = self.poll_channel() {
                return received;
            }
            self.bell.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst); // see `ring_if_asleep`
            if let Some(received) = self.poll_channel() {
                self.bell.asleep.store(false, Ordering::SeqCst);
                return received;
            }
            self.sleep().await;
        }
    }

    /// The next message if there is one.
    pub fn try_recv(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// `Some(None)` is the end, `None` that there is nothing now.
    fn poll_channel(&self) -> Option<Option<T>> {
        match self.receiver.try_recv() {
            Ok(message) => Some(Some(message)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => None,
        }
    }

    /// Waits for the bell. The ring gets a descriptor of its own each time, so that a mailbox
    /// holds nothing that belongs to one thread; messages are rare. Without a free descriptor it
    /// looks again a little later.
    async fn sleep(&self) {
        match self.bell.fd.try_clone().map(RingFd::new) {
            Ok(ring) if ring.readable().await.is_ok() => {}
            _ => sleep(NO_BELL_PAUSE).await,
        }
        self.bell.asleep.store(false, Ordering::SeqCst);
        sys::eventfd_drain(&self.bell.fd);
    }
}
