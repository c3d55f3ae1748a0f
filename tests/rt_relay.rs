//! Messages passed on from one socket to another: all of them, in order, without a buffer held.

mod rt_support;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringway::rt::{self, BufPool, Progress, Relayed, SpliceError, Stream, relay};

const LARGE: usize = 16 * 1024;

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap(), peer)
}

/// Counts what it is told.
#[derive(Default)]
struct Told {
    bytes: Cell<u64>,
    waits: Cell<u32>,
    goes_on: Cell<u32>,
}

impl Progress for Told {
    fn before_receive(&self) {
        self.goes_on.set(self.goes_on.get() + 1);
    }

    fn before_send(&self) {
        self.waits.set(self.waits.get() + 1);
    }

    fn advance(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }
}

#[test]
fn messages_arrive_in_order_and_the_end_behind_them() {
    const COUNT: u32 = 2000;
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        let writer = thread::spawn(move || {
            for number in 0..COUNT {
                (&source).write_all(&number.to_be_bytes()).unwrap();
            }
        });
        let reader = thread::spawn(move || {
            for number in 0..COUNT {
                let mut got = [0; 4];
                sink.read_exact(&mut got).unwrap();
                assert_eq!(u32::from_be_bytes(got), number);
            }
        });
        let (pool, told) = (BufPool::new(LARGE * 2, 16), Told::default());
        let ended = relay(&from, &to, None, &pool, LARGE, &told).await.unwrap();
        assert_eq!((ended, told.bytes.get()), (Relayed::Ended, u64::from(COUNT) * 4));
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn who_is_silent_holds_no_buffer() {
    on_core(|| async {
        let ((from, mut source), (to, mut sink)) = (pair(), pair());
        let pool = BufPool::new(LARGE * 2, 16);
        let watched = pool.clone();
        rt::spawn_guarded(
            async move {
                let _ = relay(&from, &to, None, &pool, LARGE, &Told::default()).await;
            },
            |place| panic!("{place}"),
        );
        for message in [&b"one"[..], b"two", b"three"] {
            source.write_all(message).unwrap();
            let peer = thread::spawn(move || {
                let mut got = vec![0; message.len()];
                sink.read_exact(&mut got).unwrap();
                assert_eq!(got, message);
                sink
            });
            while !peer.is_finished() {
                rt::sleep(Duration::from_millis(1)).await;
            }
            sink = peer.join().unwrap();
            rt::yield_now().await;
            assert_eq!(watched.stats().in_use, 0);
        }
    });
}

/// What had arrived before is sent first; who does not read is told of, and loses nothing.
#[test]
fn a_target_that_does_not_read_is_waited_for() {
    const BYTES: usize = 24 * 1024 * 1024;
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        let pattern = |range: std::ops::Range<usize>| range.map(|i| (i / 7 % 251) as u8);
        let sender = thread::spawn(move || {
            (&source).write_all(&pattern(5..BYTES).collect::<Vec<_>>()).unwrap();
        });
        let (go, may_read) = mpsc::channel();
        let reader = thread::spawn(move || {
            may_read.recv().unwrap();
            let mut got = Vec::new();
            sink.read_to_end(&mut got).unwrap();
            assert!(got.into_iter().eq(pattern(0..BYTES)));
        });
        let (pool, told) = (BufPool::new(LARGE, 8), Told::default());
        let mut input = pool.take();
        assert!(input.as_mut().unwrap().append(&pattern(0..5).collect::<Vec<_>>()));
        let full = async {
            rt_support::until("both sockets fill up", || told.waits.get() > 0).await;
            go.send(()).unwrap();
        };
        let passing = relay(&from, &to, input, &pool, usize::MAX, &told);
        let (ended, ()) = rt::join(passing, full).await;
        assert_eq!((ended.unwrap(), told.bytes.get()), (Relayed::Ended, BYTES as u64));
        assert_eq!(told.waits.get(), told.goes_on.get());
        to.shutdown_write();
        sender.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_large_message_is_passed_on_and_said() {
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        let sender = thread::spawn(move || {
            (&source).write_all(&[7; LARGE * 4]).unwrap();
            source
        });
        let reader = thread::spawn(move || sink.read_exact(&mut [0; LARGE * 4]).map(|()| sink));
        let (pool, told) = (BufPool::new(LARGE * 2, 16), Told::default());
        while told.bytes.get() < LARGE as u64 * 4 {
            let large = relay(&from, &to, None, &pool, 1, &told).await.unwrap();
            assert_eq!(large, Relayed::Large);
        }
        reader.join().unwrap().unwrap();
        sender.join().unwrap();
    });
}

/// Although nobody waits for the end of a send.
#[test]
fn a_target_that_fails_ends_a_silent_way() {
    on_core(|| async {
        let ((from, mut source), (to, sink)) = (pair(), pair());
        to.reset_on_close();
        to.shutdown_write(); // what is sent from now on fails
        drop(sink);
        source.write_all(b"in vain").unwrap();
        let pool = BufPool::new(LARGE * 2, 16);
        let ended = relay(&from, &to, None, &pool, LARGE, &Told::default()).await;
        let Err(SpliceError::To(error)) = ended else { panic!("{ended:?}") };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(pool.stats().in_use, 0);
        source.shutdown(Shutdown::Both).unwrap();
    });
}

#[test]
fn one_that_is_dropped_gives_its_buffer_back() {
    on_core(|| async {
        let ((from, source), (to, sink)) = (pair(), pair());
        let end = source.try_clone().unwrap();
        let sender = thread::spawn(move || {
            let _ = (&source).write_all(&vec![1; 64 * 1024 * 1024]); // more than all buffers take
        });
        let (pool, told) = (BufPool::new(LARGE, 8), Told::default());
        {
            let mut passing = std::pin::pin!(relay(&from, &to, None, &pool, usize::MAX, &told));
            let mut ticks = std::pin::pin!(async {
                while told.waits.get() == 0 {
                    rt::sleep(Duration::from_millis(1)).await;
                }
            });
            rt::race(passing.as_mut(), ticks.as_mut()).await;
        }
        drop((from, to, sink));
        while pool.stats().in_use > 0 {
            rt::yield_now().await;
        }
        // Where its window was shut and all had been read, the other side's end is no reset: the kernel would
        // ask for room for a minute.
        let _ = end.shutdown(Shutdown::Both); // it may be over
        sender.join().unwrap();
    });
}
