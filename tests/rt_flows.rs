//! Receives that go on by themselves: nothing is lost, reordered or given to a stranger, nobody eats
//! the buffers, an idle connection holds none. In each of the three ways an
//! `io_uring` may offer, and with epoll.

mod rt_support;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use ringway::rt::{
    self, Buf, BufPool, Deadlines, DriverKind, Either, PeerState, PipePool, Receive,
    RuntimeSettings, Shut, Stream, splice_exact,
};
use rt_support::until;

/// Of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ring(Receive),
    Epoll,
}

const WAYS: [Way; 4] = [
    Way::Ring(Receive::Multishot),
    Way::Ring(Receive::OneShot),
    Way::Ring(Receive::Readiness),
    Way::Epoll,
];

fn on_core<F: Future>(way: Way, f: impl FnOnce() -> F) -> F::Output {
    let (driver, receive) = match way {
        Way::Ring(receive) => (DriverKind::IoUring, receive),
        Way::Epoll => (DriverKind::Epoll, Receive::default()),
    };
    rt::run(RuntimeSettings { driver, ring_entries: 256, receive, ..Default::default() }, f)
        .expect("a loop")
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap(), peer)
}

fn pool() -> BufPool {
    BufPool::new(32 * 1024, 4096)
}

/// Byte `i` of the stream every test sends: no period that a buffer could hide in.
fn pattern(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn nap() {
    rt::sleep(Duration::from_millis(20)).await;
}

/// Polls once and drops.
async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn messages_arrive_in_buffers_with_room_on_both_sides() {
    for way in WAYS {
        on_core(way, || async {
            let (stream, mut peer) = pair();
            let pool = pool();
            for round in 0..1000u32 {
                let message = round.to_string();
                peer.write_all(message.as_bytes()).unwrap();
                let mut buf = stream.next(&pool).await.unwrap().expect("bytes");
                assert_eq!(buf.data(), message.as_bytes());
                assert!(buf.prepend(&[b'h'; 2048]), "the headroom is free");
                assert!(buf.append(&[b't'; 16]), "and so is the tailroom");
            }
            let stats = pool.stats();
            assert_eq!((stats.in_use, stats.starved), (0, 0), "{way:?}");
            assert!(stats.allocated <= 18, "{way:?}: {stats:?}");
        });
    }
}

#[test]
fn a_waiting_connection_holds_no_buffer() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let pairs: Vec<_> = (0..200).map(|_| pair()).collect();
            for (stream, _) in &pairs {
                assert!(poll_once(stream.next(&pool)).await.is_pending());
            }
            nap().await;
            assert!(pool.stats().allocated <= 16, "{way:?}: {:?}", pool.stats());
            for (index, (stream, peer)) in pairs.iter().enumerate() {
                (&*peer).write_all(&[index as u8]).unwrap();
                let buf = stream.next(&pool).await.unwrap().expect("bytes");
                assert_eq!(buf.data(), [index as u8], "a dropped wait loses nothing");
            }
        });
    }
}

#[test]
fn what_fits_goes_behind_what_is_there_and_the_rest_comes_next() {
    for way in WAYS {
        on_core(way, || async {
            let (stream, mut peer) = pair();
            let pool = BufPool::new(100, 64);
            let mut slot: Option<Buf> = None;
            peer.write_all(&pattern(0..60)).unwrap();
            assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 60);
            peer.write_all(&pattern(60..130)).unwrap();
            assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 40);
            let full = stream.fill(&mut slot, &pool).await.unwrap_err();
            assert_eq!(full.kind(), ErrorKind::InvalidInput);
            let first = slot.take().unwrap();
            assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 30);
            let got = [first.data(), slot.as_ref().unwrap().data()].concat();
            assert_eq!(got, pattern(0..130), "{way:?}");
        });
    }
}

