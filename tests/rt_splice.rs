//! splice(2) between real sockets: every byte arrives, no kernel thread is made, pipes are reused
//! only when they are empty.

mod rt_support;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use ringway::base::limits::PIPE_BYTES;
use ringway::rt::{
    self, Deadlines, PipePool, Shut, SpliceError, Stream, splice_exact, splice_until_eof,
};

const MIB: usize = 1024 * 1024;

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap(), peer)
}

/// Byte `i` of the stream every test sends: no period that a pipe or page could hide in.
fn pattern(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Sends the first `total` bytes of the pattern from a thread.
fn send_pattern(mut to: TcpStream, total: usize) -> thread::JoinHandle<TcpStream> {
    thread::spawn(move || {
        for start in (0..total).step_by(MIB) {
            to.write_all(&pattern(start..total.min(start + MIB))).unwrap();
        }
        to
    })
}

/// Threads the kernel made for this process's rings; IORING_OP_SPLICE would make one per splice.
fn ring_workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk")).count()
}

#[test]
fn sixty_four_mebibytes_arrive_through_a_slow_reader_without_a_kernel_thread() {
    const TOTAL: usize = 64 * MIB;
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        let sender = send_pattern(source, TOTAL);
        let reader = thread::spawn(move || {
            for start in (0..TOTAL).step_by(MIB) {
                let mut got = vec![0; MIB];
                sink.read_exact(&mut got).unwrap();
                assert!(got == pattern(start..start + MIB), "the mebibyte from {start} on");
                if start % (16 * MIB) == 0 {
                    thread::sleep(Duration::from_millis(50)); // everything in between fills up
                }
            }
            (&sink).write_all(b"ok").unwrap();
        });
        let pool = PipePool::new(2, PIPE_BYTES);
        let mut pipe = pool.take().unwrap();
        let moved = Cell::new(0);
        let total = splice_exact(&from, &to, &mut pipe, TOTAL as u64, &moved).await.unwrap();
        assert_eq!((total, moved.get()), (TOTAL as u64, TOTAL as u64));
        assert_eq!(ring_workers(), 0);
        drop(pipe);
        assert_eq!(pool.counts(), (0, 1), "an empty pipe returns");
        let buffers = rt::BufPool::new(1024, 1);
        let (received, buf) = to.recv(buffers.take().unwrap()).await; // the ring works on as before
        assert_eq!((received.unwrap(), buf.data()), (2, &b"ok"[..]));
        sender.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn many_waiting_splices_make_no_kernel_thread() {
    on_core(|| async {
        let pool = PipePool::new(40, 64 * 1024);
        let mut ends = Vec::new();
        for _ in 0..40 {
            let ((from, source), (to, sink)) = (pair(), pair());
            let mut pipe = pool.take().unwrap();
            ends.push((source, sink));
            rt::spawn_guarded(
                async move {
                    splice_until_eof(&from, &to, &mut pipe, &Cell::new(0)).await.unwrap();
                },
                |place| panic!("{place}"),
            );
        }
        assert!(pool.take().is_none(), "the pool is bounded");
        rt::sleep(Duration::from_millis(50)).await;
        assert_eq!(ring_workers(), 0);
        let peers = thread::spawn(move || {
            for (mut source, mut sink) in ends {
                source.write_all(b"through").unwrap();
                drop(source);
                let mut got = String::new();
                sink.read_to_string(&mut got).unwrap();
                assert_eq!(got, "through");
            }
        });
        while !peers.is_finished() {
            rt::sleep(Duration::from_millis(5)).await;
        }
        peers.join().unwrap();
        rt::sleep(Duration::from_millis(20)).await;
        assert_eq!(pool.counts(), (0, 40));
    });
}

#[test]
fn a_source_that_ends_early_is_said_after_all_it_sent_was_passed_on() {
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        drop(send_pattern(source, MIB)); // sends, then closes
        let reader = thread::spawn(move || {
            let mut got = vec![0; MIB];
            sink.read_exact(&mut got).unwrap();
            got
        });
        let pool = PipePool::new(1, PIPE_BYTES);
        let mut pipe = pool.take().unwrap();
        let moved = Cell::new(0);
        let ended = splice_exact(&from, &to, &mut pipe, 2 * MIB as u64, &moved).await;
        assert!(matches!(ended, Err(SpliceError::FromEnded)), "{ended:?}");
        assert_eq!(moved.get(), MIB as u64);
        assert!(reader.join().unwrap() == pattern(0..MIB));
        drop(pipe);
        assert_eq!(pool.counts(), (0, 1));
    });
}

