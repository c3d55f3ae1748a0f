//! An origin that answers with the path it was asked for, and echoes upgraded connections.

use crate::sys::{Epoll, Interest};
use crate::wire;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const LISTENER: u64 = u64::MAX;
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    is_tunnel: bool,
}

/// Serves on a thread of its own for as long as the process lives; its port.
///
/// # Errors
/// No port, or epoll fails.
pub fn start() -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    crate::sys::set_backlog(listener.as_raw_fd(), 4096)?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let epoll = Epoll::new(256)?;
    epoll.add(listener.as_raw_fd(), LISTENER, Interest::Read)?;
    std::thread::Builder::new().name("origin".into()).spawn(move || run(&listener, epoll))?;
    Ok(port)
}

fn run(listener: &TcpListener, mut epoll: Epoll) {
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut room = vec![0; 64 * 1024];
    while let Ok(count) = epoll.wait(-1) {
        for index in 0..count {
            let token = epoll.get(index).token;
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.set_nodelay(true);
                    let free = connections.iter().position(Option::is_none);
                    let slot = free.unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    if epoll.add(stream.as_raw_fd(), slot as u64, Interest::Read).is_ok() {
                        let (input, is_tunnel) = (Vec::new(), false);
                        connections[slot] = Some(Connection { stream, input, is_tunnel });
                    }
                }
                continue;
            }
            let slot = &mut connections[token as usize];
            if slot.as_mut().is_some_and(|connection| !connection.advance(&mut room)) {
                *slot = None;
            }
        }
    }
}

impl Connection {
    /// Takes what has arrived and answers it; false at the end. Answers are small: a socket that
    /// does not take one at once is broken.
    fn advance(&mut self, room: &mut [u8]) -> bool {
        let count = match self.stream.read(room) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if self.is_tunnel {
            return self.stream.write_all(&room[..count]).is_ok();
        }
        self.input.extend_from_slice(&room[..count]);
        let mut out = Vec::new();
        while let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = self.input[..end + 4].to_vec();
            self.input.drain(..end + 4);
            let Ok(Some(request)) = wire::request(&head) else { return false };
            if head.windows(9).any(|nine| nine.eq_ignore_ascii_case(b"\r\nupgrade")) {
                self.is_tunnel = true;
                out.extend_from_slice(UPGRADED);
                break;
            }
            let length = request.path.len();
            out.extend_from_slice(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
            );
            out.extend_from_slice(request.path.as_bytes());
        }
        self.stream.write_all(&out).is_ok()
    }
}
