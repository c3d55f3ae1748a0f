//! The floor with epoll(7): readiness, then recv(2) and send(2).

use crate::relay::{Role, Table};
use crate::tls::{Session, Tls};
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

/// All that the loop has.
struct Floor {
    epoll: Epoll,
    table: Table,
    tls: Option<Tls>,
    /// Of clients, by their place in the table.
    sessions: Vec<Option<Box<Session>>>,
    plain: Vec<u8>,
}

pub fn run(options: Options) -> io::Result<()> {
    let listener = socket::listen(options.port)?;
    let tls = match options.cert.as_str() {
        "" => None,
        cert => Some(Tls::new(cert, &options.key).map_err(io::Error::other)?),
    };
    // SAFETY: takes no pointer.
    let epoll = Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    epoll.watch(listener, LISTENER, false)?;
    let table = Table::new(options.origin);
    let mut floor = Floor { epoll, table, tls, sessions: Vec::new(), plain: Vec::new() };
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    loop {
        let count = match floor.epoll.wait(&mut events) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        let mut gone = Vec::new();
        for event in &events[..count] {
            if event.u64 == LISTENER {
                floor.accept(listener)?;
                continue;
            }
            let index = event.u64 as u32;
            if !floor.pass_on(index, &mut buffer)? {
                gone.push(index);
            }
        }
        for index in gone {
            floor.table.end(index);
            floor.table.release(index);
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: i32) -> io::Result<()> {
        let fd = socket::accept(listener)?;
        let index = self.table.add(fd, Role::Client);
        if let Some(tls) = &self.tls {
            let places = self.sessions.len().max(index as usize + 1);
            self.sessions.resize_with(places, || None);
            self.sessions[index as usize] = Some(tls.session()?);
        }
        self.epoll.watch(fd, u64::from(index), true)
    }

    /// Passes on what has arrived at a connection; false when it has ended.
    fn pass_on(&mut self, index: u32, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let conn = &self.table.conns[index as usize];
            if conn.role == Role::Gone {
                return Ok(true);
            }
            let count = match socket::recv(conn.fd, buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Ok(false),
            };
            let passed = match (&self.tls, conn.role) {
                (Some(_), Role::Client) => self.unseal(index, &buffer[..count])?,
                _ => self.pass(index, &buffer[..count])?,
            };
            if !passed {
                return Ok(false);
            }
            if count < buffer.len() {
                return Ok(true);
            }
        }
    }

    /// Passes on what a client has sent in records.
    fn unseal(&mut self, index: u32, records: &[u8]) -> io::Result<bool> {
        let fd = self.table.conns[index as usize].fd;
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(session) = &mut self.sessions[index as usize] else { return Ok(false) };
        let mut passed = session.receive(fd, records, &mut plain).is_ok();
        if let Some(at) = socket::find(&plain, b" HTTP/1.0\r\n") {
            session.is_last = true;
            plain[at + 8] = b'1'; // the connection to the origin goes on
        }
        if passed && !plain.is_empty() {
            passed = self.pass(index, &plain)?;
        }
        self.plain = plain;
        Ok(passed)
    }

    fn pass(&mut self, index: u32, bytes: &[u8]) -> io::Result<bool> {
        // A client that left in the middle leaves an answer that nobody waits for.
        let Ok((target, opened)) = self.table.target(index, bytes) else { return Ok(false) };
        if let Some(opened) = opened {
            self.epoll.watch(self.table.conns[opened as usize].fd, u64::from(opened), true)?;
        }
        let to = &self.table.conns[target as usize];
        let sent = match self.sessions.get_mut(target as usize) {
            Some(Some(session)) if to.role == Role::Client => {
                let ended = session.is_last && to.peer.is_none();
                session.send(to.fd, bytes, ended)
            }
            _ => socket::send_all(to.fd, bytes),
        };
        Ok(sent.is_ok())
    }
}
