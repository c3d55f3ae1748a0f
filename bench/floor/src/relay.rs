//! Who talks to whom: clients, pooled connections to the origin, and when an answer is over.

use crate::socket;
use std::io;

/// What a connection is right now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Gone,
    Client,
    Origin,
}

/// One connection of either side.
#[derive(Debug)]
pub struct Conn {
    pub fd: i32,
    pub role: Role,
    /// Who gets what arrives here.
    pub peer: Option<u32>,
    /// Of an origin's connection: answer bytes to come; `None` before its head.
    left: Option<usize>,
    /// Sends under way and waiting, as (buffer, bytes).
    pub queue: std::collections::VecDeque<(u16, u32)>,
    pub is_sending: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Table {
    pub conns: Vec<Conn>,
    free: Vec<u32>,
    idle: Vec<u32>,
    origin: u16,
}

impl Table {
    pub fn new(origin: u16) -> Self {
        Self { origin, ..Self::default() }
    }

    pub fn add(&mut self, fd: i32, role: Role) -> u32 {
        let conn = Conn {
            fd,
            role,
            peer: None,
            left: None,
            queue: std::collections::VecDeque::new(),
            is_sending: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.conns[index as usize] = conn;
                index
            }
            None => {
                self.conns.push(conn);
                (self.conns.len() - 1) as u32
            }
        }
    }

    /// Who gets what arrived at `index`; a connection that has to be watched, if one was opened.
    pub fn target(&mut self, index: u32, bytes: &[u8]) -> io::Result<(u32, Option<u32>)> {
        if let Some(peer) = self.conns[index as usize].peer {
            if self.conns[index as usize].role == Role::Origin {
                self.note_answer(index, peer, bytes);
            }
            return Ok((peer, None));
        }
        if self.conns[index as usize].role == Role::Origin {
            return Err(io::Error::other("an answer nobody asked for"));
        }
        let (origin, opened) = match self.idle.pop() {
            Some(origin) => (origin, None),
            None => {
                let fd = socket::connect(self.origin)?;
                let origin = self.add(fd, Role::Origin);
                (origin, Some(origin))
            }
        };
        self.conns[index as usize].peer = Some(origin);
        let conn = &mut self.conns[origin as usize];
        (conn.peer, conn.left) = (Some(index), None);
        Ok((origin, opened))
    }

    /// Frees the origin's connection when its answer is over.
    fn note_answer(&mut self, origin: u32, client: u32, bytes: &[u8]) {
        let conn = &mut self.conns[origin as usize];
        let left = match conn.left {
            Some(left) => left.saturating_sub(bytes.len()),
            None => answer_bytes(bytes).saturating_sub(bytes.len()),
        };
        conn.left = Some(left);
        if left == 0 {
            conn.peer = None;
            self.conns[client as usize].peer = None;
            self.idle.push(origin);
        }
    }

    /// A connection has ended: so has the one it talks to.
    pub fn end(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.role == Role::Gone {
            return;
        }
        conn.role = Role::Gone;
        socket::close(conn.fd);
        let peer = conn.peer.take();
        self.idle.retain(|idle| *idle != index);
        if let Some(peer) = peer {
            let peer = &mut self.conns[peer as usize];
            peer.peer = None;
            socket::shutdown(peer.fd);
        }
    }

    /// Nothing will name this place any more.
    pub fn release(&mut self, index: u32) {
        self.free.push(index);
    }
}

/// Length of an answer with its head; without end for a switch of protocols.
fn answer_bytes(bytes: &[u8]) -> usize {
    if bytes.get(9..12) == Some(b"101") {
        return usize::MAX;
    }
    let Some(end) = socket::find(bytes, b"\r\n\r\n") else { return usize::MAX };
    let head = &bytes[..end];
    let Some(at) = socket::find(head, b"ontent-Length: ") else { return end + 4 };
    let digits = head[at + 15..].iter().take_while(|byte| byte.is_ascii_digit());
    end + 4 + digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
