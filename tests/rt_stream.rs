//! `rt::Stream`, `rt::connect` and `rt::Listener` against real sockets on loopback. One loop per
//! test, on the test's own thread; the peers are blocking sockets of `std`.

mod rt_support;

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringway::rt::{self, Buf, BufPool, ConnectError, Either, Listener, PeerState, Stream};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

/// A connection: the proxy's end on the ring, the peer's end blocking.
fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (Stream::from_fd(OwnedFd::from(accepted)).unwrap(), peer)
}

fn pool() -> BufPool {
    BufPool::new(32 * 1024, 16)
}

fn with_data(pool: &BufPool, bytes: &[u8]) -> Buf {
    let mut buf = pool.take().unwrap();
    assert!(buf.append(bytes));
    buf
}

/// What a peer sees at the end of a connection.
fn ending(mut peer: &TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).map(|_| rest).map_err(|error| error.kind())
}

#[test]
fn receives_append_and_sends_consume() {
    on_core(|| async {
        let (stream, mut peer) = pair();
        let pool = pool();
        peer.write_all(b"hello ").unwrap();
        let (received, buf) = stream.recv(pool.take().unwrap()).await;
        assert_eq!(received.unwrap(), 6);
        peer.write_all(b"world").unwrap();
        let (received, mut buf) = stream.recv(buf).await;
        assert_eq!((received.unwrap(), buf.data()), (5, &b"hello world"[..]));

        assert!(buf.prepend(b">> "));
        let (sent, buf) = stream.send(buf, 8).await;
        sent.unwrap();
        assert_eq!(buf.data(), b" world");
        let mut got = [0; 8];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b">> hello");

        drop(peer);
        let (received, buf) = stream.recv(buf).await;
        assert_eq!((received.unwrap(), buf.data()), (0, &b" world"[..]), "the end of the stream");
    });
}

/// What is not asked for stays with the kernel, and what came before by itself is given first.
#[test]
fn receives_no_more_than_asked_for() {
    on_core(|| async {
        let (stream, mut peer) = pair();
        let (pool, mut slot, max) = (pool(), None, Cell::new(4));
        peer.write_all(b"before ").unwrap();
        assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 7);
        stream.listen(&pool);
        peer.write_all(b"by itself").unwrap();
        while stream.is_quiet() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        let mut got = Vec::new();
        while got.len() < 9 {
            let mut slot = None;
            assert!((1..=4).contains(&stream.fill_at_most(&mut slot, &pool, &max).await.unwrap()));
            got.extend_from_slice(slot.unwrap().data());
        }
        assert_eq!(got, b"by itself");
        {
            let mut slot = None;
            let waiting = stream.fill_at_most(&mut slot, &pool, &max);
            let pause = rt::sleep(Duration::from_millis(5));
            assert!(matches!(rt::race(pin!(waiting), pin!(pause)).await, Either::Right(())));
            assert!(slot.is_none(), "who waits holds no buffer");
        }
        peer.write_all(b"at the end").unwrap();
        assert_eq!(stream.fill_at_most(&mut slot, &pool, &max).await.unwrap(), 4);
        assert_eq!(slot.as_ref().unwrap().data(), b"before at t");
        drop(peer);
        assert_eq!(stream.fill(&mut slot, &pool).await.unwrap(), 6);
        assert_eq!(slot.as_ref().unwrap().data(), b"before at the end");
        assert_eq!(stream.fill_at_most(&mut slot, &pool, &max).await.unwrap(), 0);
    });
}

