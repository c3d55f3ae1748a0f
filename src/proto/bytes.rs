//! Classes of bytes, scans over them, and numbers as text. All safe code, no allocation.

/// The byte may stand in a token (field name, coding, option). Source: RFC 9110 §5.6.2.
pub const TOKEN: u8 = 1;
/// The byte may stand in a request target. Source: RFC 3986 §3.3, §3.4.
///
/// `[` and `]` are let through although RFC 3986 reserves them for IPv6 hosts: browsers send them
/// unencoded in paths and queries, and no parser reads them in two ways there.
pub const TARGET: u8 = 2;
/// The byte may stand in the name of a host, outside an IPv6 address. A comma is left out although
/// RFC 3986 §3.2.2 has it: it would join two hosts in the eyes of a list reader.
pub const HOST: u8 = 4;
/// The byte is unreserved: encoded or not, it means the same. Source: RFC 3986 §2.3.
pub const UNRESERVED: u8 = 8;
/// The byte may stand in a method. Narrower than RFC 9110 §9.1: upper case, digits, `-`, `_`.
pub const METHOD: u8 = 16;
/// The byte may stand in a query: those of [`TARGET`], and what browsers send unencoded there although
/// RFC 3986 does not have it. Source: WHATWG URL, "query percent-encode set".
pub const QUERY: u8 = 32;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] = TOKEN | TARGET | QUERY | HOST | UNRESERVED;
        }
        if b.is_ascii_uppercase() || b.is_ascii_digit() {
            table[byte] |= METHOD;
        }
        byte += 1;
    }
    table = add(table, b"!#$%&'*+-.^_`|~", TOKEN);
    table = add(table, b"-._~!$&'()*+,;=:@/?%[]", TARGET | QUERY);
    table = add(table, b"\\^`{|}", QUERY);
    table = add(table, b"-._~!$&'()*+;=", HOST);
    table = add(table, b"-._~", UNRESERVED);
    add(table, b"-_", METHOD)
}

const fn add(mut table: [u8; 256], bytes: &[u8], class: u8) -> [u8; 256] {
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] |= class;
        index += 1;
    }
    table
}

/// Whether `byte` is in `class` (one of the constants of this module).
#[inline]
pub const fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Position of the first byte at or after `from` that is not in `class`; `buf.len()` if none.
#[inline]
pub fn find_not(buf: &[u8], from: usize, class: u8) -> usize {
    let rest = buf.get(from..).unwrap_or_default();
    from + rest.iter().position(|&b| !is(b, class)).unwrap_or(rest.len())
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// Position of the first control character other than a tab at or after `from`; `buf.len()` if
/// none. Eight bytes at a time: values are most of a head.
#[inline]
pub fn find_control(buf: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(word) = buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // High bit of each byte below 0x20 or equal to 0x7f. A borrow can only raise false alarms
        // above the first true one, and only the first is looked at.
        let del = word ^ (ONES * 0x7f);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (low | (del.wrapping_sub(ONES) & !del & !word)) & HIGHS;
        if hits == 0 {
            at += 8;
            continue;
        }
        at += (hits.trailing_zeros() / 8) as usize;
        if buf[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    while at < buf.len() {
        let b = buf[at];
        if (b < 0x20 && b != b'\t') || b == 0x7f {
            return at;
        }
        at += 1;
    }
    at
}

/// Position of the first `byte` at or after `from`; `buf.len()` if none. For short ways: eight bytes at a
/// time, without a call.
#[inline]
pub fn find_byte(buf: &[u8], from: usize, byte: u8) -> usize {
    let mut at = from;
    while let Some(word) = buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        let hits = word.wrapping_sub(ONES) & !word & HIGHS; // the first is true, see find_control
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = buf.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| b == byte).unwrap_or(rest.len())
}

/// Whether `name` is `lower`, which has lower case letters, digits and `-` only, but for its case.
#[inline]
pub fn is_name(name: &[u8], lower: &[u8]) -> bool {
    let same = |a: u64, b: u64| {
        let letters = (b & (ONES * 0x40)) >> 1; // digits and `-` lie below 0x40
        (a ^ b) & !letters == 0
    };
    let eight = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let four = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    if name.len() != lower.len() {
        return false;
    }
    // The last word overlaps the one before it: no loop over single bytes.
    if let (Some(a), Some(b)) = (name.last_chunk(), lower.last_chunk()) {
        let (words, _) = name.as_chunks();
        let (known, _) = lower.as_chunks();
        let mut words = words.iter().zip(known);
        return same(eight(a), eight(b)) && words.all(|(a, b)| same(eight(a), eight(b)));
    }
    if let (Some(a), Some(b)) = (name.first_chunk(), lower.first_chunk())
        && let (Some(c), Some(d)) = (name.last_chunk(), lower.last_chunk())
    {
        return same(four(a), four(b)) && same(four(c), four(d));
    }
    name.iter().zip(lower).all(|(&a, &b)| same(u64::from(a), u64::from(b)))
}

/// Whether `byte` is optional white space. Source: RFC 9110 §5.6.3.
#[inline]
pub const fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without the optional white space around it.
pub fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Whether `bytes` is a token. Source: RFC 9110 §5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && find_not(bytes, 0, TOKEN) == bytes.len()
}

