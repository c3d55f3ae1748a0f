//! Deadlines against real sockets: what a fired one does to a pending receive or send, and that it
//! never hits a stranger. The table's own logic is tested in `src/rt/deadline.rs`.

mod rt_support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ringway::rt::{self, BufPool, Deadlines, PeerState, Shut, Stream};

const TICK: Duration = Duration::from_millis(10);

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap(), peer)
}

/// A table that a task of its own moves on, as a worker does.
fn ticking() -> Deadlines {
    let deadlines = Deadlines::new(TICK);
    let ticked = deadlines.clone();
    let tick = async move {
        loop {
            rt::sleep(TICK).await;
            ticked.advance(Instant::now());
        }
    };
    rt::spawn_guarded(tick, |place| panic!("{place}"));
    deadlines
}

#[test]
fn a_receive_that_waits_too_long_ends_and_the_answer_still_goes_out() {
    on_core(|| async {
        let deadlines = ticking();
        let (stream, mut peer) = pair();
        let deadline = deadlines.register(&stream);
        let started = Instant::now();
        deadline.set(Duration::from_millis(60), Shut::Read, 42);
        let pool = BufPool::new(1024, 2);
        let (received, mut buf) = stream.recv(pool.take().unwrap()).await;
        assert_eq!(received.unwrap(), 0);
        let waited = started.elapsed();
        assert!((60..300).contains(&(waited.as_millis() as u64)), "{waited:?}");
        assert_eq!(deadline.fired(), Some(42));

        assert!(buf.append(b"408"));
        stream.send(buf, 3).await.0.unwrap();
        let mut answer = [0; 3];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"408");
    });
}

#[test]
fn a_send_that_waits_too_long_ends_with_an_error() {
    on_core(|| async {
        let deadlines = ticking();
        let (stream, _peer) = pair(); // never reads
        let deadline = deadlines.register(&stream);
        deadline.set(Duration::from_millis(60), Shut::Both, 7);
        let (sent, bytes) = stream.send_bytes(vec![1; 32 * 1024 * 1024]).await;
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!((deadline.take_fired(), bytes.len()), (Some(7), 32 * 1024 * 1024));
        assert_eq!(deadline.fired(), None);
    });
}

#[test]
fn a_deadline_ends_a_wait_for_readiness_too() {
    on_core(|| async {
        let deadlines = ticking();
        let (stream, _peer) = pair();
        let deadline = deadlines.register(&stream);
        deadline.set(Duration::from_millis(30), Shut::Read, 1);
        stream.readable().await.unwrap();
        assert_eq!((deadline.fired(), stream.peek_state()), (Some(1), PeerState::Closed));
    });
}

#[test]
fn one_that_was_cleared_or_moved_does_not_fire_then() {
    on_core(|| async {
        let deadlines = ticking();
        let ((cleared, _peer), (moved, _other)) = (pair(), pair());
        let (first, second) = (deadlines.register(&cleared), deadlines.register(&moved));
        // Far enough apart that a busy machine does not sleep through the first one.
        first.set(Duration::from_millis(1000), Shut::Both, 1);
        second.set(Duration::from_millis(1000), Shut::Both, 2);
        rt::sleep(Duration::from_millis(20)).await;
        first.clear();
        let started = Instant::now();
        second.set(Duration::from_millis(1200), Shut::Both, 3);
        moved.readable().await.unwrap();
        // Points in time are whole milliseconds.
        assert!(started.elapsed() > Duration::from_millis(1199), "{:?}", started.elapsed());
        assert_eq!((first.fired(), second.fired()), (None, Some(3)));
        assert_eq!(cleared.peek_state(), PeerState::Quiet);
    });
}

/// An upload and its response move at the same time, each under its own deadline.
#[test]
fn both_directions_have_a_deadline_of_their_own() {
    on_core(|| async {
        let deadlines = ticking();
        let (stream, _peer) = pair();
        let (reading, writing) = (deadlines.register(&stream), deadlines.register(&stream));
        reading.set(Duration::from_millis(30), Shut::Read, 1);
        writing.set(Duration::from_millis(2000), Shut::Both, 2);
        let pool = BufPool::new(1024, 1);
        let receive = async {
            let received = stream.recv(pool.take().unwrap()).await.0.unwrap();
            (received, reading.fired(), writing.fired())
        };
        let (received, (sent, _)) =
            rt::join(receive, stream.send_bytes(vec![1; 32 * 1024 * 1024])).await;
        assert_eq!(received, (0, Some(1), None), "the send goes on");
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(writing.fired(), Some(2));

        drop(stream); // both are struck
        reading.set(TICK, Shut::Both, 3);
        writing.set(TICK, Shut::Both, 3);
        rt::sleep(TICK * 5).await;
        assert_eq!((reading.fired(), writing.fired()), (Some(1), Some(2)));
    });
}

/// A client stalled half of a minute before, its connection was closed, and the next one got the
/// same descriptor: the old deadline must not cut it off. In every order of dropping.
#[test]
fn a_deadline_never_hits_a_stranger_with_the_same_descriptor() {
    on_core(|| async {
        let deadlines = ticking();
        for guard_first in [true, false] {
            // Another test, a thread of this process, may be faster to take the number.
            let mut attempts = 0;
            while !leaves_the_stranger_alone(&deadlines, guard_first).await {
                attempts += 1;
                assert!(attempts < 100, "other tests take the number each time");
            }
        }
    });
}

/// `false` if there was no stranger, as somebody else took the number.
async fn leaves_the_stranger_alone(deadlines: &Deadlines, guard_first: bool) -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = || {
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (OwnedFd::from(listener.accept().unwrap().0), peer)
    };
    let ((old, _old_peer), (new, mut peer)) = (connect(), connect());
    let stream = Stream::from_fd(old).unwrap();
    let number = stream.fd();
    let deadline = deadlines.register(&stream);
    deadline.set(Duration::from_millis(30), Shut::Both, 1);
    let deadline = if guard_first {
        drop(deadline);
        None
    } else {
        Some(deadline)
    };
    drop(stream);
    // The number is made the stranger's whatever lower ones are free meanwhile.
    let Some(new) = at_number(new, number) else { return false };
    let stranger = Stream::from_fd(new).unwrap();
    assert_eq!(stranger.fd(), number);
    if let Some(deadline) = &deadline {
        deadline.set(Duration::from_millis(20), Shut::Both, 2); // its stream is gone
    }
    rt::sleep(Duration::from_millis(120)).await;
    assert_eq!(deadline.as_ref().and_then(rt::Deadline::fired), None);
    peer.write_all(b"alive").unwrap();
    let pool = BufPool::new(1024, 1);
    let (received, buf) = stranger.recv(pool.take().unwrap()).await;
    assert_eq!((received.unwrap(), buf.data()), (5, &b"alive"[..]));
    true
}

/// A copy of the descriptor under `number`, if that is free: lower ones are filled up first.
fn at_number(fd: OwnedFd, number: i32) -> Option<OwnedFd> {
    let socket = socket2::Socket::from(fd);
    let mut held = Vec::new();
    loop {
        let copy = OwnedFd::from(socket.try_clone().unwrap());
        match std::os::fd::AsRawFd::as_raw_fd(&copy).cmp(&number) {
            std::cmp::Ordering::Less => held.push(copy), // occupies a lower number
            std::cmp::Ordering::Equal => return Some(copy),
            std::cmp::Ordering::Greater => return None,
        }
    }
}
