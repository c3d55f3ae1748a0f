//! The system calls that neither `std` nor `socket2` offers, each as a safe function.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use socket2::SockAddr;

/// Turns the -1 of a system call into the error it stands for.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Takes one connection from a listener, `O_NONBLOCK` and `CLOEXEC`. Source: accept4(2).
pub(super) fn accept(listener: &impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let listener = listener.as_fd().as_raw_fd();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // WHY UNSAFE: `std` and `socket2` accept with blocking sockets: a second call per connection.
    // SAFETY: `storage` is large enough for any address and `len` starts as its size; the
    // descriptor is new and nobody else's.
    unsafe {
        let (fd, address) = SockAddr::try_init(|storage, len| {
            check(libc::accept4(listener, storage.cast(), len, flags))
        })?;
        Ok((OwnedFd::from_raw_fd(fd), address.as_socket()))
    }
}

/// Moves up to `max` bytes from one descriptor to another without waiting; one of them is a pipe.
/// `more` tells TCP that more follows at once. Source: splice(2).
pub(super) fn splice(
    from: &impl AsFd,
    to: &impl AsFd,
    max: usize,
    more: bool,
) -> io::Result<usize> {
    let mut flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    if more {
        flags |= libc::SPLICE_F_MORE;
    }
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let no_offset = std::ptr::null_mut();
    // WHY UNSAFE: foreign call. SAFETY: no memory of ours is involved; null offsets are allowed.
    check_size(unsafe { libc::splice(from, no_offset, to, no_offset, max, flags) })
}

/// Receives what is there into `room`, without waiting. Source: recv(2).
pub(super) fn recv(fd: libc::c_int, room: &mut [u8]) -> io::Result<usize> {
    // WHY UNSAFE: the descriptor is known by number only. SAFETY: pointer and length of one slice;
    // a number that is no socket is an error.
    check_size(unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) })
}

/// Sends what the socket takes of `bytes`, without waiting and without a signal. Source: send(2).
pub(super) fn send(fd: libc::c_int, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // WHY UNSAFE: as in `recv`. SAFETY: pointer and length of one slice, which is only read; a
    // number that is no socket is an error.
    check_size(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// `bytes` of zeroed memory, page-aligned, for the kernel and us. Source: mmap(2).
pub(super) fn map_pages(bytes: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // WHY UNSAFE: foreign call. SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Ends a mapping of [`map_pages`], which nobody uses any more.
pub(super) fn unmap_pages(base: NonNull<u8>, bytes: usize) {
    // WHY UNSAFE: foreign call. SAFETY: as the caller promises; both are `map_pages`' own.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
}

/// A pipe, `O_NONBLOCK` and `CLOEXEC`, as (read end, write end), of `bytes` or what the kernel
/// grants, and its size. Source: pipe(2), `F_SETPIPE_SZ` in fcntl(2).
pub(super) fn pipe(bytes: usize) -> io::Result<(OwnedFd, OwnedFd, usize)> {
    let mut ends = [0; 2];
    // WHY UNSAFE: `std::io::pipe` has no O_NONBLOCK and can't be resized.
    // SAFETY: `ends` has room for two descriptors; both are new and nobody else's.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        let (read, write) = (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]));
        // Over `fs.pipe-user-pages-soft` the kernel refuses; the pipe then stays smaller.
        libc::fcntl(ends[1], libc::F_SETPIPE_SZ, bytes as libc::c_int);
        let size = check(libc::fcntl(ends[1], libc::F_GETPIPE_SZ))?;
        Ok((read, write, size as usize))
    }
}

/// An eventfd, `O_NONBLOCK` and `CLOEXEC`, with `count` in it. Source: eventfd(2).
pub(super) fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // WHY UNSAFE: foreign call. SAFETY: no pointers; the descriptor is new and nobody else's.
    unsafe {
        let fd = check(libc::eventfd(count, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Adds one to an eventfd. Cannot fail but when it is full, and then it is readable anyway.
pub(super) fn eventfd_ring(fd: &OwnedFd) {
    // WHY UNSAFE: foreign call. SAFETY: no pointers.
    unsafe { libc::eventfd_write(fd.as_raw_fd(), 1) };
}

/// How long the calling thread has run. Source: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID.
pub(super) fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // WHY UNSAFE: foreign call. SAFETY: `time` is what the call writes to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    (result == 0).then(|| Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Sets an eventfd back to zero.
pub(super) fn eventfd_drain(fd: &OwnedFd) {
    let mut count = 0;
    // WHY UNSAFE: foreign call. SAFETY: `count` is what the call writes to.
    unsafe { libc::eventfd_read(fd.as_raw_fd(), &mut count) };
}

/// shutdown(2) of a descriptor that is known by number only. Errors mean that the connection is
/// gone already, which is what the caller wants.
pub(super) fn shutdown(fd: libc::c_int, how: libc::c_int) {
    // WHY UNSAFE: foreign call. SAFETY: no pointers; a number that is no socket is an error.
    unsafe { libc::shutdown(fd, how) };
}

/// Asks for the state of many descriptors at once, without waiting. Source: poll(2).
pub(super) fn poll_now(fds: &mut [libc::pollfd]) {
    // WHY UNSAFE: foreign call. SAFETY: pointer and length of one slice.
    // It can fail with EINTR or ENOMEM only; `revents` then stay zero: nothing to report.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 0) };
}

/// An epoll, `CLOEXEC`. Source: epoll_create1(2).
pub(super) fn epoll() -> io::Result<OwnedFd> {
    // WHY UNSAFE: foreign call. SAFETY: no pointers; the descriptor is new and nobody else's.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?)) }
}

/// Has `events` of a descriptor reported with `data`. Source: epoll_ctl(2).
pub(super) fn epoll_add(
    epoll: &OwnedFd,
    fd: libc::c_int,
    events: u32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // WHY UNSAFE: foreign call. SAFETY: `event` is only read; a number that is no descriptor, or
    // cannot be waited for, is an error.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    check(result).map(drop)
}

/// Ends that. An error means that nothing is reported of it anyway.
pub(super) fn epoll_remove(epoll: &OwnedFd, fd: libc::c_int) {
    // WHY UNSAFE: foreign call. SAFETY: removing takes no event (since Linux 2.6.9).
    unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
    }
}

/// Waits for reports, at most `timeout` (rounded up to milliseconds; `None` is for ever), and says
/// how many lie in `events` then. Source: epoll_wait(2); epoll_pwait2(2) counts nanoseconds, but
/// older kernels and seccomp profiles don't have it.
pub(super) fn epoll_wait(
    epoll: &OwnedFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let millis = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    let max = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // WHY UNSAFE: foreign call. SAFETY: pointer and length of one slice of plain data.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), max, millis) };
    Ok(check(count)? as usize)
}

/// Bytes in the send queue that the peer has not acknowledged, FIN not counted.
/// Source: `SIOCOUTQ` in tcp(7).
pub(super) fn unacknowledged(socket: &impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // WHY UNSAFE: foreign call. SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut bytes) })?;
    Ok(bytes as u32)
}

/// The first bytes of the kernel's `struct tcp_info`, as many as it knows; the rest is zero.
/// Source: `TCP_INFO` in tcp(7), linux/tcp.h (fields are only ever appended).
pub(super) fn tcp_info(fd: libc::c_int) -> io::Result<[u8; TCP_INFO_BYTES]> {
    let mut info = [0u8; TCP_INFO_BYTES];
    let mut len = info.len() as libc::socklen_t;
    // WHY UNSAFE: foreign call. SAFETY: writes at most `len` bytes, the size of `info`; a number
    // that is no socket is an error.
    check(unsafe {
        let info = info.as_mut_ptr().cast();
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info, &mut len)
    })?;
    Ok(info)
}

/// Bytes of `struct tcp_info` up to and with `tcpi_notsent_bytes`.
pub(super) const TCP_INFO_BYTES: usize = 152;

/// Binds the calling thread to one core. Source: sched_setaffinity(2).
pub(super) fn set_affinity(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // WHY UNSAFE: foreign calls. SAFETY: a `cpu_set_t` may be all zero; `core` is inside it.
    check(unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    })?;
    Ok(())
}

/// The cores the calling thread may run on, ascending. Source: sched_getaffinity(2).
pub(super) fn affinity() -> io::Result<Vec<usize>> {
    // WHY UNSAFE: foreign calls. SAFETY: the kernel writes at most the size given; the indices
    // asked for are inside the set.
    unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect())
    }
}

