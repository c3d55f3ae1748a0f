//! The few system calls that std does not offer: epoll, discarding reads, scheduling, signals.
//!
//! The only file of this crate with `unsafe`. Everything returns `io::Result`; nothing panics.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Real-time priority of everything under test; all the same, so that nobody is favoured.
pub const FIFO_PRIORITY: i32 = 10;

/// An epoll instance whose registrations carry a `u64` of the caller.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interest {
    /// Data.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

/// What one descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The value given to [`Epoll::add`].
    pub token: u64,
    /// Data, end of stream or an error is there to be read.
    pub readable: bool,
    /// There is room to write, or an error to be found out by writing.
    pub writable: bool,
}

impl Epoll {
    /// A level-triggered instance that reports up to `batch` events per wait.
    pub fn new(batch: usize) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just opened and is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; batch] })
    }

    /// Begins to watch `fd`.
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what `fd` is watched for.
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, op: i32, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let interest = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Write => libc::EPOLLOUT,
            Interest::Both => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: `event` lives through the call, the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &mut event) })?;
        Ok(())
    }

    /// Waits at most `timeout_ns` (negative: for ever); returns the number of events for [`Self::get`].
    ///
    /// Uses epoll_pwait2 (Linux 5.11): a millisecond is too coarse for an 8,000 req/s schedule.
    pub fn wait(&mut self, timeout_ns: i64) -> io::Result<usize> {
        let spec = libc::timespec {
            tv_sec: timeout_ns / 1_000_000_000,
            tv_nsec: timeout_ns % 1_000_000_000,
        };
        let timeout = if timeout_ns < 0 { std::ptr::null() } else { &raw const spec };
        // SAFETY: `events` is valid for its length, `spec` outlives the call, no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        match check(count as i32) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The event at `index`, which must be below what the last [`Self::wait`] returned.
    pub fn get(&self, index: usize) -> Ready {
        let libc::epoll_event { events, u64: token } = self.events[index];
        let broken = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        Ready {
            token,
            readable: events & (libc::EPOLLIN as u32 | broken) != 0,
            writable: events & (libc::EPOLLOUT as u32 | broken) != 0,
        }
    }
}

/// Throws away up to `count` received bytes without copying them (MSG_TRUNC, tcp(7)).
/// Returns 0 at the end of the stream.
pub fn discard(stream: &TcpStream, count: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC the kernel writes nothing to a TCP reader's buffer, so null is fine.
    let done =
        unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), count, libc::MSG_TRUNC) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as usize) }
}

/// A non-blocking connection to 127.0.0.1:`port`, perhaps still being set up, with TCP_NODELAY.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; checked before use.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: just opened, owned by nobody else; from here on dropping it closes it.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    stream.set_nodelay(true)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: `address` is a whole sockaddr_in of `length` bytes.
    match check(unsafe { libc::connect(fd, (&raw const address).cast(), length) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// Lengthens the accept queue of a listener (std gives 128, bursts here are larger).
pub fn set_backlog(fd: RawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

/// Nanoseconds of the monotonic clock.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time in nanoseconds of the calling process, exact to the moment.
pub fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is valid for writing; the two clocks above always exist.
    unsafe { libc::clock_gettime(clock, &mut spec) };
    spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64
}

/// Where and how a process runs.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The only core it may use.
    pub core: usize,
    /// Ask for SCHED_FIFO.
    pub fifo: bool,
}

/// Makes `command` start with `placement`, and end when this process ends.
pub fn place(command: &mut Command, placement: Placement) {
    let parent = std::process::id() as i32;
    // SAFETY: the closure runs between fork and exec and makes async-signal-safe calls only.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
            if libc::getppid() != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe)); // it is gone already
            }
            pin_self(placement.core)?;
            if placement.fifo {
                fifo_self(FIFO_PRIORITY)?;
            }
            Ok(())
        });
    }
}

/// Binds the calling process to one core.
pub fn pin_self(core: usize) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is valid; CPU_SET checks its range; the size is that of the set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)).map(drop)
    }
}

/// The cores this process may use.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed cpu_set_t is valid and as large as the size given; CPU_ISSET reads in range.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect())
    }
}

/// Puts the calling process under SCHED_FIFO. Needs root or RLIMIT_RTPRIO.
pub fn fifo_self(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` outlives the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) }).map(drop)
}

/// Takes the calling process out of SCHED_FIFO again.
pub fn ordinary_self() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` outlives the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters) }).map(drop)
}

/// Timers of this thread fire within a microsecond instead of 50.
pub fn sharpen_timers() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000 as libc::c_ulong) }).map(drop)
}

/// Raises the limit of open files to its ceiling and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(limit.rlim_cur)
}

/// Asks the process `pid`, a child of ours not yet waited for, to end.
pub fn terminate(pid: u32) {
    // SAFETY: no pointers. The pid cannot have been reused: its parent has not reaped it.
    unsafe { libc::kill(pid as i32, libc::SIGTERM) };
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM only make [`interrupted`] true, so that what was started can be
/// stopped and what was set can be put back.
pub fn catch_interrupts() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Whether one of those signals has come.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sleeps on the monotonic clock.
pub fn sleep_ns(ns: u64) {
    std::thread::sleep(Duration::from_nanos(ns));
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn discards_without_copying_and_sees_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = connect(listener.local_addr().unwrap().port()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[7; 1000]).unwrap();
        drop(server);
        let mut epoll = Epoll::new(4).unwrap();
        epoll.add(client.as_raw_fd(), 42, Interest::Read).unwrap();
        assert_eq!(epoll.wait(1_000_000_000).unwrap(), 1);
        assert_eq!(epoll.get(0).token, 42);
        assert_eq!(discard(&client, 600).unwrap(), 600);
        assert_eq!(discard(&client, 600).unwrap(), 400);
        assert_eq!(discard(&client, 600).unwrap(), 0);
    }

    #[test]
    fn waits_less_than_a_millisecond() {
        let mut epoll = Epoll::new(1).unwrap();
        let start = now_ns();
        assert_eq!(epoll.wait(200_000).unwrap(), 0);
        assert!(now_ns() - start >= 200_000);
    }
}
