//! An HTTP/2 connection to an endpoint, shared by the requests of a core.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::h2::{
    Ping, PingPong,
    client::{Builder, Connection, SendRequest},
};

use super::{
    chunk::Chunk,
    io::{Io, ReadEnd, Shared, send_all},
    room::Room,
    stream::Stream,
};
use crate::{
    base::limits,
    dataplane::socket::Socket,
    rt::{self, BufPool, Deadlines},
};

/// [`limits::H2_STALLED_MIN`] in ticks.
const STALLED_TICKS_MIN: u64 =
    (limits::H2_STALLED_MIN.as_millis() / limits::TICK.as_millis()) as u64;

/// The tag of a connection's write deadline.
const TAG_WRITE: u8 = 24;

/// What there is to know of a connection, for its users and its driver.
struct State {
    /// Requests under way.
    open: Cell<u32>,
    /// It takes no more requests: it ended, or the endpoint said so.
    is_closed: Cell<bool>,
    /// The tick at which the last request ended.
    idle_since_tick: Cell<u64>,
    born_tick: u64,
    /// Whether the endpoint has said what it takes: that is the first thing it says.
    has_settings: Cell<bool>,
    /// Those who wait for that.
    settings: Curious,
    shared: Rc<Shared>,
}

/// A connection that takes requests. Dropped by its pool and all of its streams, it ends in order.
pub struct Link {
    send: RefCell<SendRequest<Chunk>>,
    state: Rc<State>,
    is_https: bool,
    deadlines: Deadlines,
}

/// A request under way on a link.
pub(super) struct LinkGuard {
    state: Rc<State>,
    place: usize,
    deadlines: Deadlines,
    room: Rc<Room>,
}

/// Those who wait for what an endpoint takes.
#[derive(Default)]
struct Curious {
    wakers: RefCell<Vec<Waker>>,
}

