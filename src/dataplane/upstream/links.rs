//! The HTTP/2 connections of one core to one endpoint: few, each shared by many requests.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use super::{Full, Permit, TlsWish, UpstreamConnection};
use crate::{
    base::{limits, reason::Reason},
    dataplane::streams::{Link, LinkDriver, Room, Stream, Waits},
    rt::{self, BufPool, Deadlines, Either},
};

/// What a new connection needs.
pub struct LinkNeeds<'a> {
    /// Where the endpoint is.
    pub address: SocketAddr,
    /// How TLS is spoken with it, if it is.
    pub tls: Option<TlsWish<'a>>,
    /// For a stream, a connection made for it included.
    pub within: Duration,
    /// For the endpoint to take what is sent.
    pub write_within: Duration,
    /// How long the connection is kept.
    pub keep: LinkKeep,
    /// Buffers of this core.
    pub buffers: &'a BufPool,
    /// Deadlines of this core.
    pub deadlines: &'a Deadlines,
    /// Leave to make a connection, where that is limited.
    pub permit: &'a dyn Fn() -> Result<Option<Permit>, Full>,
    /// Runs what drives a connection, which has leave to be there.
    pub spawn: &'a dyn Fn(LinkDriver, Option<Permit>),
}

/// Connections that take requests, and those who wait for room on one.
#[derive(Default)]
pub struct Links {
    links: RefCell<Vec<Link>>,
    is_connecting: Cell<bool>,
    room: Rc<Room>,
    keep: Cell<LinkKeep>,
    /// The tick in which stalled requests were last looked for, and how often in it.
    looks: Cell<(u64, u32)>,
    /// Whether there were some.
    has_stalled: Cell<bool>,
}

/// How long connections are kept, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkKeep {
    /// Without a request.
    pub idle: u64,
    /// At all; requests under way are finished.
    pub age: u64,
}

/// Somebody makes a connection; the others wait for it.
struct Connecting<'a>(&'a Links);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.is_connecting.set(false);
        self.0.room.wake_one(); // and who has found room wakes the next
    }
}

impl Links {
    /// A stream for one request: on a connection that has room, on a new one, or on the first that
    /// gets room.
    ///
    /// # Errors
    /// The reason that a client is given if no other endpoint can be had; [`Reason::UpstreamOverloaded`]
    /// if there is no leave to make the first connection.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing of a request was sent.
    pub async fn stream(&self, needs: LinkNeeds<'_>) -> Result<Rc<Stream>, Reason> {
        self.keep.set(needs.keep);
        let mut time_is_over = pin!(rt::sleep(needs.within));
        let mut waits: Option<Waits> = None;
        let mut has_made_one = false;
        loop {
            let now_tick = needs.deadlines.now_tick();
            let has_turn = waits.as_ref().map_or(!self.room.has_queue(), Waits::is_woken);
            let is_next = has_turn || std::mem::take(&mut has_made_one);
            if is_next && let Some(stream) = self.take_stream() {
                waits.into_iter().for_each(Waits::end);
                self.pass_on(now_tick);
                return Ok(stream);
            }
            let is_full = is_next || !self.has_room();
            let may_be_more = self.links.borrow().len() < limits::H2_LINKS_MAX;
            if is_full && !self.is_connecting.get() && may_be_more {
                match (needs.permit)() {
                    Ok(permit) => {
                        waits.take().into_iter().for_each(Waits::end); // it helps itself
                        self.connect(&needs, permit).await?;
                        has_made_one = true;
                        continue;
                    }
                    Err(_) if self.links.borrow().is_empty() => {
                        return Err(Reason::UpstreamOverloaded);
                    }
                    Err(_) => {}
                }
            }
            let waits = match &mut waits {
                Some(waits) => waits,
                none => none.insert(self.room.queue_up().ok_or(Reason::Overloaded)?),
            };
            waits.wait_again();
            if !has_turn && !self.room.is_waking() && self.has_room() {
                self.room.wake_one(); // the endpoint takes more than it did
            }
            Box::pin(self.wait(waits, time_is_over.as_mut(), now_tick)).await?; // rare, and not small
        }
    }

