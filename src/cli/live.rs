//! What the commands with `--live` have in common: calls of a running ringway's admin API.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde_json::Value;

use crate::cli::EXIT_USAGE;

/// Longest wait for a part of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Bytes of the longest answer that is read: a configuration may be that long.
const ANSWER_BYTES_MAX: u64 = crate::base::limits::CONFIG_FILE_BYTES_MAX;

/// The environment variable with the token.
const TOKEN_NAME: &str = "RINGWAY_ADMIN_TOKEN";

/// Which ringway, if one that runs is meant.
#[derive(Debug, clap::Args)]
pub struct Live {
    /// Ask a running ringway; its token is taken from RINGWAY_ADMIN_TOKEN
    #[arg(long)]
    live: bool,
    /// Where its admin API listens
    #[arg(
        long = "admin",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9180",
        requires = "live"
    )]
    address: String,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum LiveError {
    /// The address, and what the system said.
    Unreachable(String, std::io::Error),
    /// It answered, but not in the way of ringway's admin API.
    Strange(String),
    /// It refused: the status, what is wrong and what to do.
    Refused(u16, String),
}

impl LiveError {
    /// A question that is refused is a mistake on the command line.
    pub(super) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Refused(400, _)) { EXIT_USAGE } else { 1 }
    }
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(address, error) => write!(
                f,
                "cannot ask {address}: {error}; is ringway running, and does its admin API listen \
                 there? --admin ADDRESS names another place"
            ),
            Self::Strange(address) => {
                write!(f, "{address} does not answer like ringway's admin API")
            }
            Self::Refused(401 | 403, text) => {
                write!(f, "{text}; set {TOKEN_NAME} to the token of [admin]")
            }
            Self::Refused(_, text) => f.write_str(text),
        }
    }
}

impl Live {
    /// Whether `--live` was given.
    pub(super) fn is_wanted(&self) -> bool {
        self.live
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn get(&self, path: &str) -> Result<Value, LiveError> {
        self.call("GET", path, "")
    }

    /// Sends JSON and returns the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, LiveError> {
        self.call("POST", path, &body.to_string())
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<Value, LiveError> {
        let token = std::env::var(TOKEN_NAME).ok();
        let answer = self
            .exchange(method, path, body, token.as_deref())
            .map_err(|error| LiveError::Unreachable(self.address.clone(), error))?;
        let (status, body) =
            split(&answer).ok_or_else(|| LiveError::Strange(self.address.clone()))?;
        let value: Value =
            serde_json::from_slice(body).map_err(|_| LiveError::Strange(self.address.clone()))?;
        if status == 200 {
            return Ok(value);
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        Err(LiveError::Refused(status, format!("{}; {}", text("error"), text("hint"))))
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &str,
        token: Option<&str>,
    ) -> std::io::Result<Vec<u8>> {
        let addresses: Vec<SocketAddr> = self.address.to_socket_addrs()?.collect();
        let mut stream = TcpStream::connect(&addresses[..])?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\n", self.address);
        if let Some(token) = token {
            head += &format!("authorization: Bearer {}\r\n", token.trim());
        }
        if !body.is_empty() {
            head += "content-type: application/json\r\n";
            head += &format!("content-length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Status and body.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let line = std::str::from_utf8(&answer[..end]).ok()?.lines().next()?;
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = b"HTTP/1.0 404 Not Found\r\na: b\r\n\r\n{}";
        assert_eq!(split(answer), Some((404, &b"{}"[..])));
        for strange in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(split(strange.as_bytes()), None, "{strange}");
        }
    }
}