/// The elements of a comma list, trimmed; empty ones too. Knows no quoted strings, so only for
/// fields whose elements are tokens. Source: RFC 9110 §5.6.1.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows)
}

/// The number that `digits` spell; `None` if empty, not all digits, or above `u64::MAX`.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(number)
}

/// Appends `number` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The value of a hexadecimal digit of either case.
#[inline]
pub const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The byte that the two digits after a `%` stand for.
#[inline]
pub fn percent_value(after_percent: &[u8]) -> Option<u8> {
    match after_percent {
        [high, low, ..] => Some(hex_value(*high)? << 4 | hex_value(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for place in 0..=length {
                let mut text = vec![b'9'; length + 20]; // next to the colon
                text[place] = b':';
                assert_eq!(find_byte(&text, 0, b':'), place);
                assert_eq!(find_byte(&text, place, b':'), place);
                assert_eq!(find_byte(&text, place + 1, b':'), text.len());
            }
        }
        assert_eq!(find_byte(b"a", 5, b'a'), 5);
    }

    #[test]
    fn a_name_is_the_same_in_any_case_and_no_other_is() {
        let whole = b"proxy-authentication-info2";
        for length in 0..whole.len() {
            let lower = &whole[..length];
            assert!(is_name(lower, lower));
            assert!(is_name(&lower.to_ascii_uppercase(), lower));
            assert!(!is_name(&whole[..length + 1], lower));
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut other = lower.to_vec();
                    other[place] = byte;
                    assert_eq!(is_name(&other, lower), other.eq_ignore_ascii_case(lower));
                }
            }
        }
    }

    #[test]
    fn control_scan_agrees_with_the_plain_one_at_every_offset() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut text = *b"abc\tdef ghi~jkl\xffmno \x80";
                text[place] = byte;
                let plain = text
                    .iter()
                    .position(|&b| (b < 0x20 && b != b'\t') || b == 0x7f)
                    .unwrap_or(text.len());
                for from in 0..=place {
                    assert_eq!(find_control(&text, from), plain, "{byte:#x} at {place}");
                }
            }
        }
        assert_eq!(find_control(b"", 0), 0);
        assert_eq!(find_control(b"ab", 5), 5);
    }

    #[test]
    fn classes_follow_the_grammar() {
        for b in 0..=255_u8 {
            let token = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            assert_eq!(is(b, TOKEN), token);
            let refused = b <= b' ' || b >= 0x7f || b"\"<>\\^`{|}#".contains(&b);
            assert_eq!(is(b, TARGET), !refused, "{b:#x}");
            let refused = b <= b' ' || b >= 0x7f || b"\"<>#".contains(&b);
            assert_eq!(is(b, QUERY), !refused, "{b:#x}");
        }
        assert!(!is(b',', HOST) && !is(b'@', HOST) && !is(b':', HOST) && !is(b'%', HOST));
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1,1", b"1.0", b"\xd9\xa1"] {
            assert_eq!(parse_u64(bad), None);
        }
        assert_eq!(parse_u64(b"000"), Some(0));
        let mut out = Vec::new();
        push_decimal(&mut out, 0);
        push_decimal(&mut out, u64::MAX);
        assert_eq!(out, b"018446744073709551615");
    }

    #[test]
    fn trimming_and_lists() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b" \t"), b"");
        let elements: Vec<_> = list(b"a, ,b ,").collect();
        assert_eq!(elements, [&b"a"[..], b"", b"b", b""]);
    }
}