    /// Who has found room wakes the next one if there is more, and has more made where some take nothing.
    fn pass_on(&self, now_tick: u64) {
        if !self.room.is_waited_for() {
            return;
        }
        if self.has_room() {
            self.room.wake_one();
        } else if self.has_stalled.get() && self.may_look(now_tick) {
            self.has_stalled.set(Link::give_up_stalled(&self.links.borrow(), now_tick));
        }
    }

    /// Whether stalled requests may be looked for once more: all who wait ask so.
    fn may_look(&self, now_tick: u64) -> bool {
        let (tick, looks) = self.looks.get();
        let looks = if tick == now_tick { looks + 1 } else { 1 };
        self.looks.set((now_tick, looks));
        looks <= limits::H2_STALLED_LOOKS_MAX
    }

    /// Waits until there may be room. What can be done for it is done.
    #[cold]
    async fn wait(
        &self,
        waits: &Waits,
        time_is_over: Pin<&mut impl Future<Output = ()>>,
        now_tick: u64,
    ) -> Result<(), Reason> {
        if !self.is_connecting.get() && self.may_look(now_tick) {
            self.has_stalled.set(Link::give_up_stalled(&self.links.borrow(), now_tick));
        }
        let looks_again = self.has_stalled.get();
        let woken = pin!(async {
            if !looks_again {
                return waits.woken().await;
            }
            // In a second these may have taken nothing for long enough.
            let a_while = pin!(rt::sleep(limits::H2_STALLED_MIN));
            rt::race(a_while, pin!(waits.woken())).await;
        });
        match rt::race(time_is_over, woken).await {
            Either::Right(()) => Ok(()),
            Either::Left(()) if self.is_connecting.get() => Err(Reason::UpstreamConnectTimeout),
            Either::Left(()) => Err(Reason::Overloaded),
        }
    }

    /// A stream, if nobody has to wait for one.
    pub fn try_stream(&self) -> Option<Rc<Stream>> {
        if self.room.has_queue() { None } else { self.take_stream() }
    }

    /// A stream on the connection with the fewest.
    fn take_stream(&self) -> Option<Rc<Stream>> {
        let mut links = self.links.borrow_mut();
        links.retain(Link::is_open);
        let idlest = links.iter().min_by_key(|link| link.open_count())?;
        idlest.stream(&self.room)
    }

    async fn connect(&self, needs: &LinkNeeds<'_>, permit: Option<Permit>) -> Result<(), Reason> {
        self.is_connecting.set(true);
        let _connecting = Connecting(self);
        let LinkNeeds { address, tls, within, write_within, buffers, deadlines, spawn, .. } = needs;
        let connection =
            UpstreamConnection::connect(*address, *within, deadlines, None, *tls).await?;
        let socket = Rc::new(connection.socket);
        let opened = Link::open(socket, tls.is_some(), *write_within, buffers, deadlines).await;
        let (link, driver) = opened.ok_or(Reason::UpstreamConnectFailed)?;
        spawn(driver, permit);
        self.links.borrow_mut().push(link);
        Ok(())
    }

    /// Lets go of connections that ended, are too old, or were unused for too long.
    pub fn sweep(&self, now_tick: u64) {
        let keep = self.keep.get();
        self.links.borrow_mut().retain(|link| {
            let unused = link.idle_since_tick().map(|since| now_tick.saturating_sub(since));
            link.is_open()
                && unused.is_none_or(|unused| unused < keep.idle)
                && now_tick.saturating_sub(link.born_tick()) < keep.age
        });
    }

    /// Whether a request would find room on a connection there is.
    pub fn has_room(&self) -> bool {
        self.links.borrow().iter().any(Link::has_room)
    }

    /// Lets go of a connection without a request, if there is one.
    pub fn close_unused(&self) -> bool {
        let mut links = self.links.borrow_mut();
        let unused = links.iter().position(|link| link.idle_since_tick().is_some());
        unused.map(|at| links.remove(at)).is_some()
    }

    /// How many connections there are that take requests.
    pub fn count(&self) -> usize {
        self.links.borrow().len()
    }

    /// Lets go of one connection, if there is one; requests under way on it are finished.
    pub fn end_one(&self) -> bool {
        self.links.borrow_mut().pop().is_some()
    }

    /// Lets go of all connections; requests under way on them are finished.
    pub fn close(&self) {
        self.links.borrow_mut().clear();
    }
}