/// What was sent before the end comes before the end, and the end is said again and again.
#[test]
fn the_end_and_errors_come_behind_the_bytes() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let (stream, mut peer) = pair();
            assert!(poll_once(stream.next(&pool)).await.is_pending());
            peer.write_all(b"last words").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            nap().await;
            assert_eq!(stream.next(&pool).await.unwrap().unwrap().data(), b"last words");
            for _ in 0..3 {
                assert!(stream.next(&pool).await.unwrap().is_none());
            }
            assert_eq!(stream.peek_state(), PeerState::Closed);
            stream.try_send(b"answer").unwrap();
            peer.read_exact(&mut [0; 6]).unwrap();

            let (stream, mut peer) = pair();
            assert!(poll_once(stream.next(&pool)).await.is_pending());
            peer.write_all(b"cut").unwrap();
            nap().await;
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            nap().await;
            let first = stream.next(&pool).await;
            if !matches!(way, Way::Ring(Receive::Readiness) | Way::Epoll) {
                // recv(2) is asked after the reset there, which throws the bytes away.
                assert_eq!(first.unwrap().unwrap().data(), b"cut");
                let failed = stream.next(&pool).await.unwrap_err();
                assert_eq!(failed.kind(), ErrorKind::ConnectionReset, "{way:?}");
            }
            assert_eq!(stream.peek_state(), PeerState::Failed);
        });
    }
}

#[test]
fn an_idle_connection_shows_what_its_peer_does() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let [quiet, noisy, closed, reset] = [pair(), pair(), pair(), pair()];
            for (stream, _) in [&quiet, &noisy, &closed, &reset] {
                stream.listen(&pool);
                assert!(stream.is_quiet());
            }
            nap().await;
            (&noisy.1).write_all(b"unasked").unwrap();
            closed.1.shutdown(Shutdown::Write).unwrap();
            socket2::SockRef::from(&reset.1).set_linger(Some(Duration::ZERO)).unwrap();
            drop(reset.1);
            for stream in [&noisy.0, &closed.0, &reset.0] {
                until(&format!("{way:?}: it is heard"), || !stream.is_quiet()).await;
            }
            assert!(quiet.0.is_quiet(), "{way:?}");
            assert_eq!(noisy.0.next(&pool).await.unwrap().unwrap().data(), b"unasked");
        });
    }
}

/// Peers that send as fast as they can to somebody who does not read hold a few buffers, and the
/// others go on being served. (Multishot receives without the kernel's bound take 1,800 here.)
#[test]
fn a_fast_sender_never_eats_the_buffers() {
    const SEEN: usize = 1 << 20;
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let flooded: Vec<_> = (0..8).map(|_| pair()).collect();
            let mut senders = Vec::new();
            for (stream, peer) in &flooded {
                stream.listen(&pool);
                let mut peer = peer.try_clone().unwrap();
                senders.push(thread::spawn(move || {
                    let sent = peer.write_all(&pattern(0..SEEN));
                    let more = vec![0; 256 * 1024];
                    while sent.is_ok() && peer.write_all(&more).is_ok() {}
                }));
            }
            let (stream, mut peer) = pair();
            let (started, mut most, mut round) = (Instant::now(), 0, 0u32);
            while started.elapsed() < Duration::from_millis(500) {
                peer.write_all(&round.to_ne_bytes()).unwrap();
                let buf = stream.next(&pool).await.unwrap().expect("served all the same");
                assert_eq!(buf.data(), round.to_ne_bytes());
                most = most.max(pool.stats().in_use);
                round += 1;
            }
            // 64 KiB that the kernel counts, and the message that reaches them.
            assert!(most <= flooded.len() * 3 + 1, "{way:?}: {most} buffers");
            let first = &flooded[0].0;
            let mut got = 0;
            while got < SEEN {
                let buf = first.next(&pool).await.unwrap().expect("more");
                let here = buf.len().min(SEEN - got);
                assert!(buf.data()[..here] == pattern(got..got + here), "{way:?} at {got}");
                got += here;
            }
            drop(flooded); // the senders end, when what was armed has been cancelled
            while !senders.iter().all(thread::JoinHandle::is_finished) {
                nap().await;
            }
        });
    }
}

/// The same with messages of a byte: each takes a whole buffer.
#[test]
fn a_sender_of_crumbs_never_eats_the_buffers() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let (stream, mut peer) = pair();
            stream.listen(&pool);
            let sender = thread::spawn(move || {
                for byte in pattern(0..500) {
                    peer.write_all(&[byte]).unwrap();
                    thread::sleep(Duration::from_micros(50));
                }
                peer
            });
            let mut most = 0;
            while !sender.is_finished() {
                rt::sleep(Duration::from_micros(200)).await;
                most = most.max(pool.stats().in_use);
            }
            assert!(most <= 20, "{way:?}: {most} buffers");
            let mut got = Vec::new();
            while got.len() < 500 {
                let buf = stream.next(&pool).await.unwrap().expect("more");
                got.extend_from_slice(buf.data());
            }
            assert_eq!(got, pattern(0..500), "{way:?}");
            drop(sender.join());
        });
    }
}

