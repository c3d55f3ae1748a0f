//! Accepting connections: one SO_REUSEPORT socket per core, taken from in batches.
//!
//! Sockets are bound on the control thread, before the workers start, so that a busy port is an
//! error at start; [`Bound`] then travels to the core that makes a [`Listener`] of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

use super::epoll::Side;
use super::ring_fd::RingFd;
use super::stream::Stream;
use super::sys;

/// Connections the kernel keeps for a listener until it takes them; it cuts this to
/// `net.core.somaxconn`, 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// A listening socket on its way to the core that accepts from it.
#[derive(Debug)]
pub struct Bound {
    fd: OwnedFd,
    addr: SocketAddr,
    /// Somebody else goes on listening when this process stops.
    foreign: bool,
}

impl Bound {
    /// Takes over a socket that somebody else bound. `foreign`: it is not ours alone (systemd's), so it
    /// must never be shut down.
    ///
    /// # Errors
    /// When it is no TCP socket that listens.
    pub fn adopt(fd: OwnedFd, foreign: bool) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let addr = socket.local_addr()?.as_socket();
        let kinds = [(socket.r#type()? == Type::STREAM), socket.is_listener()?];
        let (Some(addr), [true, true]) = (addr, kinds) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        Ok(Self { fd, addr, foreign })
    }

    /// Whether somebody else goes on listening when this process stops.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Gives the descriptor away.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A second descriptor of the same socket.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, addr: self.addr, foreign: self.foreign })
    }

    /// The address it listens on, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Makes a listening socket for one core. Other cores of this process bind the same address and the
/// kernel spreads connections over them; [`probe_free`] makes sure that no other process does.
/// Accepted sockets inherit the missing Nagle delay. `[::]` means IPv6 only.
///
/// # Errors
/// As bind(2): `AddrInUse`, `PermissionDenied` (ports below 1024), `AddrNotAvailable`.
pub fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let socket = new_socket(addr)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG)?;
    let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let addr = socket.local_addr()?.as_socket().unwrap_or(unspecified);
    Ok(Bound { fd: socket.into(), addr, foreign: false })
}

/// Lets cores share the port of a socket that somebody else bound.
///
/// # Errors
/// As setsockopt(2).
pub fn share_port(bound: &Bound) -> io::Result<()> {
    SockRef::from(&bound.fd).set_reuse_port(true)
}

/// Checks that nobody listens on `addr`. SO_REUSEPORT would otherwise let two instances of one user
/// share a port in silence, each with half of the connections.
///
/// # Errors
/// `AddrInUse` if somebody does; else as [`bind`].
pub fn probe_free(addr: SocketAddr) -> io::Result<()> {
    new_socket(addr)?.bind(&SockAddr::from(addr))
}

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections of an earlier run in TIME_WAIT don't matter
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A connection that was taken from the queue and belongs to no core yet.
#[derive(Debug)]
pub struct Accepted {
    fd: OwnedFd,
    /// Who connected.
    pub peer: SocketAddr,
}

impl Accepted {
    /// A connected socket that is non-blocking and without Nagle delay, as a [`Listener`] makes them.
    pub fn new(fd: OwnedFd, peer: SocketAddr) -> Self {
        Self { fd, peer }
    }

    /// Puts it on this core's ring. Must be called within [`super::run`].
    pub fn into_stream(self) -> Stream {
        Stream::adopt(self.fd)
    }
}

/// A listening socket on this core's ring.
pub struct Listener {
    ring: RingFd,
    foreign: bool,
}

impl Listener {
    /// Takes over a bound socket. Must be called within [`super::run`].
    ///
    /// # Errors
    /// Only if the descriptor is unusable.
    pub fn adopt(bound: Bound) -> io::Result<Self> {
        Ok(Self { ring: RingFd::new(bound.fd), foreign: bound.foreign })
    }

