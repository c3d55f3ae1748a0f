//! gRPC-Web in base64: any cut gives the same bytes, and what is written is read again.

use ringway::proto::grpc_web::{Dialect, Recoder};

fn dialect() -> Dialect {
    let text = b"application/grpc-web-text";
    Dialect::of(text, None).unwrap_or_else(|| unreachable!("it is one"))
}

/// What a request becomes in pieces of so many bytes.
fn read(text: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut recoder = Recoder::request(&dialect())?;
    let mut out = Vec::new();
    for piece in text.chunks(size) {
        recoder.write(piece, &mut out).ok()?;
    }
    recoder.end(b"", &mut out).ok()?;
    Some(out)
}

/// Reads it as a request, and writes it as a response.
pub fn check(data: &[u8]) {
    let (size, rest) = super::cut(data);
    let whole = read(rest, rest.len().max(1));
    assert_eq!(read(rest, size), whole);
    let mut response = Recoder::response(&dialect());
    let mut text = Vec::new();
    for piece in rest.chunks(size) {
        assert!(response.write(piece, &mut text).is_ok());
    }
    assert!(response.end(b"", &mut text).is_ok());
    assert_eq!(read(&text, size).as_deref(), Some(rest));
}