/// More connections become readable at once than buffers are lent: all are served, in time.
#[test]
fn running_out_of_lent_buffers_is_counted_and_made_good() {
    on_core(Way::Ring(Receive::Multishot), || async {
        let pool = pool();
        let pairs: Vec<_> = (0..300).map(|_| pair()).collect();
        pairs.iter().for_each(|(stream, _)| stream.listen(&pool));
        rt::yield_now().await;
        for round in 0..20u8 {
            pairs.iter().for_each(|(_, peer)| (&*peer).write_all(&[round]).unwrap());
            for (stream, _) in &pairs {
                assert_eq!(stream.next(&pool).await.unwrap().unwrap().data(), [round]);
            }
        }
        let stats = pool.stats();
        assert!(stats.starved > 0 && stats.starved < 1000, "{stats:?}");
        assert_eq!(stats.in_use, 0);
    });
}

#[test]
fn an_empty_pool_is_said_to_those_who_wait_and_survived() {
    for way in WAYS {
        on_core(way, || async {
            let pool = BufPool::new(1024, 4);
            let (stream, mut peer) = pair();
            let hoard: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            peer.write_all(b"patience").unwrap();
            let refused = stream.next(&pool).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::OutOfMemory, "{way:?}");
            drop(hoard);
            let buf = stream.next(&pool).await.unwrap().expect("the bytes are still there");
            assert_eq!(buf.data(), b"patience");
        });
    }
}

/// Cancelling races with arriving bytes: whatever was received before is in the queue, whatever comes
/// later is in the socket, and nothing is anywhere else.
#[test]
fn a_splice_takes_over_in_the_middle_without_losing_a_byte() {
    for way in WAYS {
        for round in 0..30usize {
            on_core(way, || async {
                let total = 400_000 + round * 1_001;
                let ((from, source), (to, mut sink)) = (pair(), pair());
                let sender = thread::spawn(move || {
                    let mut at = 0;
                    for step in (1usize..).map(|n| n * 977 % 40_000 + 1) {
                        let end = total.min(at + step);
                        (&source).write_all(&pattern(at..end)).unwrap();
                        at = end;
                        if at == total {
                            return source;
                        }
                    }
                    unreachable!()
                });
                let reader = thread::spawn(move || {
                    let mut got = vec![0; total];
                    sink.read_exact(&mut got).unwrap();
                    (got, sink)
                });
                let pool = pool();
                let mut sent = 0;
                for _ in 0..round % 5 {
                    let buf = from.next(&pool).await.unwrap().expect("more");
                    let n = buf.len();
                    to.send(buf, n).await.0.unwrap();
                    sent += n;
                }
                let mut pipe = PipePool::new(1, 1 << 18).take().unwrap();
                let part = (total - sent) as u64 / 2;
                let moved = Cell::new(0);
                splice_exact(&from, &to, &mut pipe, part, &moved).await.unwrap();
                assert_eq!(moved.get(), part);
                sent += part as usize;
                while sent < total {
                    // and back again
                    let buf = from.next(&pool).await.unwrap().expect("more");
                    let n = buf.len();
                    to.send(buf, n).await.0.unwrap();
                    sent += n;
                }
                let (got, _sink) = reader.join().unwrap();
                assert!(got == pattern(0..total), "{way:?}, round {round}");
                drop(sender.join());
            });
        }
    }
}