#[test]
fn a_tunnel_ends_with_its_source() {
    on_core(|| async {
        let ((from, source), (to, mut sink)) = (pair(), pair());
        drop(send_pattern(source, 3 * MIB + 17));
        let reader = thread::spawn(move || {
            let mut got = vec![0; 3 * MIB + 17];
            sink.read_exact(&mut got).unwrap();
            got
        });
        let mut pipe = PipePool::new(1, PIPE_BYTES).take().unwrap();
        let seen = Cell::new(0);
        let count = |moved: u64| seen.set(seen.get() + moved);
        let total = splice_until_eof(&from, &to, &mut pipe, &count).await.unwrap();
        assert_eq!((total as usize, seen.get()), (3 * MIB + 17, total));
        assert!(reader.join().unwrap() == pattern(0..3 * MIB + 17));
    });
}

#[test]
fn a_reset_source_and_a_reset_target_are_told_apart() {
    on_core(|| async {
        let pool = PipePool::new(1, PIPE_BYTES);
        let ((from, source), (to, _sink)) = (pair(), pair());
        socket2::SockRef::from(&source).set_linger(Some(Duration::ZERO)).unwrap();
        drop(source);
        let mut pipe = pool.take().unwrap();
        let result = splice_exact(&from, &to, &mut pipe, 10, &Cell::new(0)).await;
        let Err(SpliceError::From(error)) = result else { panic!("{result:?}") };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        drop(pipe);
        assert_eq!(pool.counts(), (0, 1));

        let ((from, source), (to, sink)) = (pair(), pair());
        let sender = thread::spawn(move || (&source).write_all(&vec![0; 8 * MIB]).map(|()| source));
        socket2::SockRef::from(&sink).set_linger(Some(Duration::ZERO)).unwrap();
        drop(sink);
        let mut pipe = pool.take().unwrap();
        let moved = Cell::new(0);
        let result = splice_exact(&from, &to, &mut pipe, 8 * MIB as u64, &moved).await;
        let Err(SpliceError::To(error)) = result else { panic!("{result:?}") };
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(pipe.held() > 0, "bytes that nobody may get");
        drop(pipe);
        assert_eq!(pool.counts(), (0, 0), "closed, not pooled");
        drop(from);
        let _ = sender.join().unwrap();
    });
}

#[test]
fn a_deadline_that_each_step_moves_ends_a_stalled_splice() {
    on_core(|| async {
        let deadlines = Deadlines::new(Duration::from_millis(10));
        let ticked = deadlines.clone();
        rt::spawn_guarded(
            async move {
                loop {
                    rt::sleep(Duration::from_millis(10)).await;
                    ticked.advance(Instant::now());
                }
            },
            |place| panic!("{place}"),
        );
        let ((from, mut source), (to, _sink)) = (pair(), pair());
        let deadline = deadlines.register(&from);
        let trickle = thread::spawn(move || {
            for _ in 0..10 {
                source.write_all(b"slow").unwrap();
                thread::sleep(Duration::from_millis(30));
            }
            source // and then silence
        });
        let mut pipe = PipePool::new(1, PIPE_BYTES).take().unwrap();
        let patience = Duration::from_millis(150);
        deadline.set(patience, Shut::Read, 5);
        let moved = Cell::new(0);
        let step = |bytes: u64| {
            moved.set(moved.get() + bytes);
            deadline.set(patience, Shut::Read, 5);
        };
        let result = splice_exact(&from, &to, &mut pipe, 1000, &step).await;
        assert!(matches!(result, Err(SpliceError::FromEnded)), "{result:?}");
        assert_eq!((moved.get(), deadline.fired()), (40, Some(5)), "ten steps, then cut");
        trickle.join().unwrap();
    });
}

/// The last part of a body must not wait for more to come (SPLICE_F_MORE would hold it back).
#[test]
fn a_trickle_is_passed_on_at_once() {
    on_core(|| async {
        let ((from, mut source), (to, mut sink)) = (pair(), pair());
        let talk = thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let before = Instant::now();
                source.write_all(b"event").unwrap();
                sink.read_exact(&mut [0; 5]).unwrap();
                slowest = slowest.max(before.elapsed());
            }
            slowest
        });
        let mut pipe = PipePool::new(1, PIPE_BYTES).take().unwrap();
        splice_until_eof(&from, &to, &mut pipe, &Cell::new(0)).await.unwrap();
        let slowest = talk.join().unwrap();
        assert!(slowest < Duration::from_millis(150), "a corked segment waits 200 ms: {slowest:?}");
    });
}
