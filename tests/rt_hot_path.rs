//! What a request costs in the floor: ring operations and allocations of one receive and one send.
//! A program of its own with one test, because it counts what the whole process does.
#![allow(unsafe_code)] // the counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ringway::rt::{self, BufPool, Deadlines, RuntimeSettings, Shut, Stream};

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

#[test]
fn a_receive_and_a_send_cost_one_ring_operation_each_and_no_allocation() {
    const ROUNDS: u64 = 200;
    rt::run(RuntimeSettings { ring_entries: 256 }, || async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let stream = Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap();
        let pool = BufPool::new(32 * 1024, 4, 4);
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
            assert_eq!(ring_entries() - entries, 2 * ROUNDS);
            if round > 0 {
                assert_eq!(allocated, 0, "nothing is allocated once it is warm");
            }
        }
    })
    .unwrap();
}
