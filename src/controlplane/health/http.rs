//! The request of a health check, and its response, with the parser that requests go through too.

use std::io;

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::probe::{Failure, Stream};
use crate::{
    base::limits::{
        HEALTH_BODY_BYTES_MAX, INTERIM_RESPONSES_MAX, REGEX_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX,
        RESPONSE_HEADER_COUNT_MAX,
    },
    proto::h1::{ChunkDecoder, Framing, HeadLimits, Method, Parse, ResponseHead, ResponseTo},
    snapshot::health::{BodyMatch, HttpProbe},
};

/// What a body must hold, ready to be searched for.
#[derive(Debug)]
pub(super) enum Matcher {
    Contains(Box<memmem::Finder<'static>>),
    Regex(Regex),
    /// A regex that does not compile, which the configuration does not let pass.
    Nothing,
}

impl Matcher {
    pub(super) fn new(of: &BodyMatch) -> Self {
        match of {
            BodyMatch::Contains(text) => {
                Self::Contains(Box::new(memmem::Finder::new(text.as_bytes()).into_owned()))
            }
            BodyMatch::Regex(text) => {
                let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
                built.map_or(Self::Nothing, Self::Regex)
            }
        }
    }

    pub(super) fn matches(&self, body: &[u8]) -> bool {
        match self {
            Self::Contains(finder) => finder.find(body).is_some(),
            Self::Regex(regex) => regex.is_match(body),
            Self::Nothing => false,
        }
    }
}

/// Bytes asked of a connection at once.
const READ_BYTES: usize = 4 * 1024;

/// Sends the request and judges the response.
pub(super) async fn ask(
    mut stream: impl Stream,
    probe: &HttpProbe,
    matcher: Option<&Matcher>,
    host: &str,
) -> Result<(), Failure> {
    let cut = |error: io::Error| Failure::Cut(error.kind());
    stream.write_all(request(probe, host).as_bytes()).await.map_err(cut)?;
    stream.flush().await.map_err(cut)?;
    let mut received = Vec::with_capacity(READ_BYTES);
    let head = read_head(&mut stream, &mut received, probe).await?;
    if !probe.status.contains(head.status()) {
        return Err(Failure::Status(head.status()));
    }
    let Some(matcher) = matcher else { return Ok(()) };
    let body = read_body(&mut stream, received, head.framing()).await?;
    if matcher.matches(&body) { Ok(()) } else { Err(Failure::Body) }
}

/// What the User-Agent says, unless the check has one of its own.
pub(super) const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"));

fn request(probe: &HttpProbe, host: &str) -> String {
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n",
        probe.method, probe.path
    );
    if !probe.fields.iter().any(|(name, _)| &**name == "user-agent") {
        text += &format!("user-agent: {USER_AGENT}\r\n");
    }
    for (name, value) in &probe.fields {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Reads the final head; what came behind it is left in `received`.
async fn read_head(
    stream: &mut impl Stream,
    received: &mut Vec<u8>,
    probe: &HttpProbe,
) -> Result<ResponseHead, Failure> {
    let limits =
        HeadLimits { bytes_max: RESPONSE_HEAD_BYTES_MAX, count_max: RESPONSE_HEADER_COUNT_MAX };
    let of = ResponseTo { method: Method::from_bytes(probe.method.as_bytes()), upgrade: false };
    let mut head = ResponseHead::default();
    let mut interim = 0;
    loop {
        match head.parse(received, limits, of).map_err(|_| Failure::Invalid)? {
            Parse::Partial => more(stream, received).await?,
            Parse::Complete { head_bytes } => {
                received.drain(..head_bytes);
                if !head.is_interim() {
                    return Ok(head);
                }
                interim += 1;
                if interim > INTERIM_RESPONSES_MAX {
                    return Err(Failure::Invalid);
                }
                head.clear();
            }
        }
    }
}

/// Reads the body, or its first [`HEALTH_BODY_BYTES_MAX`] bytes.
async fn read_body(
    stream: &mut impl Stream,
    mut received: Vec<u8>,
    framing: Framing,
) -> Result<Vec<u8>, Failure> {
    let max = HEALTH_BODY_BYTES_MAX;
    match framing {
        Framing::Empty => received.clear(),
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(max).min(max);
            while received.len() < length {
                more(stream, &mut received).await?;
            }
            received.truncate(length);
        }
        Framing::Chunked => return read_chunks(stream, received).await,
        Framing::UntilClose => {
            while received.len() < max {
                match more(stream, &mut received).await {
                    Err(Failure::Cut(io::ErrorKind::UnexpectedEof)) => break,
                    other => other?,
                }
            }
            received.truncate(max);
        }
    }
    Ok(received)
}

async fn read_chunks(stream: &mut impl Stream, mut received: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (mut body, mut decoder) = (Vec::new(), ChunkDecoder::default());
    loop {
        let chunk = decoder.decode(&mut received).map_err(|_| Failure::Invalid)?;
        body.extend_from_slice(&received[chunk.data]);
        if chunk.done || body.len() >= HEALTH_BODY_BYTES_MAX {
            body.truncate(HEALTH_BODY_BYTES_MAX);
            return Ok(body);
        }
        received.clear();
        more(stream, &mut received).await?;
    }
}

/// Appends what comes next; the end of the stream is a failure.
async fn more(stream: &mut impl Stream, received: &mut Vec<u8>) -> Result<(), Failure> {
    received.reserve(READ_BYTES);
    match stream.read_buf(received).await {
        Ok(0) => Err(Failure::Cut(io::ErrorKind::UnexpectedEof)),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Cut(error.kind())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::snapshot::health::StatusSet;

    fn probe(body: Option<BodyMatch>) -> HttpProbe {
        HttpProbe {
            method: "GET".into(),
            path: "/health?deep=1".into(),
            host: None,
            fields: [("x-check".into(), "1".into())].into(),
            status: StatusSet([200..=299, 404..=404].into()),
            body,
        }
    }

    /// Asks an endpoint that answers with these pieces, one send each, and then closes.
    async fn asked(probe: &HttpProbe, answer: &[&str]) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut endpoint, _) = listener.accept().await.unwrap();
        let serve = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                endpoint.read_buf(&mut request).await.unwrap();
            }
            for piece in answer {
                let _ = endpoint.write_all(piece.as_bytes()).await;
                tokio::task::yield_now().await;
            }
            drop(endpoint);
            String::from_utf8(request).unwrap()
        };
        let matcher = probe.body.as_ref().map(Matcher::new);
        let (result, request) = tokio::join!(ask(stream, probe, matcher.as_ref(), "a.test"), serve);
        let begin = "GET /health?deep=1 HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n";
        assert!(request.starts_with(begin), "{request}");
        assert!(request.contains("\r\nx-check: 1\r\n"), "{request}");
        result
    }

    #[tokio::test]
    async fn the_status_decides() {
        let any = probe(None);
        assert_eq!(asked(&any, &["HTTP/1.1 204 x\r\n\r\n"]).await, Ok(()));
        assert_eq!(asked(&any, &["HTTP/1.0 404 x\r\n", "\r\n"]).await, Ok(()));
        let answer = ["HTTP/1.1 103 x\r\n\r\nHTTP/1.1 500 x\r\ncontent-length: 9\r\n\r\n"];
        assert_eq!(asked(&any, &answer).await, Err(Failure::Status(500)));
        assert_eq!(asked(&any, &["SSH-2.0-x\r\n"]).await, Err(Failure::Invalid));
        let cut = Failure::Cut(io::ErrorKind::UnexpectedEof);
        assert_eq!(asked(&any, &["HTTP/1.1 200 x\r\n"]).await, Err(cut));
    }

    #[tokio::test]
    async fn the_body_decides_however_it_is_framed_and_cut() {
        for of in
            [BodyMatch::Contains("all well".into()), BodyMatch::Regex("^(?:all) well$".into())]
        {
            let probe = probe(Some(of));
            for answer in [
                &["HTTP/1.1 200 x\r\ncontent-length: 8\r\n\r\nall", " wellmore"][..],
                &[
                    "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nall \r\n4\r",
                    "\nwell\r\n0\r\n\r\n",
                ],
                &["HTTP/1.0 200 x\r\n\r\n", "all ", "well"],
            ] {
                assert_eq!(asked(&probe, answer).await, Ok(()), "{answer:?}");
            }
            let answer = ["HTTP/1.1 200 x\r\ncontent-length: 7\r\n\r\nall ill"];
            assert_eq!(asked(&probe, &answer).await, Err(Failure::Body));
            let answer = ["HTTP/1.1 204 x\r\n\r\nall well"];
            assert_eq!(asked(&probe, &answer).await, Err(Failure::Body), "204 has no body");
            let answer = ["HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nall well"];
            let cut = Failure::Cut(io::ErrorKind::UnexpectedEof);
            assert_eq!(asked(&probe, &answer).await, Err(cut));
        }
    }

    #[tokio::test]
    async fn a_long_body_is_looked_at_in_part() {
        let probe = probe(Some(BodyMatch::Contains("end".into())));
        let long = "x".repeat(HEALTH_BODY_BYTES_MAX);
        let answer = ["HTTP/1.0 200 x\r\n\r\n", &long, "end"];
        assert_eq!(asked(&probe, &answer).await, Err(Failure::Body));
    }
}
