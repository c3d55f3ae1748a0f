//! The system calls.

use std::io;
use std::mem::{size_of, zeroed};

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn nodelay(fd: i32) -> io::Result<()> {
    let on = 1i32;
    // SAFETY: the option's value is an int that lives through the call.
    check(unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size_of::<i32>() as u32)
    })?;
    Ok(())
}

fn address(port: u16) -> libc::sockaddr_in {
    // SAFETY: all zeroes is an address.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

/// A listener on 127.0.0.1.
pub fn listen(port: u16) -> io::Result<i32> {
    let (address, on) = (address(port), 1i32);
    // SAFETY: pointers to values that live through the calls.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let value = (&raw const on).cast();
        check(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, value, 4))?;
        check(libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32))?;
        check(libc::listen(fd, 4096))?;
        Ok(fd)
    }
}

/// A connection to 127.0.0.1, made while everything waits.
pub fn connect(port: u16) -> io::Result<i32> {
    let address = address(port);
    // SAFETY: as above.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let length = size_of::<libc::sockaddr_in>() as u32;
        check(libc::connect(fd, (&raw const address).cast(), length))?;
        check(libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK))?;
        nodelay(fd)?;
        Ok(fd)
    }
}

/// A connection that waits at a listener.
pub fn accept(listener: i32) -> io::Result<i32> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no address is asked for.
    let fd = check(unsafe {
        libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags)
    })?;
    nodelay(fd)?;
    Ok(fd)
}

pub fn set_nodelay(fd: i32) -> io::Result<()> {
    nodelay(fd)
}

pub fn recv(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer lives through the call.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Sends everything, waiting where the socket is full.
pub fn send_all(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the bytes live through the call.
        let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        match usize::try_from(sent) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
                // SAFETY: one entry that lives through the call.
                check(unsafe { libc::poll(&raw mut poll, 1, -1) })?;
            }
        }
    }
    Ok(())
}

pub fn shutdown(fd: i32) {
    // SAFETY: takes no pointer.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

pub fn close(fd: i32) {
    // SAFETY: the descriptor is ours and not used again.
    unsafe { libc::close(fd) };
}

/// Where `what` begins in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr();
    // SAFETY: both are readable for their lengths; what is found lies in `bytes`.
    unsafe {
        let at = libc::memmem(start.cast(), bytes.len(), what.as_ptr().cast(), what.len());
        (!at.is_null()).then(|| at.cast::<u8>().offset_from(start) as usize)
    }
}
