//! Just enough HTTP/1.1 and WebSocket to be two honest ends: no more than the proxies are asked.

/// The bytes are not what they should be; the connection they came from is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Malformed;

/// What the origin needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'a> {
    /// The target as sent.
    pub path: &'a str,
    /// Bytes of the body that follows.
    pub body_bytes: usize,
    /// The connection ends after the answer.
    pub close: bool,
    /// The body is chunked, which the origin does not read.
    pub chunked: bool,
    /// Bytes of the head with its empty line.
    pub head_bytes: usize,
}

/// What the load generator needs to know of a response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Content-Length, if there is one.
    pub body_bytes: Option<usize>,
    /// Bytes of the head with its empty line.
    pub head_bytes: usize,
}

/// Reads a request head; `None` as long as it is incomplete, `Err` if it is none.
pub fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    let Some(head_bytes) = head_end(bytes) else { return Ok(None) };
    let mut lines = std::str::from_utf8(&bytes[..head_bytes]).map_err(|_| Malformed)?.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(_), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(Malformed);
    };
    let close = version == "HTTP/1.0";
    let mut request = Request { path, body_bytes: 0, close, chunked: false, head_bytes };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            request.body_bytes = value.parse().map_err(|_| Malformed)?;
        } else if name.eq_ignore_ascii_case("connection") {
            request.close |= value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            request.chunked = true;
        }
    }
    Ok(Some(request))
}

/// Reads a response head; `None` as long as it is incomplete, `Err` if it is none.
pub fn response(bytes: &[u8]) -> Result<Option<Response>, Malformed> {
    let Some(head_bytes) = head_end(bytes) else { return Ok(None) };
    let head = &bytes[..head_bytes];
    if !head.starts_with(b"HTTP/1.") || head.len() < 16 {
        return Err(Malformed);
    }
    let status = number(&head[9..12]).ok_or(Malformed)? as u16;
    let mut body_bytes = None;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            body_bytes = Some(number(line[NAME.len()..].trim_ascii()).ok_or(Malformed)?);
        }
    }
    Ok(Some(Response { status, body_bytes, head_bytes }))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bytes up to and with the empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// An unfragmented binary frame; clients mask (RFC 6455 section 5.3). Up to 65,535 bytes.
pub fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    const FINAL_BINARY: u8 = 0x82;
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![FINAL_BINARY];
    if payload.len() < 126 {
        frame.push(mask_bit | payload.len() as u8);
    } else {
        frame.push(mask_bit | 126);
        frame.extend((payload.len() as u16).to_be_bytes());
    }
    let key = mask.unwrap_or_default();
    frame.extend(mask.iter().flatten());
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The payload of the first frame and the bytes that frame takes; `None` while incomplete or if
/// it is longer than 65,535 bytes.
pub fn unframe(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let masked = bytes.get(1)? & 0x80 != 0;
    let (length, mut at) = match bytes.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => return None,
        short => (usize::from(short), 2),
    };
    let mut key = [0; 4];
    if masked {
        key.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let payload = bytes.get(at..at + length)?.iter().zip(key.iter().cycle());
    Some((payload.map(|(byte, key)| byte ^ key).collect(), at + length))
}

/// Seconds since 1970 as an IMF-fixdate, always 29 bytes (RFC 9110 section 5.6.7).
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day counted from 1970-01-01: years begin in March, so that the leap
/// day is a year's last, and 400 years have 146,097 days.
pub fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_requests_torn_and_whole() {
        let text = b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello";
        let head_bytes = text.len() - 5;
        for cut in 0..head_bytes {
            assert_eq!(request(&text[..cut]), Ok(None));
        }
        let expected =
            Request { path: "/upload", body_bytes: 5, close: true, chunked: false, head_bytes };
        assert_eq!(request(text), Ok(Some(expected)));
        assert_eq!(request(b"nonsense\r\n\r\n"), Err(Malformed));
    }

    #[test]
    fn reads_responses() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 100\r\n\r\n";
        let head = response(text).unwrap().unwrap();
        assert_eq!((head.status, head.body_bytes, head.head_bytes), (200, Some(100), text.len()));
        assert_eq!(response(&text[..30]), Ok(None));
        assert_eq!(response(b"SSH-2.0-whatever\r\n\r\n"), Err(Malformed));
    }

    #[test]
    fn frames_come_back() {
        for length in [0, 1, 125, 126, 128, 4000] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            for mask in [None, Some([1, 2, 3, 4])] {
                let bytes = frame(&payload, mask);
                assert_eq!(unframe(&bytes), Some((payload.clone(), bytes.len())));
                assert_eq!(unframe(&bytes[..bytes.len() - 1]), None);
            }
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"); // the RFC's example
        assert_eq!(http_date(1_709_210_096), "Thu, 29 Feb 2024 12:34:56 GMT");
    }
}