/// A wait for bytes that was dropped takes none from those who read in another way afterwards.
#[test]
fn a_dropped_wait_takes_nothing_from_others() {
    const TOTAL: usize = 40_000;
    for way in WAYS {
        for by_splice in [true, false] {
            on_core(way, || async {
                let ((from, source), (to, mut sink)) = (pair(), pair());
                let pool = pool();
                assert!(poll_once(from.next(&pool)).await.is_pending());
                rt::yield_now().await;
                let sender = thread::spawn(move || {
                    for at in (0..TOTAL).step_by(1000) {
                        (&source).write_all(&pattern(at..at + 1000)).unwrap();
                        thread::sleep(Duration::from_micros(100));
                    }
                    source
                });
                if by_splice {
                    let mut pipe = PipePool::new(1, 1 << 18).take().unwrap();
                    let moved = Cell::new(0);
                    splice_exact(&from, &to, &mut pipe, TOTAL as u64, &moved).await.unwrap();
                } else {
                    let mut sent = 0;
                    while sent < TOTAL {
                        let (received, buf) = from.recv(pool.take().unwrap()).await;
                        sent += received.unwrap();
                        let n = buf.len();
                        to.send(buf, n).await.0.unwrap();
                    }
                }
                let mut got = vec![0; TOTAL];
                sink.read_exact(&mut got).unwrap();
                assert!(got == pattern(0..TOTAL), "{way:?}, splice: {by_splice}");
                drop(sender.join());
            });
        }
    }
}

/// Connections that end while bytes are on their way: their descriptors' numbers are used again at
/// once, and the new ones get every byte of theirs and none of the old ones'.
#[test]
fn a_new_connection_never_gets_an_old_ones_bytes() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr: SocketAddr = listener.local_addr().unwrap();
            let mut same_number = 0;
            for round in 0..300u32 {
                let mut old = TcpStream::connect(addr).unwrap();
                let stream = Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
                // Armed and not submitted; armed and submitted; armed with bytes in the socket.
                stream.listen(&pool);
                if round % 3 > 0 {
                    rt::yield_now().await;
                }
                if round % 3 > 1 {
                    old.write_all(b"of the old one").unwrap();
                }
                if round % 2 > 0 {
                    assert!(poll_once(stream.readable()).await.is_pending() || round % 3 > 1);
                }
                let number = stream.fd();
                let mut new = TcpStream::connect(addr).unwrap();
                drop(stream);
                let accepted = OwnedFd::from(listener.accept().unwrap().0);
                let reused = Stream::from_fd(accepted).unwrap();
                same_number += u32::from(reused.fd() == number);
                new.write_all(&round.to_ne_bytes()).unwrap();
                let got = reused.next(&pool).await.unwrap().expect("its bytes");
                assert_eq!(got.data(), round.to_ne_bytes(), "{way:?}, round {round}");
                drop(got);
                let _ = old.write_all(b"late");
                drop(new);
                assert!(reused.next(&pool).await.unwrap().is_none());
            }
            until(&format!("{way:?}: no buffer in use"), || pool.stats().in_use == 0).await;
            assert!(same_number > 30, "{same_number}: other tests take numbers, too");
        });
    }
}

/// Dropped in flight, in every order: the buffers come back, the ring goes on.
#[test]
fn dropped_operations_give_their_buffers_back() {
    for way in WAYS {
        on_core(way, || async {
            let pool = pool();
            for round in 0..200 {
                let (stream, mut peer) = pair();
                let (other, _peer) = pair();
                if round % 2 == 0 {
                    stream.listen(&pool);
                }
                {
                    let mut receive = pin!(other.recv(pool.take().unwrap()));
                    let mut send = pin!(stream.send_bytes(vec![1; 8 << 20]));
                    let mut next = pin!(stream.next(&pool));
                    let mut soon = pin!(rt::yield_now());
                    std::future::poll_fn(|cx| {
                        assert!(receive.as_mut().poll(cx).is_pending());
                        assert!(send.as_mut().poll(cx).is_pending());
                        assert!(next.as_mut().poll(cx).is_pending());
                        if round % 3 > 0 { soon.as_mut().poll(cx) } else { Poll::Ready(()) }
                    })
                    .await;
                }
                let _ = peer.write_all(b"too late");
                if round % 5 > 2 {
                    rt::yield_now().await;
                }
            }
            until(&format!("{way:?}: no buffer in use"), || pool.stats().in_use == 0).await;
        });
    }
}

