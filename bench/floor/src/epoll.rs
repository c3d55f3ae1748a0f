//! The floor with epoll(7): readiness, then recv(2) and send(2).

use crate::relay::{Role, Table};
use crate::{Options, socket};
use std::io::{self, ErrorKind};

const LISTENER: u64 = u64::MAX;
const BUFFER_BYTES: usize = 32 * 1024;

struct Epoll(i32);

impl Epoll {
    fn watch(&self, fd: i32, token: u64, edge: bool) -> io::Result<()> {
        let edge = if edge { libc::EPOLLET as u32 } else { 0 };
        let events = libc::EPOLLIN as u32 | libc::EPOLLRDHUP as u32 | edge;
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the event lives through the call.
        match unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<usize> {
        let room = events.len() as i32;
        // SAFETY: the array lives through the call and has that many places.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), room, -1) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

pub fn run(options: Options) -> io::Result<()> {
    let listener = socket::listen(options.port)?;
    // SAFETY: takes no pointer.
    let epoll = Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    epoll.watch(listener, LISTENER, false)?;
    let mut table = Table::new(options.origin);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    loop {
        let count = match epoll.wait(&mut events) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        let mut gone = Vec::new();
        for event in &events[..count] {
            if event.u64 == LISTENER {
                let fd = socket::accept(listener)?;
                let index = table.add(fd, Role::Client);
                epoll.watch(fd, u64::from(index), true)?;
                continue;
            }
            let index = event.u64 as u32;
            if !pass_on(&epoll, &mut table, index, &mut buffer)? {
                gone.push(index);
            }
        }
        for index in gone {
            table.end(index);
            table.release(index);
        }
    }
}

/// Passes on what has arrived at a connection; false when it has ended.
fn pass_on(epoll: &Epoll, table: &mut Table, index: u32, buffer: &mut [u8]) -> io::Result<bool> {
    loop {
        let conn = &table.conns[index as usize];
        if conn.role == Role::Gone {
            return Ok(true);
        }
        let count = match socket::recv(conn.fd, buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        };
        let (target, opened) = table.target(index, &buffer[..count])?;
        if let Some(opened) = opened {
            epoll.watch(table.conns[opened as usize].fd, u64::from(opened), true)?;
        }
        if socket::send_all(table.conns[target as usize].fd, &buffer[..count]).is_err() {
            return Ok(false);
        }
        if count < buffer.len() {
            return Ok(true);
        }
    }
}