#[test]
fn a_receive_into_a_full_buffer_is_an_error_not_the_end() {
    on_core(|| async {
        let (stream, _peer) = pair();
        let full = with_data(&pool(), &[0; 32 * 1024]);
        let (received, mut full) = stream.recv(full).await;
        assert_eq!(received.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(stream.try_recv(&mut full).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn large_sends_go_out_completely_while_receiving() {
    const BYTES: usize = 8 * 1024 * 1024;
    on_core(|| async {
        let (stream, peer) = pair();
        let mut reading = peer.try_clone().unwrap();
        let (go, may_read) = mpsc::channel();
        let reader = thread::spawn(move || {
            may_read.recv().unwrap();
            let mut got = vec![0; BYTES];
            reading.read_exact(&mut got).unwrap();
            (&reading).write_all(b"thanks").unwrap();
            got
        });
        let bytes: Vec<u8> = (0..BYTES).map(|i| (i * 7 / 3) as u8).collect();
        let full = async {
            let is_full = || stream.tcp_info().unwrap().bytes_unsent > 0;
            rt_support::until("the send buffer fills", is_full).await;
            go.send(()).unwrap();
        };
        let both = rt::join(stream.send_bytes(bytes), stream.recv(pool().take().unwrap()));
        let (((sent, bytes), (received, buf)), ()) = rt::join(both, full).await;
        sent.unwrap();
        received.unwrap();
        assert_eq!(buf.data(), b"thanks");
        assert!(reader.join().unwrap() == bytes, "every byte, in order");
    });
}

#[test]
fn direct_calls_do_not_wait() {
    on_core(|| async {
        let (stream, mut peer) = pair();
        let mut buf = pool().take().unwrap();
        assert_eq!(stream.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(stream.peek_state(), PeerState::Quiet);
        peer.write_all(b"abc").unwrap();
        stream.readable().await.unwrap();
        assert_eq!(stream.peek_state(), PeerState::HasBytes);
        assert_eq!((stream.try_recv(&mut buf).unwrap(), buf.data()), (3, &b"abc"[..]));
        assert_eq!(stream.try_send(b"xyz").unwrap(), 3);
        let mut got = [0; 3];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"xyz");

        while stream.try_send(&[0; 65536]).is_ok() {}
        assert_eq!(stream.try_send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        let info = stream.tcp_info().unwrap();
        assert!(stream.unacknowledged_bytes().unwrap() > 0 && info.bytes_received == 3);
        assert!(!info.state_closed && !info.peer_closed && info.bytes_unsent > 0);

        drop(peer); // unread bytes there: a reset
        stream.readable().await.unwrap();
        assert_eq!(stream.peek_state(), PeerState::Failed);
        assert!(stream.tcp_info().unwrap().state_closed);
    });
}

#[test]
fn a_half_closed_peer_is_seen() {
    on_core(|| async {
        let (stream, peer) = pair();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        stream.readable().await.unwrap();
        assert_eq!(stream.peek_state(), PeerState::Closed);
        let info = stream.tcp_info().unwrap();
        assert!(info.peer_closed && !info.state_closed);
    });
}

#[test]
fn hung_up_sockets_are_found_among_many() {
    on_core(|| async {
        let pairs: Vec<_> = (0..150).map(|_| pair()).collect();
        let fds: Vec<_> = pairs.iter().map(|(stream, _)| stream.fd()).collect();
        let mut gone = Vec::new();
        rt::poll_gone(&fds, &mut gone);
        assert_eq!(gone, []);
        pairs[3].1.shutdown(std::net::Shutdown::Write).unwrap();
        socket2::SockRef::from(&pairs[140].1).set_linger(Some(Duration::ZERO)).unwrap();
        let (streams, mut peers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        drop(peers.remove(140));
        streams[3].readable().await.unwrap();
        streams[140].readable().await.unwrap();
        rt::poll_gone(&fds, &mut gone);
        assert_eq!(gone, [(3, true), (140, false)]);
    });
}

#[test]
fn the_close_sends_what_it_should() {
    on_core(|| async {
        let (stream, peer) = pair();
        assert_eq!(stream.try_send(b"bye").unwrap(), 3);
        drop(stream);
        assert_eq!(ending(&peer), Ok(b"bye".to_vec()), "nothing unread: FIN");

        let (stream, peer) = pair();
        (&peer).write_all(b"never read").unwrap();
        stream.readable().await.unwrap();
        drop(stream);
        assert_eq!(ending(&peer), Err(ErrorKind::ConnectionReset), "unread bytes: RST");

        let (stream, peer) = pair();
        stream.reset_on_close();
        drop(stream);
        assert_eq!(ending(&peer), Err(ErrorKind::ConnectionReset), "as asked for");

        let (stream, peer) = pair();
        (&peer).write_all(b"read late").unwrap();
        stream.readable().await.unwrap();
        stream.shutdown_write();
        let (_, buf) = stream.recv(pool().take().unwrap()).await;
        drop(stream);
        assert_eq!(buf.data(), b"read late");
        assert_eq!(ending(&peer), Ok(vec![]), "read after the shutdown: FIN");
    });
}

#[test]
fn connects_or_says_why_not() {
    on_core(|| async {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = rt::connect(addr, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"hi").unwrap();
        let (_, buf) = stream.recv(pool().take().unwrap()).await;
        assert_eq!(buf.data(), b"hi");
        drop(listener);
        let refused = rt::connect(addr, Duration::from_secs(5)).await;
        assert_eq!(refused.unwrap_err(), ConnectError::Refused);
        let multicast = "224.0.0.1:9".parse().unwrap(); // no packet is sent: TCP has no such thing
        let other = rt::connect(multicast, Duration::from_secs(5)).await;
        assert_eq!(other.unwrap_err(), ConnectError::Other(libc::ENETUNREACH));
    });
}

#[test]
fn accepts_in_batches() {
    on_core(|| async {
        let bound = rt::bind(SocketAddr::from(LOOPBACK)).unwrap();
        let addr = bound.local_addr();
        let listener = Listener::adopt(bound).unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        let mut peers: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let mut accepted = Vec::new();
        assert_eq!(listener.accept_batch(&mut accepted, 3).await.unwrap(), 3);
        assert_eq!(listener.accept_batch(&mut accepted, 3).await.unwrap(), 2);
        assert_eq!(accepted[4].peer, peers[4].local_addr().unwrap());
        for (one, peer) in accepted.drain(..).zip(&mut peers) {
            let stream = one.into_stream();
            let socket = socket2::SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
            let info =
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", stream.fd())).unwrap();
            assert!(info.contains("flags:\t02004002"), "O_CLOEXEC | O_NONBLOCK | O_RDWR: {info}");
            stream.try_send(b"!").unwrap();
            peer.read_exact(&mut [0; 1]).unwrap();
        }
        let mut nap = pin!(rt::sleep(Duration::from_millis(20)));
        let mut accept = pin!(listener.accept_batch(&mut accepted, 3));
        let first = rt::race(accept.as_mut(), nap.as_mut()).await;
        assert!(matches!(first, Either::Right(())), "nobody is there: it waits");
    });
}

#[test]
fn closing_a_listener_ends_its_accept_and_later_ones() {
    on_core(|| async {
        let listener = Listener::adopt(rt::bind(SocketAddr::from(LOOPBACK)).unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let close = async {
            rt::sleep(Duration::from_millis(10)).await;
            listener.close();
        };
        let mut accepted = Vec::new();
        let (ended, ()) = rt::join(listener.accept_batch(&mut accepted, 8), close).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(listener.accept_batch(&mut accepted, 8).await.is_err(), "no spinning");
        let refused = rt::connect(addr, Duration::from_secs(5)).await;
        assert_eq!(refused.unwrap_err(), ConnectError::Refused);
    });
}

#[test]
fn only_connected_tcp_sockets_become_streams() {
    on_core(|| async {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(file.as_raw_fd() > 0);
        let error: io::Error = Stream::from_fd(OwnedFd::from(file)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    });
}
