//! One careful request before the measurement: status, length and every byte of the body.

use crate::scenario::{MESSAGE_BYTES, Mode, Scenario, body};
use crate::wire;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// Any mask does; a fixed one keeps the messages alike.
pub(super) const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// Sends the scenario's request once to 127.0.0.1:`port` and looks at the whole answer.
///
/// # Errors
/// What is wrong with the answer, in words.
pub fn probe(scenario: &Scenario, port: u16) -> Result<(), String> {
    let mut stream = open(port).map_err(|error| format!("port {port}: {error}"))?;
    if scenario.mode == Mode::WebSocket {
        upgrade(scenario, &mut stream)?;
        return echo(&mut stream);
    }
    let got = ask(scenario, &mut stream)?;
    if !got.iter().copied().eq(body(scenario.answer_bytes)) {
        return Err(format!("{}: the body is not what the origin sent", scenario.path));
    }
    Ok(())
}

/// Opens `count` keep-alive connections, each of which has had one answer and is idle now.
///
/// # Errors
/// A connection or an answer fails.
pub fn open_idle(scenario: &Scenario, port: u16, count: usize) -> Result<Vec<TcpStream>, String> {
    (0..count)
        .map(|index| {
            let mut stream =
                open(port).map_err(|error| format!("idle connection {index}: {error}"))?;
            ask(scenario, &mut stream).map_err(|error| format!("connection {index}: {error}"))?;
            Ok(stream)
        })
        .collect()
}

/// A blocking connection that has gone through the WebSocket handshake.
pub(super) fn open_websocket(scenario: &Scenario, port: u16) -> Result<TcpStream, String> {
    let mut stream = open(port).map_err(|error| format!("port {port}: {error}"))?;
    upgrade(scenario, &mut stream)?;
    Ok(stream)
}

/// The bytes of one message and of its echo.
pub(super) fn message() -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = body(MESSAGE_BYTES).collect();
    (wire::frame(&payload, Some(MASK)), wire::frame(&payload, None))
}

fn open(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(scenario: &Scenario, stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let lost = |error: io::Error| format!("{}: {error}", scenario.path);
    stream.write_all(&scenario.request()).map_err(lost)?;
    let (head, mut got) = read_head(stream)?;
    if (head.status, head.body_bytes) != (200, Some(scenario.answer_bytes)) {
        return Err(describe(&head, scenario));
    }
    let here = got.len();
    got.resize(scenario.answer_bytes.max(here), 0);
    stream.read_exact(&mut got[here..]).map_err(lost)?;
    Ok(got)
}

/// Says in words why a response is not the right one.
pub(super) fn describe(head: &wire::Response, scenario: &Scenario) -> String {
    let length = head.body_bytes.map_or("no length".to_owned(), |bytes| format!("{bytes} bytes"));
    let (path, expected) = (scenario.path, scenario.answer_bytes);
    format!("{path}: status {} with {length}, expected 200 with {expected} bytes", head.status)
}

fn upgrade(scenario: &Scenario, stream: &mut TcpStream) -> Result<(), String> {
    stream.write_all(&scenario.request()).map_err(|error| format!("upgrade: {error}"))?;
    let (head, rest) = read_head(stream)?;
    match (head.status, rest.len()) {
        (101, 0) => Ok(()),
        (status, extra) => Err(format!("upgrade: status {status}, {extra} bytes behind the head")),
    }
}

fn echo(stream: &mut TcpStream) -> Result<(), String> {
    let (message, echo) = message();
    let mut got = vec![0; echo.len()];
    stream
        .write_all(&message)
        .and_then(|()| stream.read_exact(&mut got))
        .map_err(|error| format!("echo: {error}"))?;
    if got == echo { Ok(()) } else { Err("echo: other bytes than were sent".to_owned()) }
}

/// Reads a response head and what came with it of the body.
fn read_head(stream: &mut TcpStream) -> Result<(wire::Response, Vec<u8>), String> {
    let mut got = Vec::new();
    let mut some = [0; 4096];
    loop {
        let count = stream.read(&mut some).map_err(|error| format!("no answer: {error}"))?;
        if count == 0 {
            return Err(format!("closed after {} bytes of an answer", got.len()));
        }
        got.extend_from_slice(&some[..count]);
        match wire::response(&got) {
            Ok(None) => {}
            Ok(Some(head)) => {
                let rest = got.split_off(head.head_bytes);
                return Ok((head, rest));
            }
            Err(wire::Malformed) => return Err("the answer is not HTTP/1".to_owned()),
        }
    }
}
