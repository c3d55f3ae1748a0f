//! What a process gets from, and gives to, other processes: descriptors from its predecessor, to its
//! successor and from systemd. Control side only; nothing here waits on a core.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::sys::check;

/// Descriptors in one message; the kernel's bound is 253. Source: `SCM_MAX_FD` in unix(7).
pub const FDS_PER_MESSAGE_MAX: usize = 128;

/// Bytes of ancillary data for that many descriptors.
const CONTROL_BYTES: usize = 4 * FDS_PER_MESSAGE_MAX + 64;

/// Room for ancillary data, aligned as its header wants it.
#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

/// A pair of connected sockets that keep messages apart and tell when the other end is closed.
///
/// # Errors
/// As socketpair(2).
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = socket2::Type::SEQPACKET.cloexec();
    let (a, b) = socket2::Socket::pair_raw(socket2::Domain::UNIX, kind, None)?;
    Ok((a.into(), b.into()))
}

/// Sends one message with descriptors, of which the receiver gets copies. Source: unix(7), cmsg(3).
///
/// # Errors
/// As sendmsg(2); `InvalidInput` for more than [`FDS_PER_MESSAGE_MAX`] descriptors.
pub fn send_with_fds(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > FDS_PER_MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let data_bytes = size_of_val(&raw[..]) as libc::c_uint;
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // WHY UNSAFE: `std` has ancillary data on nightly only.
    // SAFETY:
    // - `header` is plain numbers and pointers, for which zero is a value;
    // - it points to `part` and `control`, which outlive the call; sendmsg only reads them;
    // - CMSG_SPACE of the descriptors fits into `control` (`FDS_PER_MESSAGE_MAX`), so CMSG_FIRSTHDR
    //   and CMSG_DATA stay inside; `control` is aligned for the header.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if !raw.is_empty() {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(data_bytes) as _;
            let first = libc::CMSG_FIRSTHDR(&header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(data_bytes) as _;
            let data = libc::CMSG_DATA(first).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(raw.as_ptr(), data, raw.len());
        }
        libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL)
    };
    if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message into `bytes` with its descriptors (close-on-exec); 0 bytes is the end.
///
/// # Errors
/// As recvmsg(2); `InvalidData` if the message or its descriptors did not fit.
pub fn recv_with_fds(socket: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // WHY UNSAFE: as in `send_with_fds`.
    // SAFETY:
    // - `header` as above; recvmsg writes at most `iov_len` and `msg_controllen` bytes;
    // - the CMSG macros walk only what the kernel says it wrote; descriptors are read unaligned and
    //   only whole ones, as `cmsg_len` says;
    // - each is new in this process and nobody else's.
    let (received, flags) = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        let received = libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC);
        if received == -1 {
            return Err(io::Error::last_os_error());
        }
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while !message.is_null() {
            if ((*message).cmsg_level, (*message).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
            {
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                let data_bytes = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..data_bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
        (received as usize, header.msg_flags)
    };
    match flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) {
        0 => Ok((received, fds)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Takes over `count` descriptors from 3 on, which systemd passed to this process. At most once in the
/// life of a process, at its very start. Source: sd_listen_fds(3).
///
/// # Errors
/// When one of them is not open.
pub fn take_listen_fds(count: usize) -> io::Result<Vec<OwnedFd>> {
    let numbers = 3..3 + RawFd::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    let take = |fd| {
        // WHY UNSAFE: numbers become owned descriptors; there is no safe way to inherit one.
        // SAFETY: fcntl touches no memory and says whether the number is open; by the protocol it
        // is ours alone, and nothing of ours is opened before this is called.
        unsafe {
            check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
            Ok(OwnedFd::from_raw_fd(fd))
        }
    };
    numbers.map(take).collect()
}

/// Takes standard input away from this process and puts `/dev/null` there.
///
/// # Errors
/// As dup(2) and open(2).
pub fn take_stdin() -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    // WHY UNSAFE: foreign call; `std` cannot replace a descriptor.
    // SAFETY: no memory of ours; 0 stays open all the time.
    check(unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) })?;
    Ok(taken)
}

/// Gives the calling thread a quarter of a processor that a worker wants as well (nice 5), so that
/// compiling rules does not hold a core up that is loaded as it should be, and still comes to an end
/// beside one that is not. It cannot be taken back. Errors are ignored: it is a courtesy.
pub fn yield_to_workers() {
    // WHY UNSAFE: foreign call. SAFETY: no memory of ours; it concerns the calling thread only, as
    // thread ids are what Linux's setpriority(2) takes.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, 5) };
}

/// Bytes that this user may still write to the filesystem of a directory. Source: statvfs(3).
///
/// # Errors
/// As statvfs(3); a path with a zero byte.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // WHY UNSAFE: `std` does not have it. SAFETY: `path` ends with a zero byte and outlives the call,
    // which writes one `statvfs`, for which zero is a value.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(path.as_ptr(), &mut stat))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Microseconds of the clock that systemd compares reloads by. Source: sd_notify(3).
pub fn monotonic_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // WHY UNSAFE: foreign call. SAFETY: writes one `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_travel_with_their_message() {
        let (a, b) = message_pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let fds: Vec<BorrowedFd<'_>> = (0..FDS_PER_MESSAGE_MAX).map(|_| far.as_fd()).collect();
        send_with_fds(&a, b"many", &fds).unwrap();
        send_with_fds(&a, b"none", &[]).unwrap();
        let mut bytes = [0; 16];
        let (count, received) = recv_with_fds(&b, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], received.len()), (&b"many"[..], FDS_PER_MESSAGE_MAX));
        let mut copy = UnixStream::from(received.into_iter().last().unwrap());
        copy.write_all(b"x").unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).unwrap();
        let (count, received) = recv_with_fds(&b, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], received.len()), (&b"none"[..], 0));
        drop(a);
        assert_eq!(recv_with_fds(&b, &mut bytes).unwrap().0, 0, "the end");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (a, b) = message_pair().unwrap();
        send_with_fds(&a, &[7; 64], &[]).unwrap();
        assert_eq!(recv_with_fds(&b, &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let fds: Vec<_> = (0..=FDS_PER_MESSAGE_MAX).map(|_| a.as_fd()).collect();
        assert!(send_with_fds(&a, b"", &fds).is_err());
    }
}
