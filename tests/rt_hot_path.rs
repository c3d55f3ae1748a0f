//! What a request costs in the floor: ring operations and allocations of receives and sends. A program
//! of its own with one test, because it counts what the whole process does.
#![allow(unsafe_code)] // the counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ringway::rt::{self, BufPool, Deadlines, Receive, RuntimeSettings, Shut, Stream};

struct Counting;

thread_local! {
    /// Of this thread: the test harness allocates on its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Entries the only ring of this process was ever given. Source: fdinfo of io_uring.
fn ring_entries() -> u64 {
    let ring = std::fs::read_dir("/proc/self/fd").unwrap().flatten().find(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[io_uring]")
    });
    let name = ring.expect("a ring among the open files").file_name();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", name.display())).unwrap();
    let tail = info.lines().find_map(|line| line.strip_prefix("SqTail:")).expect("SqTail");
    tail.trim().parse().unwrap()
}

/// With one connection nothing else happens in a turn: sends are system calls of their own.
#[test]
fn receives_and_sends_cost_at_most_one_ring_operation_each_and_no_allocation() {
    into_a_buffer_of_ones_own();
    for (receive, per_round) in
        [(Receive::Multishot, 0), (Receive::OneShot, 1), (Receive::Readiness, 1)]
    {
        into_a_lent_buffer(receive, per_round);
    }
    of_many_at_once();
}

const ROUNDS: u64 = 200;

fn into_a_buffer_of_ones_own() {
    rt::run(RuntimeSettings { ring_entries: 256, ..Default::default() }, || async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let stream = Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
        let pool = BufPool::new(32 * 1024, 4);
        let deadlines = Deadlines::new(Duration::from_millis(50));
        let deadline = deadlines.register(&stream);
        for round in 0..2 {
            let (entries, allocations) = (ring_entries(), ALLOCATIONS.get());
            for _ in 0..ROUNDS {
                peer.write_all(b"ping").unwrap();
                let buf = pool.take().unwrap();
                deadline.set(Duration::from_secs(10), Shut::Read, 1);
                let (received, buf) = stream.recv(buf).await;
                assert_eq!(received.unwrap(), 4);
                deadline.set(Duration::from_secs(10), Shut::Both, 2);
                let (sent, _) = stream.send(buf, 4).await;
                sent.unwrap();
                deadline.clear();
                deadlines.advance(Instant::now());
                peer.read_exact(&mut [0; 4]).unwrap();
            }
            let allocated = ALLOCATIONS.get() - allocations;
            assert_eq!(ring_entries() - entries, ROUNDS);
            if round > 0 {
                assert_eq!(allocated, 0, "nothing is allocated once it is warm");
            }
        }
    })
    .unwrap();
}

/// What the kernel receives by itself: one entry serves many messages where it can.
fn into_a_lent_buffer(receive: Receive, per_round: u64) {
    let has_many = rt::machine::kernel_version().is_at_least(6, 17);
    rt::run(RuntimeSettings { ring_entries: 256, receive, ..Default::default() }, || async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let stream = Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
        let pool = BufPool::new(32 * 1024, 64);
        for round in 0..2 {
            let (entries, allocations) = (ring_entries(), ALLOCATIONS.get());
            for _ in 0..ROUNDS {
                peer.write_all(b"ping").unwrap();
                let buf = stream.next(&pool).await.unwrap().expect("bytes");
                assert_eq!(buf.data(), b"ping");
                stream.send(buf, 4).await.0.unwrap();
                peer.read_exact(&mut [0; 4]).unwrap();
                assert!(!matches!(receive, Receive::Multishot) || !has_many || stream.is_quiet());
            }
            let allocated = ALLOCATIONS.get() - allocations;
            let per_round = if has_many { per_round } else { 1 };
            let most = per_round * ROUNDS + 2; // and armed twice
            assert!(ring_entries() - entries <= most, "{receive:?}");
            if round > 0 {
                assert_eq!(allocated, 0, "{receive:?}: nothing is allocated once it is warm");
            }
        }
    })
    .unwrap();
}

/// Where many messages come at once, what is sent for them leaves with one system call.
fn of_many_at_once() {
    const CONNECTIONS: u64 = 16;
    rt::run(RuntimeSettings { ring_entries: 256, ..Default::default() }, || async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let pool = BufPool::new(32 * 1024, 64);
        let mut peers = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            peers.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let stream = Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
            stream.listen(&pool);
            streams.push(stream);
        }
        rt::yield_now().await; // all are armed
        for peer in &mut peers {
            peer.write_all(b"ping").unwrap();
        }
        let mut received = Vec::new();
        for stream in &streams {
            received.push(stream.next(&pool).await.unwrap().expect("bytes"));
        }
        let entries = ring_entries();
        for (stream, buf) in streams.iter().zip(received) {
            stream.send(buf, 4).await.0.unwrap();
        }
        assert!(ring_entries() > entries, "the first of them at least goes with the ring");
        for peer in &mut peers {
            peer.read_exact(&mut [0; 4]).unwrap();
        }
    })
    .unwrap();
}
