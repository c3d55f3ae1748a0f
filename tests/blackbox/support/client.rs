//! A client that sends raw bytes and reads exactly one response at a time.

use std::{
    net::{Shutdown, SocketAddr},
    ops::{Deref, DerefMut},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::{
    PATIENCE, show,
    wire::{Kind, Message, ReadError, Wire},
};

/// A connection to ringway, seen from the client.
#[derive(Debug)]
pub(crate) struct Client(Wire);

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        match super::tls::everywhere() {
            Some((authority, _)) => authority.client().connect(address),
            None => Client(Wire::connect(address)),
        }
    }

    /// A client over a connection that was made elsewhere.
    pub(crate) fn over(stream: std::net::TcpStream) -> Self {
        Client(Wire::new(stream))
    }

    /// A client whose receive buffer holds few bytes, so that a slow reader is felt at once.
    pub(crate) fn connect_narrow(address: SocketAddr, receive_buffer: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.set_recv_buffer_size(receive_buffer).expect("SO_RCVBUF");
        socket.connect_timeout(&address.into(), PATIENCE).expect("connect");
        Client(Wire::new(socket.into()))
    }

    /// Sends `GET path` for host `a.test`.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }

    /// Sends a whole POST.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        self.send(body);
    }

    /// The final response to a GET or POST; interim ones are kept in it.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The final response to `method`.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        match self.try_response(method) {
            Ok(message) => message,
            Err(ReadError::Silent(part)) => {
                panic!("no response within {:?}; so far {}", self.0.patience, show(&part))
            }
            Err(error) => panic!("no response: {error:?}"),
        }
    }

    /// The final response to `method`, or why there is none.
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Message, ReadError> {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head()?;
            let status = head.word(1).to_owned();
            if !head.start.starts_with("HTTP/1.1 ") || status.len() != 3 {
                return Err(ReadError::Garbage(format!("status line {:?}", head.start)));
            }
            if status.starts_with('1') && status != "101" {
                interim.push(head);
                continue;
            }
            let mut message = self.read_body(head, Kind::Response(method))?;
            message.interim = interim;
            return Ok(message);
        }
    }

    /// One GET and its response.
    #[track_caller]
    pub(crate) fn fetch(&mut self, path: &str) -> Message {
        self.get(path);
        self.response()
    }

    /// Asserts that ringway ends this connection and sends nothing more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let (rest, _) = self.read_to_end();
        assert!(rest.is_empty(), "bytes behind the last response: {}", show(&rest));
    }

    /// Asserts that ringway ends this connection within `within`.
    #[track_caller]
    pub(crate) fn assert_closes_within(&mut self, within: Duration) {
        assert!(self.closes_within(within), "the connection is still open after {within:?}");
    }

    /// Closes both directions at once.
    pub(crate) fn gone(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
