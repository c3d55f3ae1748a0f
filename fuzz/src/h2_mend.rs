//! Header blocks of endpoints and of clients: what no response, or no request, has is replaced and told, all else stays as it was, both
//! ends agree on their tables, and the `h2` crate ends no connection for it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use ringway::proto::h2::{FrameMeter, Refusal, Suspect};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hpack::{Decoder, Field};

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const BLOCKS_MAX: usize = 8;
/// What ringway takes; with four times as much the crate ends the connection.
const LIST_BYTES_MAX: usize = 32 * 1024;

/// Who sends the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Endpoint,
    Client,
}

/// The first byte says how the bytes are cut, the second whether streams end, whether blocks go on in CONTINUATION, and who sends
/// them. Then blocks, each behind a byte that is its length.
pub fn check(data: &[u8]) {
    let (size, data) = super::cut(data);
    let Some((&how, data)) = data.split_first() else { return };
    let sender = if how & 4 == 0 { Sender::Endpoint } else { Sender::Client };
    let blocks = blocks(data);
    let bytes = frames(&blocks, how);
    let whole = pass(sender, &bytes, bytes.len());
    let torn = pass(sender, &bytes, size);
    assert_eq!(torn.refusal, whole.refusal);
    assert_eq!(torn.suspects, whole.suspects);
    if whole.refusal.is_some() {
        assert!(whole.bytes.starts_with(&torn.bytes));
        return;
    }
    assert_eq!(torn.bytes, whole.bytes, "torn every {size}");
    assert_eq!(whole.bytes.len(), bytes.len(), "nothing is longer or shorter");
    if how & 2 == 0 && compare(sender, &blocks, &whole) {
        match sender {
            Sender::Endpoint => assert_survives(&whole, blocks.len()),
            Sender::Client => assert_serves(&whole),
        }
    }
}

fn blocks(mut data: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    while let Some((&length, rest)) = data.split_first()
        && blocks.len() < BLOCKS_MAX
    {
        let (block, rest) = rest.split_at(rest.len().min(length.into()));
        blocks.push(block);
        data = rest;
    }
    blocks
}

fn frame(kind: u8, flags: u8, stream: usize, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream as u8], payload].concat()
}

fn frames(blocks: &[&[u8]], how: u8) -> Vec<u8> {
    let ends = how & 1;
    let mut bytes = SETTINGS.to_vec();
    for (n, block) in blocks.iter().enumerate() {
        let stream = 2 * n + 1;
        if how & 2 == 0 {
            bytes.extend(frame(HEADERS, 4 | ends, stream, block));
            continue;
        }
        let (head, more) = block.split_at(block.len() / 2);
        bytes.extend(frame(HEADERS, ends, stream, head));
        bytes.extend(frame(CONTINUATION, 4, stream, more));
    }
    bytes
}

struct Passed {
    bytes: Vec<u8>,
    refusal: Option<Refusal>,
    suspects: Vec<Suspect>,
}

/// What the crate is shown of bytes that come in pieces of this size.
fn pass(sender: Sender, bytes: &[u8], size: usize) -> Passed {
    let mut meter = FrameMeter::new(0, 0);
    if sender == Sender::Client {
        meter = FrameMeter::new(PREFACE.len(), 0);
        meter.pass(&mut PREFACE.to_vec(), 0);
    }
    let mut all = Passed { bytes: Vec::new(), refusal: None, suspects: Vec::new() };
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let passed = meter.pass(&mut piece, 0);
        all.bytes.extend(meter.take_front());
        all.bytes.extend(&piece[..passed.kept]);
        all.suspects.extend(std::iter::from_fn(|| meter.take_suspect()));
        all.refusal = passed.refusal;
        if passed.refusal.is_some() {
            break;
        }
    }
    all.suspects.sort_by_key(|suspect| format!("{suspect:?}"));
    all
}

/// Compares what blocks mean, before and after; false where they mean nothing, or what can't be mended.
fn compare(sender: Sender, blocks: &[&[u8]], passed: &Passed) -> bool {
    let is_good = |field: &Field| match sender {
        Sender::Endpoint => is_good(field),
        Sender::Client => is_good_request(field),
    };
    let (mut before, mut after) = (Decoder::default(), Decoder::default());
    let mut rest = &passed.bytes[SETTINGS.len()..];
    let mut are_good = true;
    for (n, block) in blocks.iter().enumerate() {
        let (mended, more) = rest[9..].split_at(block.len());
        rest = more;
        let Some(fields) = before.decode(block) else { return false };
        let listed: usize = fields.iter().map(|one| one.name.len() + one.value.len() + 32).sum();
        let is_hopeless = |field| is_hopeless(sender, field);
        if fields.iter().any(is_hopeless) || listed > 4 * LIST_BYTES_MAX {
            return false;
        }
        let others = after.decode(mended).unwrap_or_else(|| panic!("{block:02x?} {mended:02x?}"));
        assert_eq!(fields.len(), others.len());
        // The name may be that of an entry that was replaced.
        let pairs = || fields.iter().zip(&others);
        let is_good = |(one, other): (&Field, &Field)| {
            is_good(one) && (one.index < 62 || one.name == other.name)
        };
        let are_here = pairs().all(is_good);
        are_good &= are_here;
        assert!(!are_good || block == &mended, "a good block is changed");
        for (one, other) in pairs() {
            let is_same = (&one.name, &one.value) == (&other.name, &other.value);
            assert!(is_same || !is_good((one, other)), "{one:?} became {other:?}");
        }
        let stream = 2 * n as u32 + 1;
        let is_told = passed.suspects.contains(&match sender {
            Sender::Endpoint => Suspect::Malformed(stream),
            Sender::Client => Suspect::Request(stream),
        });
        assert!(are_here || is_told, "{fields:?} are nobody's");
        assert!(block == &mended || is_told, "changed, and not told");
        let sizes = |decoder: &Decoder| {
            let sizes = decoder.table.iter().map(|(name, value)| name.len() + value.len());
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(sizes(&before), sizes(&after), "the tables are not the same");
    }
    true
}

/// Whether a response may have this field.
fn is_good(field: &Field) -> bool {
    if field.name == b":status" {
        return is_status(&field.value);
    }
    let is_of_name = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte)
    };
    let is_of_value = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    !field.name.is_empty()
        && field.name.iter().all(is_of_name)
        && field.value.iter().all(is_of_value)
}

