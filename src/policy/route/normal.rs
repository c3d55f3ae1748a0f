//! The normal form of a path, until `proto::uri` brings it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UriError {
    NotAbsolute,
    PercentEncoding,
    Nul,
    AboveRoot,
}

pub(super) fn normalise_path(
    path: &[u8],
    merge_slashes: bool,
    out: &mut Vec<u8>,
) -> Result<(), UriError> {
    let Some(b'/') = path.first() else { return Err(UriError::NotAbsolute) };
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        if byte != b'%' {
            decoded.push(byte);
            at += 1;
            continue;
        }
        let digit = |index: usize| {
            path.get(index)
                .and_then(|b| char::from(*b).to_digit(16))
                .ok_or(UriError::PercentEncoding)
        };
        let value = (digit(at + 1)? * 16 + digit(at + 2)?) as u8;
        match value {
            0 => return Err(UriError::Nul),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                decoded.push(value);
            }
            _ => decoded.extend([b'%', path[at + 1], path[at + 2]].map(|b| b.to_ascii_uppercase())),
        }
        at += 3;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let parts: Vec<&[u8]> = decoded.split(|b| *b == b'/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        match *part {
            b"." if last => segments.push(b""),
            b"." => {}
            b".." => {
                segments.pop().ok_or(UriError::AboveRoot)?;
                if last {
                    segments.push(b"");
                }
            }
            b"" if merge_slashes && !last => {}
            part => segments.push(part),
        }
    }
    for segment in segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    Ok(())
}
