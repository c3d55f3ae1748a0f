//! What is asked of every proxy: one table, used by the load generator and by the report.

/// Bytes of `/s`.
pub const SMALL_BYTES: usize = 100;
/// Bytes of `/16k` and of the body that `post16k` sends.
pub const MEDIUM_BYTES: usize = 16 * 1024;
/// Bytes of `/1m` and of the body that `upload` sends.
pub const LARGE_BYTES: usize = 1024 * 1024;
/// Payload bytes of one WebSocket message.
pub const MESSAGE_BYTES: usize = 128;

/// How connections and requests relate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Each connection sends its next request when the answer is there.
    Closed,
    /// So many requests per second, sent when they are due, whatever happened to those before.
    Rate(u64),
    /// A new connection for each request.
    Close,
    /// After an upgrade, one message at a time and its echo.
    WebSocket,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in tables and on command lines.
    pub name: &'static str,
    /// One line for people.
    pub what: &'static str,
    /// Path at the origin.
    pub path: &'static str,
    /// Bytes sent with each request; 0 means GET.
    pub upload_bytes: usize,
    /// Bytes of the right answer.
    pub answer_bytes: usize,
    /// Connections to each proxy.
    pub connections: usize,
    /// How they are used.
    pub mode: Mode,
}

/// All scenarios, in the order in which they run. `close` is last: it fills the kernel's
/// TIME_WAIT table.
pub const ALL: [Scenario; 9] = [
    get("small", "GET 100 B, 64 connections", "/s", SMALL_BYTES, 64),
    get("16k", "GET 16 KiB, 64 connections", "/16k", MEDIUM_BYTES, 64),
    post("post16k", "POST 16 KiB, 64 connections", MEDIUM_BYTES, 64),
    get("1m", "GET 1 MiB, 16 connections", "/1m", LARGE_BYTES, 16),
    post("upload", "POST 1 MiB, 16 connections", LARGE_BYTES, 16),
    get("c512", "GET 100 B, 512 connections", "/s", SMALL_BYTES, 512),
    with_mode(
        get("rate8k", "GET 100 B, 8,000 req/s on 64 connections", "/s", SMALL_BYTES, 64),
        Mode::Rate(8000),
    ),
    with_mode(
        get("ws", "WebSocket 128 B echo, 64 connections", "/ws", MESSAGE_BYTES, 64),
        Mode::WebSocket,
    ),
    with_mode(
        get("close", "GET 100 B, a connection per request, 64 at a time", "/s", SMALL_BYTES, 64),
        Mode::Close,
    ),
];

/// Downloads of sizes in between, for curves over the size (`bench/crossover`); run only when named.
pub const SIZES: [Scenario; 5] = [
    get("32k", "GET 32 KiB, 16 connections", "/32k", 32 << 10, 16),
    get("64k", "GET 64 KiB, 16 connections", "/64k", 64 << 10, 16),
    get("128k", "GET 128 KiB, 16 connections", "/128k", 128 << 10, 16),
    get("256k", "GET 256 KiB, 16 connections", "/256k", 256 << 10, 16),
    get("512k", "GET 512 KiB, 16 connections", "/512k", 512 << 10, 16),
];

const fn get(
    name: &'static str,
    what: &'static str,
    path: &'static str,
    answer_bytes: usize,
    connections: usize,
) -> Scenario {
    Scenario { name, what, path, upload_bytes: 0, answer_bytes, connections, mode: Mode::Closed }
}

const fn post(
    name: &'static str,
    what: &'static str,
    upload_bytes: usize,
    connections: usize,
) -> Scenario {
    let answer_bytes = SMALL_BYTES;
    let (path, mode) = ("/upload", Mode::Closed);
    Scenario { name, what, path, upload_bytes, answer_bytes, connections, mode }
}

const fn with_mode(scenario: Scenario, mode: Mode) -> Scenario {
    Scenario { mode, ..scenario }
}

impl Scenario {
    /// The scenario with this name.
    ///
    /// # Errors
    /// None has it; the text lists those there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let mut all = ALL.into_iter().chain(SIZES);
        all.find(|scenario| scenario.name == name).ok_or_else(|| {
            let all = ALL.iter().chain(&SIZES);
            let names = all.map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
            format!("{name}: no such scenario; there are {names}")
        })
    }

    /// The bytes of one request, the fields a browser's library would send.
    pub fn request(&self) -> Vec<u8> {
        let method = if self.upload_bytes > 0 { "POST" } else { "GET" };
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: ringway-load/1\r\n\
             Accept: */*\r\nAccept-Encoding: gzip, br\r\n",
            self.path
        );
        match self.mode {
            Mode::Close => head.push_str("Connection: close\r\n"),
            Mode::WebSocket => head.push_str(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Mode::Closed | Mode::Rate(_) => {}
        }
        if self.upload_bytes > 0 {
            let length = self.upload_bytes;
            head.push_str("Content-Type: application/octet-stream\r\n");
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend(body(self.upload_bytes));
        request
    }
}

/// The bytes of every body in this crate: printable, without a short period, so that a byte
/// lost or doubled on the way shows.
pub fn body(length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(|index| b'a' + ((index + index / 251) % 26) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in ALL.into_iter().chain(SIZES) {
            assert_eq!(Scenario::named(scenario.name).unwrap().what, scenario.what);
        }
        assert!(Scenario::named("tiny").unwrap_err().contains("post16k"));
    }

    #[test]
    fn a_post_carries_its_length_and_body() {
        let request = Scenario::named("post16k").unwrap().request();
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("POST /upload HTTP/1.1\r\n"));
        assert!(text.contains("Content-Length: 16384\r\n\r\n"));
        assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), MEDIUM_BYTES);
    }
}