impl Curious {
    /// Has the task of `cx` woken when it is known; false if too many wait already.
    fn wait(&self, cx: &Context<'_>) -> bool {
        let mut wakers = self.wakers.borrow_mut();
        let is_allowed = wakers.len() < limits::H2_WAITING_MAX;
        if is_allowed {
            wakers.push(cx.waker().clone());
        }
        is_allowed
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl LinkGuard {
    /// Waits until the endpoint has said what it takes, or the connection has ended.
    pub(super) async fn has_settings(&self) {
        poll_fn(|cx| {
            let is_known = self.state.has_settings.get() || self.state.is_closed.get();
            if is_known || !self.state.settings.wait(cx) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        self.state.open.set(self.state.open.get() - 1);
        self.state.shared.streams.borrow_mut().leave(self.place);
        self.state.idle_since_tick.set(self.deadlines.now_tick());
        self.room.wake_one();
    }
}

/// Drives a link until it has ended. Runs in a task of its own.
pub struct LinkDriver {
    connection: Connection<Io, Chunk>,
    writer: Option<Pin<Box<dyn Future<Output = ()>>>>,
    socket: Rc<Socket>,
    shared: Rc<Shared>,
    state: Rc<State>,
    ping: Option<PingPong>,
    silence: Pin<Box<dyn Future<Output = ()>>>,
    is_asked: bool,
}

impl Link {
    /// Greets an endpoint over a connection. Does not wait for its settings. `None` if the connection
    /// fails at once.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub async fn open(
        socket: Rc<Socket>,
        is_https: bool,
        write_within: Duration,
        pool: &BufPool,
        deadlines: &Deadlines,
    ) -> Option<(Self, LinkDriver)> {
        let shared = Rc::new(Shared::default());
        let io = Io::new(Rc::clone(&socket), pool, deadlines, None, 0, Rc::clone(&shared));
        let mut builder = Builder::new();
        builder
            .initial_window_size(limits::H2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::H2_LINK_WINDOW_BYTES)
            .max_header_list_size(limits::RESPONSE_HEAD_BYTES_MAX as u32)
            .max_send_buffer_size(limits::H2_SEND_BYTES_MAX)
            .data_frame_budget(limits::H2_LINK_SMALL_FRAMES_BYTES_MAX)
            .max_local_error_reset_streams(Some(limits::H2_RESETS_LOCAL_MAX))
            .enable_push(false);
        let (send, mut connection) = Box::pin(builder.handshake::<_, Chunk>(io)).await.ok()?;
        let state = Rc::new(State {
            open: Cell::new(0),
            is_closed: Cell::new(false),
            idle_since_tick: Cell::new(deadlines.now_tick()),
            born_tick: deadlines.now_tick(),
            has_settings: Cell::new(false),
            settings: Curious::default(),
            shared: Rc::clone(&shared),
        });
        let writing = send_all(Rc::clone(&socket), Rc::clone(&shared), write_within, TAG_WRITE);
        let driver = LinkDriver {
            ping: connection.ping_pong(),
            connection,
            writer: Some(Box::pin(writing)),
            socket,
            shared,
            state: Rc::clone(&state),
            silence: Box::pin(rt::sleep(limits::H2_SILENCE_MAX)),
            is_asked: false,
        };
        let deadlines = deadlines.clone();
        Some((Self { send: RefCell::new(send), state, is_https, deadlines }, driver))
    }

    /// Whether it may take requests.
    pub fn is_open(&self) -> bool {
        !self.state.is_closed.get()
    }

    /// Requests under way.
    pub fn open_count(&self) -> u32 {
        self.state.open.get()
    }

    /// The tick since which there has been none; `None` while there is one.
    pub fn idle_since_tick(&self) -> Option<u64> {
        (self.open_count() == 0).then(|| self.state.idle_since_tick.get())
    }

    /// Whether it takes a request now, as far as that is known without asking.
    pub fn has_room(&self) -> bool {
        self.is_open() && (self.open_count() as usize) < self.allowed()
    }

    /// Requests at a time.
    fn allowed(&self) -> usize {
        let said = self.send.borrow().current_max_send_streams();
        said.min(limits::H2_LINK_STREAMS_MAX as usize)
    }

    /// The request whose client has taken nothing for the longest time, and since when.
    fn stalled(&self) -> Option<(u64, Rc<Stream>)> {
        let streams = self.state.shared.streams.borrow();
        let stalled = streams.all().filter_map(|stream| Some((stream.stalled_tick()?, stream)));
        stalled.min_by_key(|(since, _)| *since)
    }

    /// Of these, gives up the request whose client has taken nothing for the longest time, if that is long. Whether there
    /// is one that takes nothing.
    #[cold]
    pub fn give_up_stalled(links: &[Self], now_tick: u64) -> bool {
        let stalled = links.iter().filter_map(Self::stalled).min_by_key(|(since, _)| *since);
        let Some((since, stream)) = stalled else { return false };
        if now_tick.saturating_sub(since) >= STALLED_TICKS_MIN {
            stream.give_up();
        }
        true
    }

    /// The tick at which it was made.
    pub fn born_tick(&self) -> u64 {
        self.state.born_tick
    }

    /// A stream for one request, if the endpoint's bounds allow it now. The first of those who wait for `room` is woken
    /// when it has ended.
    pub fn stream(&self, room: &Rc<Room>) -> Option<Rc<Stream>> {
        if !self.has_room() {
            return None;
        }
        let mut send = self.send.borrow_mut();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match send.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.state.is_closed.set(true); // it has said GOAWAY, or failed
                return None;
            }
            Poll::Pending => return None,
        }
        self.state.open.set(self.open_count() + 1);
        let place = self.state.shared.streams.borrow_mut().take();
        let guard = LinkGuard {
            state: Rc::clone(&self.state),
            place,
            deadlines: self.deadlines.clone(),
            room: Rc::clone(room),
        };
        let stream = Stream::asking(send.clone(), self.is_https, guard, &self.deadlines);
        let stream = Rc::new(stream);
        self.state.shared.streams.borrow_mut().fill(place, &stream);
        Some(stream)
    }
}

impl LinkDriver {
    /// Drives the connection to its end.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was written last may be lost. To end it, drop its link and streams.
    pub async fn run(mut self) {
        poll_fn(|cx| self.poll_connection(cx)).await;
        self.state.is_closed.set(true);
        self.state.settings.wake_all();
        let Self { connection, writer, socket, shared, .. } = self;
        shared.close();
        drop(connection);
        if let Some(writer) = writer {
            writer.await;
        }
        socket.shutdown();
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_writer(cx);
        self.poll_silence(cx);
        let ended = Pin::new(&mut self.connection).poll(cx);
        if self.shared.gathers.get() {
            self.gather(cx);
        }
        self.poll_writer(cx); // what this turn wrote leaves now
        if self.shared.was_heard.get() && !self.state.has_settings.replace(true) {
            self.state.settings.wake_all();
        }
        let read_end = self.shared.read_end.get();
        if self.writer.is_none() || read_end.is_some() {
            self.state.is_closed.set(true);
        }
        if read_end.is_some_and(ReadEnd::is_violation) {
            return Poll::Ready(()); // with it its streams end
        }
        ended.map(drop)
    }

    /// Has all streams put together what waits for those that don't read, and reads on after that.
    #[cold]
    fn gather(&self, cx: &Context<'_>) {
        self.shared.streams.borrow().all().for_each(|stream| stream.gather());
        self.shared.gathers.set(false);
        cx.waker().wake_by_ref();
    }

    fn poll_writer(&mut self, cx: &mut Context<'_>) {
        if let Some(writer) = &mut self.writer
            && writer.as_mut().poll(cx).is_ready()
        {
            self.writer = None;
        }
    }

    /// Asks a silent endpoint that has requests whether it is still there, and gives it up when it
    /// does not answer.
    fn poll_silence(&mut self, cx: &mut Context<'_>) {
        let Some(ping) = &mut self.ping else { return };
        if let Poll::Ready(Ok(_)) = ping.poll_pong(cx) {
            self.is_asked = false;
        }
        while self.silence.as_mut().poll(cx).is_ready() {
            self.silence = Box::pin(rt::sleep(limits::H2_SILENCE_MAX));
            if self.shared.was_heard.replace(false) || self.state.open.get() == 0 {
                continue;
            }
            if self.is_asked {
                self.socket.shutdown();
            } else {
                self.is_asked = ping.send_ping(Ping::opaque()).is_ok();
            }
        }
    }
}