/// What is under way when the loop ends is ended with it: buffers, descriptors, tasks.
#[test]
fn a_loop_that_ends_leaves_nothing() {
    for way in WAYS {
        let pool = pool();
        let inside = pool.clone();
        let ended = Rc::new(());
        let held = Rc::clone(&ended);
        let (kept, peer) = on_core(way, || async move {
            for _ in 0..50 {
                let (stream, peer) = pair();
                let (pool, held) = (inside.clone(), Rc::clone(&held));
                rt::spawn_guarded(
                    async move {
                        let mut slot = None;
                        let both = rt::join(
                            stream.fill(&mut slot, &pool),
                            stream.send_bytes(vec![1; 8 << 20]),
                        );
                        both.await.0.unwrap();
                        drop((held, peer));
                    },
                    |place| panic!("{place}"),
                );
            }
            let (kept, peer) = pair();
            kept.listen(&inside);
            nap().await;
            (kept, peer)
        });
        assert_eq!(Rc::strong_count(&ended), 1, "{way:?}: tasks are dropped");
        assert_eq!((pool.stats().in_use, pool.stats().lent), (0, 0), "{way:?}");
        // And the next loop knows nothing of it.
        on_core(way, || async {
            (&peer).write_all(b"again").unwrap();
            assert_eq!(kept.next(&pool).await.unwrap().unwrap().data(), b"again");
            drop(kept);
        });
    }
}

#[test]
fn a_deadline_ends_a_receive_that_goes_on() {
    for way in WAYS {
        on_core(way, || async {
            let deadlines = Deadlines::new(Duration::from_millis(10));
            let ticked = deadlines.clone();
            let tick = async move {
                loop {
                    rt::sleep(Duration::from_millis(10)).await;
                    ticked.advance(Instant::now());
                }
            };
            rt::spawn_guarded(tick, |place| panic!("{place}"));
            let pool = pool();
            let (stream, mut peer) = pair();
            let deadline = deadlines.register(&stream);
            peer.write_all(b"half a he").unwrap();
            let mut slot = None;
            assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 9);
            deadline.set(Duration::from_millis(30), Shut::Read, 7);
            assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 0);
            assert_eq!((deadline.fired(), slot.unwrap().data()), (Some(7), &b"half a he"[..]));
            stream.send_bytes(b"408".to_vec()).await.0.unwrap();
            peer.read_exact(&mut [0; 3]).unwrap();
        });
    }
}

/// Tasks that wake each other without end keep neither bytes nor timers from anybody.
#[test]
fn a_run_queue_that_never_empties_starves_nobody() {
    for way in WAYS {
        on_core(way, || async {
            let stop = Rc::new(Cell::new(false));
            for _ in 0..3000 {
                let stop = Rc::clone(&stop);
                rt::spawn_guarded(
                    std::future::poll_fn(move |cx| {
                        if stop.get() {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }),
                    |place| panic!("{place}"),
                );
            }
            let pool = pool();
            let (stream, mut peer) = pair();
            let started = Instant::now();
            for _ in 0..20 {
                peer.write_all(b"ping").unwrap();
                let mut next = pin!(stream.next(&pool));
                let mut late = pin!(rt::sleep(Duration::from_secs(5)));
                let Either::Left(got) = rt::race(next.as_mut(), late.as_mut()).await else {
                    panic!("{way:?}: starved");
                };
                assert_eq!(got.unwrap().unwrap().data(), b"ping");
                rt::sleep(Duration::from_millis(1)).await;
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{way:?}");
            stop.set(true);
        });
    }
}

/// Reads into a buffer of one's own see what arrived before, and nothing twice.
#[test]
fn both_ways_of_receiving_keep_the_order() {
    for way in WAYS {
        on_core(way, || async {
            let (stream, peer) = pair();
            let sender = thread::spawn(move || {
                for at in (0..300_000).step_by(1000) {
                    (&peer).write_all(&pattern(at..at + 1000)).unwrap();
                }
                peer
            });
            let pool = pool();
            let mut got = Vec::new();
            for turn in 0.. {
                if got.len() == 300_000 {
                    break;
                }
                let mut buf = match turn % 3 {
                    0 => stream.next(&pool).await.unwrap().expect("more"),
                    1 => stream.recv(pool.take().unwrap()).await.1,
                    _ => pool.take().unwrap(),
                };
                if turn % 3 == 2 {
                    match stream.try_recv(&mut buf) {
                        Ok(n) => assert!(n > 0),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                got.extend_from_slice(buf.data());
            }
            assert!(got == pattern(0..300_000), "{way:?}");
            drop(sender.join());
        });
    }
}
