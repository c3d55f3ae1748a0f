//! What is left of a connection that ended badly: nothing. A program of its own, and its tests one
//! after the other, because they count the descriptors of the whole process.

mod rt_support;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ringway::rt::{self, BufPool, ConnectError, Either, Listener, Stream};
use rt_support::until;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// On a thread of its own, and not before all threads of an earlier test are gone.
fn on_core<F: Future<Output = ()>>(f: impl FnOnce() -> F + Send + 'static) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let core = std::thread::spawn(|| rt::run(rt_support::settings(), f).unwrap());
    core.join().unwrap();
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Stream::from_fd(OwnedFd::from(listener.accept().unwrap().0)).unwrap(), peer)
}

/// What a peer sees at the end of a connection.
fn ending(mut peer: &TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).map(|_| rest).map_err(|error| error.kind())
}

#[test]
fn a_connection_dropped_in_the_middle_of_a_receive_is_closed_too() {
    on_core(|| async {
        let pool = BufPool::new(1024, 2);
        let before = open_files();
        for reset in [false, true] {
            let (stream, peer) = pair();
            {
                let mut receive = pin!(stream.recv(pool.take().unwrap()));
                let mut nap = pin!(rt::sleep(Duration::from_millis(5)));
                let first = rt::race(receive.as_mut(), nap.as_mut()).await;
                assert!(matches!(first, Either::Right(())), "nothing to receive");
            } // the receive is dropped here, in flight
            if reset {
                stream.reset_on_close();
            }
            drop(stream);
            if !reset {
                assert_eq!(ending(&peer), Ok(vec![]), "the peer sees FIN at once");
            }
            if reset {
                // Without keeping the loop from turning: the kernel has the receive until it is cancelled.
                peer.set_nonblocking(true).unwrap();
                let is_reset = || ending(&peer) == Err(ErrorKind::ConnectionReset);
                until("the peer sees a reset", is_reset).await;
            }
            drop(peer);
            until("the buffer comes back", || pool.stats().in_use == 0).await;
            until("and the descriptor", || open_files() == before).await;
        }
    });
}

#[test]
fn a_connect_nobody_answers_times_out_and_leaks_nothing() {
    on_core(|| async {
        let deaf =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&SocketAddr::from(LOOPBACK).into()).unwrap();
        deaf.listen(0).unwrap();
        let addr = deaf.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let within = Duration::from_millis(100);
        let open = open_files();
        let started = loop {
            let started = Instant::now();
            match rt::connect(addr, within).await {
                Ok(stream) => queued.push(stream), // still fits into the queue
                Err(error) => {
                    assert_eq!(error, ConnectError::TimedOut);
                    break started;
                }
            }
            assert!(queued.len() < 100, "a queue of length 0 is full at some time");
        };
        let waited = started.elapsed();
        assert!((within..within * 5).contains(&waited), "{waited:?}");
        let before = open + queued.len();
        until("the one that timed out is closed", || open_files() == before).await;
        for _ in 0..20 {
            let result = rt::connect(addr, Duration::from_millis(10)).await;
            assert_eq!(result.unwrap_err(), ConnectError::TimedOut);
        }
        until("all of them are closed", || open_files() == before).await;
    });
}

#[test]
fn running_out_of_descriptors_is_said_and_survived() {
    on_core(|| async {
        let bound = rt::bind(SocketAddr::from(LOOPBACK)).unwrap();
        let addr = bound.local_addr();
        let listener = Listener::adopt(bound).unwrap();
        let _peers: Vec<_> = (0..4).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let mut hoard = Vec::new();
        let limit = rt::machine::open_files_max().unwrap();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
            assert!(hoard.len() as u64 <= limit);
        }
        let mut accepted = Vec::new();
        let none = listener.accept_batch(&mut accepted, 32).await.unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::EMFILE));
        hoard.truncate(hoard.len() - 3);
        assert_eq!(listener.accept_batch(&mut accepted, 32).await.unwrap(), 3);
        let none = listener.accept_batch(&mut accepted, 32).await.unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::EMFILE));
        hoard.clear();
        assert_eq!(listener.accept_batch(&mut accepted, 32).await.unwrap(), 1);
    });
}

#[test]
fn a_mailbox_without_a_descriptor_to_wait_with_still_receives() {
    on_core(|| async {
        let (sender, mailbox) = rt::mailbox(1);
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            sender.send("late").unwrap();
        });
        assert_eq!(mailbox.recv().await, Some("late"));
        drop(hoard);
        late.join().unwrap();
        assert_eq!(mailbox.recv().await, None);
    });
}
