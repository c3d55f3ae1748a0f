//! HPACK as RFC 7541 says it, with nothing of ringway's or the `h2` crate's: what a header block means, to compare with.

use std::sync::LazyLock;

/// The size of a table that nobody has changed.
const TABLE_BYTES: usize = 4096;

/// The static table: name, value. Source: RFC 7541 appendix A.
const STATIC: &str = ":authority=,:method=GET,:method=POST,:path=/,:path=/index.html,:scheme=http,:scheme=https,\
    :status=200,:status=204,:status=206,:status=304,:status=400,:status=404,:status=500,accept-charset=,\
    accept-encoding=gzip; deflate,accept-language=,accept-ranges=,accept=,access-control-allow-origin=,age=,allow=,\
    authorization=,cache-control=,content-disposition=,content-encoding=,content-language=,content-length=,\
    content-location=,content-range=,content-type=,cookie=,date=,etag=,expect=,expires=,from=,host=,if-match=,\
    if-modified-since=,if-none-match=,if-range=,if-unmodified-since=,last-modified=,link=,location=,max-forwards=,\
    proxy-authenticate=,proxy-authorization=,range=,referer=,refresh=,retry-after=,server=,set-cookie=,\
    strict-transport-security=,transfer-encoding=,user-agent=,vary=,via=,www-authenticate=";

/// How many bits each byte has in the Huffman code; the codes themselves are in order. Source: RFC 7541 appendix B.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// A field, and how it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The index of its name; 0 if it has none.
    pub index: usize,
    /// Whether it was put into the table.
    pub is_kept: bool,
    /// Bytes that its value had in the block.
    pub coded: usize,
}

/// A decoder.
#[derive(Default)]
pub struct Decoder {
    /// Entries, the newest first.
    pub table: Vec<(Vec<u8>, Vec<u8>)>,
    evicts_beyond: Option<usize>,
}

impl Decoder {
    /// The fields of a block; `None` if it is none.
    pub fn decode(&mut self, mut block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        let mut is_fresh = true;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                let size = number(&mut block, 5)?;
                if !is_fresh || size > TABLE_BYTES {
                    return None;
                }
                self.evicts_beyond = Some(size);
                self.evict();
                continue;
            }
            is_fresh = false;
            if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                fields.push(Field { name, value, index, is_kept: false, coded: 0 });
                continue;
            }
            let is_kept = first & 0x40 != 0;
            let index = number(&mut block, if is_kept { 6 } else { 4 })?;
            let name = match index {
                0 => text(&mut block)?.0,
                index => self.entry(index)?.0,
            };
            let (value, coded) = text(&mut block)?;
            if is_kept {
                self.table.insert(0, (name.clone(), value.clone()));
                self.evict();
            }
            fields.push(Field { name, value, index, is_kept, coded });
        }
        Some(fields)
    }

    fn entry(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        match index.checked_sub(62) {
            Some(at) => self.table.get(at).cloned(),
            None => {
                let (name, value) =
                    STATIC.split(',').nth(index.checked_sub(1)?)?.split_once('=')?;
                Some((name.into(), value.replace(';', ",").into()))
            }
        }
    }

    fn evict(&mut self) {
        let mut left = self.evicts_beyond.unwrap_or(TABLE_BYTES);
        let fits = self.table.iter().take_while(|(name, value)| {
            let bytes = name.len() + value.len() + 32;
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        });
        let count = fits.count();
        self.table.truncate(count);
    }
}

/// A number behind so many bits, of as many bytes as the `h2` crate takes.
fn number(block: &mut &[u8], bits: u32) -> Option<usize> {
    let mask = (1 << bits) - 1;
    let (first, rest) = block.split_first()?;
    *block = rest;
    let mut value = usize::from(*first) & mask;
    if value < mask {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = block.split_first()?;
        *block = rest;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string, and how many bytes it was.
fn text(block: &mut &[u8]) -> Option<(Vec<u8>, usize)> {
    let is_coded = block.first()? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some((if is_coded { huffman(text)? } else { text.to_vec() }, length))
}

fn huffman(coded: &[u8]) -> Option<Vec<u8>> {
    /// The bytes that have a code of each length.
    static BYTES: LazyLock<[Vec<u8>; 31]> = LazyLock::new(|| {
        std::array::from_fn(|length| {
            (0..=255).filter(|byte| usize::from(LENGTHS[usize::from(*byte)]) == length).collect()
        })
    });
    let mut text = Vec::new();
    let (mut code, mut length, mut first) = (0_u32, 0, 0_u32);
    for at in 0..8 * coded.len() {
        code = code << 1 | u32::from(coded[at / 8] >> (7 - at % 8) & 1);
        first <<= 1; // the first code of this length
        length += 1;
        let bytes = BYTES.get(length)?;
        match bytes.get((code - first) as usize) {
            Some(byte) => {
                text.push(*byte);
                (code, length, first) = (0, 0, 0);
            }
            None if length == 30 => return None, // what ends a string must not be in it
            None => first += bytes.len() as u32,
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    is_padding.then_some(text)
}