/// Which limit of the process; see getrlimit(2).
#[derive(Clone, Copy)]
pub(super) enum Limit {
    OpenFiles,
    LockedMemory,
}

impl Limit {
    fn resource(self) -> libc::__rlimit_resource_t {
        match self {
            Limit::OpenFiles => libc::RLIMIT_NOFILE,
            Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }
}

/// (soft, hard); `u64::MAX` is no limit.
pub(super) fn limit(limit: Limit) -> io::Result<(u64, u64)> {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // WHY UNSAFE: foreign call. SAFETY: `value` is what the call writes to.
    check(unsafe { libc::getrlimit(limit.resource(), &mut value) })?;
    Ok((value.rlim_cur, value.rlim_max))
}

/// Sets (soft, hard).
pub(super) fn set_limit(limit: Limit, soft: u64, hard: u64) -> io::Result<()> {
    let value = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // WHY UNSAFE: foreign call. SAFETY: `value` is only read.
    check(unsafe { libc::setrlimit(limit.resource(), &value) })?;
    Ok(())
}

/// The kernel's release, such as `6.1.0-13-amd64`. Source: uname(2).
pub(super) fn kernel_release() -> String {
    // WHY UNSAFE: foreign calls. SAFETY: `utsname` may be all zero; the kernel ends each of its
    // strings with a zero byte within the array.
    unsafe {
        let mut names: libc::utsname = MaybeUninit::zeroed().assume_init();
        libc::uname(&mut names);
        std::ffi::CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    }
}

/// Makes writes to a closed connection an error instead of a signal, for the whole process.
/// Needed for splice(2), which has no MSG_NOSIGNAL.
pub(super) fn ignore_sigpipe() {
    // WHY UNSAFE: foreign call. SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Has so many bytes on their way into the cache, where it is known how to ask for that.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn prefetch(start: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE_BYTES: usize = 64;
    for at in (0..bytes).step_by(LINE_BYTES) {
        // WHY UNSAFE: it takes a pointer.
        // SAFETY: it reads nothing, and no address makes it fail.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn prefetch(_start: *const u8, _bytes: usize) {}