    /// Waits until somebody connects, then takes up to `max` connections and pushes them to `out`;
    /// says how many. Connections that died in the queue are skipped.
    ///
    /// # Errors
    /// When none could be taken: out of descriptors (EMFILE, ENFILE) or of memory (ENOBUFS,
    /// ENOMEM), or the socket is no listener (any more). The connection is still in the queue, so
    /// calling again at once would spin: wait some time first.
    ///
    /// # Cancel safety
    /// Cancel safe: connections are taken only after the last await.
    pub async fn accept_batch(&self, out: &mut Vec<Accepted>, max: usize) -> io::Result<usize> {
        self.ring.readable().await?;
        self.accept_waiting(out, max)
    }

    /// Takes up to `max` of the connections that are in the queue now, as [`Listener::accept_batch`].
    ///
    /// # Errors
    /// As [`Listener::accept_batch`]; an empty queue is none.
    pub fn accept_waiting(&self, out: &mut Vec<Accepted>, max: usize) -> io::Result<usize> {
        let before = out.len();
        for _ in 0..max {
            match sys::accept(&self.ring) {
                Ok((fd, Some(peer))) => out.push(Accepted { fd, peer }),
                Ok((_, None)) => {} // an address family that was not listened on
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ring.note_blocked(Side::Read);
                    break;
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) if out.len() == before => return Err(error),
                Err(_) => break, // the next call says so again
            }
        }
        Ok(out.len() - before)
    }

    /// From now on nobody begins to connect, in any process that has the socket: the kernel drops what
    /// asks to, who asks again finds it closed or somebody else there. Those who have begun still
    /// arrive. A foreign socket goes on. Source: `tcp_filter` in the kernel's `tcp_v4_rcv`, socket(7).
    ///
    /// # Errors
    /// The kernel takes no socket filter.
    pub fn take_no_more(&self) -> io::Result<()> {
        if self.foreign {
            return Ok(());
        }
        const LOAD_BYTE: u16 = 0x30;
        const AND: u16 = 0x54;
        const IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const FLAGS_AT: u32 = 13; // in the TCP header, where a filter of TCP begins. RFC 9293 §3.1
        const SYN: u32 = 0x02;
        const SYN_OR_ACK: u32 = 0x12;
        SockRef::from(&self.ring).attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
            SockFilter::new(AND, 0, 0, SYN_OR_ACK),
            SockFilter::new(IF_EQUAL, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ])
    }

    /// Stops listening at once, in every process that has the socket: a waiting
    /// [`Listener::accept_batch`] ends with an error. Connections still in the queue are reset, so
    /// accept them first. A foreign socket goes on: its queue is its owner's. To stop in this process
    /// only, drop the listener.
    pub fn close(&self) {
        if !self.foreign {
            super::stream::shutdown_read(self.ring.as_raw_fd());
        }
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&self.ring).local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// Whether accept(2) reports a connection that died in the queue, and the next one may be fine.
/// Source: "Error handling" in accept(2).
fn is_of_the_connection(error: &io::Error) -> bool {
    let codes = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINTR,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPERM, // a firewall's doing
        libc::EPROTO,
        libc::ETIMEDOUT,
    ];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn cores_share_a_port_that_others_then_find_busy() {
        let first = bind(loopback(0)).unwrap();
        let second = bind(first.local_addr()).unwrap();
        assert_eq!(first.local_addr(), second.local_addr());
        let busy = probe_free(first.local_addr()).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::AddrInUse);
        let addr = first.local_addr();
        drop((first, second));
        probe_free(addr).unwrap();
    }

    #[test]
    fn a_port_somebody_does_not_share_is_busy() {
        let other = std::net::TcpListener::bind(loopback(0)).unwrap();
        let addr = other.local_addr().unwrap();
        assert_eq!(bind(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(probe_free(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_can_listen_on_one_port() {
        let six = bind("[::]:0".parse().unwrap()).unwrap();
        let port = six.local_addr().port();
        bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).unwrap();
    }
}