/// Whether a request may have this field, as far as it is known to itself.
fn is_good_request(field: &Field) -> bool {
    let is_text = || field.value.iter().all(|byte| (b' '..0x7f).contains(byte) && *byte != b'#');
    match &field.name[..] {
        b":method" => is_token(&field.value),
        b":scheme" | b":authority" | b":path" | b":protocol" | b":status" => is_text(),
        _ => is_good(field),
    }
}

fn is_token(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_status(value: &[u8]) -> bool {
    matches!(value, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}

/// Whether a field is malformed in a way that ends the connection: docs/http2.md says so.
fn is_hopeless(sender: Sender, field: &Field) -> bool {
    let is_nameless = field.name.is_empty() && field.is_kept && !(1..127).contains(&field.coded);
    if sender == Sender::Client {
        let is_method = field.name == b":method";
        let is_odd = is_method
            && (field.value.is_empty() || field.index > 61)
            && !is_good_method(&field.value);
        return is_nameless || is_odd || field.name == b":status" && !is_status(&field.value);
    }
    let is_old = field.index > 62 && field.name == b":status" && !is_status(&field.value);
    is_nameless || is_old
}

fn is_good_method(value: &[u8]) -> bool {
    !value.is_empty() && is_token(value)
}

/// What an endpoint sends. What it is sent goes nowhere.
#[derive(Clone)]
struct Wire(Rc<RefCell<Vec<u8>>>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = self.0.borrow_mut();
        if bytes.is_empty() {
            return Poll::Pending;
        }
        let count = bytes.len().min(out.remaining());
        out.put_slice(&bytes[..count]);
        bytes.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The crate goes on with its connection, whatever came on these streams, of which those that are malformed are reset.
fn assert_survives(passed: &Passed, streams: usize) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(LIST_BYTES_MAX as u32).enable_push(false);
    let wire = Wire(Rc::new(RefCell::new(SETTINGS.to_vec())));
    let mut greeting = Box::pin(builder.handshake::<_, Bytes>(wire.clone()));
    let Poll::Ready(Ok((mut send, mut connection))) = greeting.as_mut().poll(&mut cx) else {
        panic!("a greeting waits for nobody")
    };
    drop(greeting);
    let asked = (0..streams).map(|_| {
        let request = http::Request::get("http://a.test/").body(()).expect("a request");
        send.send_request(request, true).expect("a stream")
    });
    let mut asked: Vec<_> = asked.collect();
    assert!(Pin::new(&mut connection).poll(&mut cx).is_pending(), "asked for");
    for (n, (_, stream)) in asked.iter_mut().enumerate() {
        if passed.suspects.contains(&Suspect::Malformed(2 * n as u32 + 1)) {
            stream.send_reset(h2::Reason::PROTOCOL_ERROR);
        }
    }
    wire.0.borrow_mut().extend_from_slice(&passed.bytes[SETTINGS.len()..]);
    let ended = Pin::new(&mut connection).poll(&mut cx);
    assert!(ended.is_pending(), "{ended:?} behind {:02x?}", passed.bytes);
}

/// The crate goes on with the connection of a client, whatever came on its streams, of which those that are malformed are reset.
fn assert_serves(passed: &Passed) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut builder = h2::server::Builder::new();
    builder.max_header_list_size(LIST_BYTES_MAX as u32).enable_connect_protocol();
    let wire = Wire(Rc::new(RefCell::new([PREFACE, &passed.bytes].concat())));
    let mut greeting = Box::pin(builder.handshake::<_, Bytes>(wire));
    let Poll::Ready(Ok(mut connection)) = greeting.as_mut().poll(&mut cx) else {
        panic!("a greeting waits for nobody")
    };
    drop(greeting);
    loop {
        match connection.poll_accept(&mut cx) {
            Poll::Pending => return,
            Poll::Ready(Some(Ok((_, mut respond)))) => {
                let stream = respond.stream_id().as_u32();
                if passed.suspects.contains(&Suspect::Request(stream)) {
                    respond.send_reset(h2::Reason::PROTOCOL_ERROR);
                }
            }
            ended => panic!("{ended:?} behind {:02x?}", passed.bytes),
        }
    }
}
