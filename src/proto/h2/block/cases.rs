//! What is found in header blocks.

use super::*;

fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = vec![first];
    for text in [name, value] {
        if text.len() < 127 {
            entry.push(text.len() as u8);
        } else {
            let rest = text.len() - 127;
            entry.extend([127, (rest % 128) as u8 | 0x80, (rest / 128) as u8]);
        }
        entry.extend_from_slice(text);
    }
    entry
}

/// What is found in `block` behind `start`, however it is cut.
fn found(start: &Blocks, is_trailers: bool, block: &[u8]) -> Result<(), Refusal> {
    let mut results = (1..=block.len()).map(|step| {
        let mut blocks = start.clone();
        blocks.begin(0, is_trailers);
        let mut left = block.len();
        let mut block = block.to_vec();
        for piece in block.chunks_mut(step) {
            left -= piece.len();
            blocks.take(piece, left)?;
        }
        blocks.end()
    });
    let first = results.next().unwrap();
    assert!(results.all(|result| result == first), "{block:02x?}");
    first
}

/// A sender that has put `entries` into its table.
fn sender(entries: &[(&[u8], &[u8])]) -> Blocks {
    let mut blocks = Blocks::new();
    for (name, value) in entries {
        blocks.take(&mut literal(0x40, name, value), 0).unwrap();
    }
    blocks
}

#[test]
fn pseudo_fields_in_trailers_are_found_wherever_they_are() {
    let long = vec![b':'; 5_000];
    let mut before = Vec::new();
    before.extend([0x3f, 0xe1, 0x1f]); // a size
    before.extend(literal(0x40, b"x-t", &long));
    before.extend(literal(0x40, b"x-u", b"v"));
    before.extend(literal(0, b"grpc-status", b":0#"));
    before.extend(literal(0x10, b"", b"")); // nonsense, but well-formed
    before.extend([0x0f, 0x11, 1, b':', 0x7f, 0x00, 0, 0xbe, 0x9f]); // names by index
    assert_eq!(found(&Blocks::new(), true, &before), Ok(()));
    let known = sender(&[(b":path", b"/x"), (b"x", b":y")]);
    assert_eq!(found(&known, true, &[0xbe]), Ok(()));
    for field in [
        vec![0x84],          // :path /
        vec![0x44, 1, b'/'], // :path by its index
        literal(0, b":path", b"/"),
        literal(0x40, b":x", b""),
        vec![0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0],
        vec![0xbf],                // what the table has
        vec![0x7f, 0x00, 1, b'z'], // another value for it
    ] {
        let block = [&literal(0, b"x-t", &long), &field[..]].concat();
        assert_eq!(found(&known, true, &block), Err(Refusal::PseudoTrailers), "{field:02x?}");
        assert_eq!(found(&known, false, &block), Ok(()), "{field:02x?}");
    }
}

#[test]
fn entries_move_up_in_the_table() {
    let mut blocks = sender(&[(b":path", b"/x")]);
    for _ in 1..TABLE_ENTRIES {
        blocks.take(&mut literal(0x40, b"x", b""), 0).unwrap();
    }
    let at = |index: usize| vec![0xff, (index - 127) as u8 | 0x80, ((index - 127) >> 7) as u8];
    let last = STATIC_ENTRIES + TABLE_ENTRIES as usize;
    assert_eq!(found(&blocks, true, &at(last - 1)), Ok(()));
    assert_eq!(found(&blocks, true, &at(last)), Err(Refusal::PseudoTrailers));
    assert_eq!(found(&blocks, true, &at(last + 1)), Err(Refusal::Compression));
}

/// What `block` of a response has behind `start`, however it is cut.
fn found_in_response(start: &Blocks, block: &[u8]) -> (Found, Blocks) {
    let mut results = (1..=block.len()).map(|step| {
        let mut blocks = start.clone();
        blocks.begin_response(0);
        let mut left = block.len();
        let mut block = block.to_vec();
        for piece in block.chunks_mut(step) {
            left -= piece.len();
            blocks.take(piece, left).unwrap();
        }
        blocks.end().unwrap();
        blocks
    });
    let first = results.next().unwrap();
    assert!(results.all(|one| one.found() == first.found()), "{block:02x?}");
    (first.found(), first)
}

#[test]
fn pseudo_fields_of_responses_are_told_apart() {
    let has = |is_foreign, has_status, is_interim| Found { is_foreign, has_status, is_interim };
    let huffman_status = [0x00, 0x85, 0xb8, 0x84, 0x8d, 0x36, 0xa3];
    for (block, expected) in [
        (vec![0x88], has(false, true, false)),
        (vec![0x8e], has(false, true, false)),
        (vec![0x84], has(true, false, false)),
        (vec![0x88, 0x44, 1, b'#'], has(true, true, false)),
        (vec![0x48, 3, b'1', b'0', b'3'], has(false, true, true)),
        (vec![0x48, 0x82, 0x08, 0x19], has(false, true, true)), // 103 in the Huffman code
        (vec![0x48, 0x82, 0x10, 0x01], has(false, true, false)), // 200
        (literal(0, b":status", b"103"), has(false, true, true)),
        (literal(0x10, b":status", b"404"), has(false, true, false)),
        (literal(0, b":status2", b"103"), has(true, false, false)),
        (literal(0, b":statu", b"103"), has(true, false, false)),
        ([&huffman_status[..], &[3, b'1', b'0', b'3']].concat(), has(false, true, true)),
        (literal(0, b"x-status", b"103"), has(false, false, false)),
    ] {
        assert_eq!(found_in_response(&Blocks::new(), &block).0, expected, "{block:02x?}");
    }
    let mut block = literal(0x40, b":status", b"103");
    block.extend(literal(0x40, b"x", b"y"));
    block.extend([0x48, 3, b'2', b'0', b'6']);
    block.extend(literal(0x40, b":path", b"/"));
    let known = found_in_response(&Blocks::new(), &block).1;
    for (index, expected) in [
        (0xbe, has(true, false, false)),
        (0xbf, has(false, true, false)),
        (0xc0, has(false, false, false)),
        (0xc1, has(false, true, true)),
    ] {
        assert_eq!(found_in_response(&known, &[index]).0, expected, "{index:02x}");
    }
    let other_value = [0x7f, 0x00, 1, b'1']; // `:status` as it lies there
    assert_eq!(found_in_response(&known, &other_value).0, has(false, true, true));
}

#[test]
fn broken_compression_is_told() {
    for block in [
        &[0x80][..],                        // index 0
        &[0xbe],                            // nothing there
        &[0xff, 0xff, 0xff, 0xff, 0x0f],    // far beyond
        &[0xff, 0x80, 0x80, 0x80, 0x80, 1], // too long
        &[0x3f, 0xe2, 0x1f],                // a larger table
        &[0x82, 0x20],                      // a size behind a field
        &[0x00, 1, b'a', 2, b'b'],          // ends in a value
        &[0x00, 3, b'a'],                   // ends in a name
        &[0x40],
        &[0x00, 1, b'a', 0x7f],
        &[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff], // a string that ends itself
        &[0x00, 0x82, 0xf3, 0xff, 1, b'x'],             // a name with too much padding
    ] {
        assert_eq!(found(&Blocks::new(), false, block), Err(Refusal::Compression), "{block:02x?}");
    }
    assert_eq!(found(&Blocks::new(), false, &[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(()));
}

/// Whether the block of a request has what none may have, what is made of it, and who knows its entries.
fn found_in_request(start: &Blocks, block: &[u8]) -> (bool, Vec<u8>, Blocks) {
    let mut blocks = start.clone();
    let mut block = block.to_vec();
    blocks.begin(0, false);
    blocks.take(&mut block, 0).unwrap();
    blocks.end().unwrap();
    (blocks.found().is_foreign, block, blocks)
}

#[test]
fn fragments_are_found() {
    let known = sender(&[(b":path", b"/x")]);
    let huffman = [0x60, 0x7f, 0xf4, 0x3f]; // `/a#a`
    for field in [
        &[0x44, 4, b'/', b'a', b'#', b'o'][..],
        &[0x7e, 1, b'#'],
        &literal(0, b":authority", b"a.test#"),
        &[&[0x04, 0x84][..], &huffman].concat(),
    ] {
        assert!(found_in_request(&known, field).0, "{field:02x?}");
    }
    assert!(!found_in_request(&known, &literal(0, b"x", b"#")).0);
    assert!(!found_in_request(&known, &[0x44, 3, b'/', b'a', b'?']).0);
}

fn coded(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = vec![first, 0x80 | name.len() as u8];
    entry.extend_from_slice(name);
    entry.push(0x80 | value.len() as u8);
    entry.extend_from_slice(value);
    entry
}

/// What no request may have is found, and becomes what any may: of the same length, and known again by its index.
#[test]
fn what_no_request_has_is_mended() {
    const CODED: &[u8] = METHOD_CODED;
    for (bad, mended) in [
        (literal(0x40, b":foO", b"x"), literal(0x40, b"-fo-", b"x")),
        (coded(0x40, &[0xb9, 0x29, 0xcf], &[0x1f]), coded(0x40, &[0xf3, 0x29, 0xcf], &[0x1f])),
        (literal(0x40, b"X-Foo", b"x"), literal(0x40, b"---oo", b"x")),
        (literal(0x40, b"x\0y", b"x"), literal(0x40, b"x-y", b"x")),
        (literal(0x40, b"x", b"a\r\nb\x7f"), literal(0x40, b"x", b"a--b-")),
        (coded(0x40, &[0xfc, 0xf3], &[0x1f]), coded(0x40, &[0xff, 0x40], &[0x1f])),
        (literal(0x40, b"", b"xY"), literal(0x40, b"x-", b"")),
        (literal(0, b"", b"x"), vec![0x0f, 0, 1, b'x']),
        (vec![0x42, 3, b'A', b' ', b'\n'], vec![0x42, 3, b'A', b'-', b'-']), // a method
        (literal(0x40, b":method", b"A B"), literal(0x40, b":method", b"A-B")),
        (coded(0x40, CODED, &[0x53]), coded(0x40, CODED, &[0xf8])), // a space
        (vec![0x44, 3, b'/', 0xc3, 0xa9], vec![0x44, 3, b'/', b'-', b'-']),
        (literal(0x40, b":authority", b"a\0"), literal(0x40, b":authority", b"a-")),
        // `/` and a NUL: as many letters in as many bytes
        (vec![0x44, 0x83, 0x63, 0xff, 0x1f], vec![0x44, 0x83, 0xff, 0xfb, 0xf1]),
    ] {
        let (is_foreign, block, blocks) = found_in_request(&Blocks::new(), &bad);
        assert!(is_foreign, "{bad:02x?}");
        assert_eq!(block, mended, "{bad:02x?}");
        if block[0] & 0x40 != 0 {
            assert!(found_in_request(&blocks, &[0xbe]).0, "{bad:02x?}, by its index");
            let mut again = [0xbe];
            let mut trailers = blocks.clone();
            trailers.begin(0, true);
            assert_eq!(trailers.take(&mut again, 0), Err(Refusal::PseudoTrailers), "{bad:02x?}");
        }
        assert!(!found_in_request(&blocks, &literal(0, b"x", b"y")).0, "the next one is another");
        let mut trailers = Blocks::new();
        let mut block = bad.clone();
        trailers.begin(0, true);
        let _ = trailers.take(&mut block, 0);
        assert!(block == bad && !trailers.found().is_foreign, "{bad:02x?}: those are the crate's");
    }
    for good in [
        literal(0x40, b"x-foo", b"a\tb \xff#"),
        literal(0x40, b":method", b"M-SEARCH"),
        literal(0x40, b":protocol", b"websocket"),
        coded(0x40, &[0xb9, 0x58, 0xd3, 0x3f], &[0x63]),
        coded(0x40, &[0xb8, 0x82, 0x4e, 0x5a, 0x4b], &[0x1f]),
        coded(0x40, &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f], &[0x1f]),
        coded(0x40, &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f], &[0x1f]),
        coded(0x40, STATUS_CODED, &[0x1f]),
        vec![0x42, 0x83, 0xc5, 0x83, 0x7f], // GET
        vec![0x44, 4, b'/', b'?', b'{', b'\\'],
    ] {
        let (is_foreign, block, _) = found_in_request(&Blocks::new(), &good);
        assert!(block == good && !is_foreign, "{good:02x?}");
    }
}

/// What no response may have is found, and becomes what any may: of the same length, and known again by its index.
#[test]
fn what_no_response_has_is_mended() {
    for (bad, mended) in [
        (literal(0x40, b":foo", b"x"), literal(0x40, b"-foo", b"x")),
        (literal(0x40, b":statuz", b"200"), literal(0x40, b"-statuz", b"200")),
        (literal(0x40, b"X-Foo", b"x"), literal(0x40, b"---oo", b"x")),
        (literal(0x40, b"x\0y", b"x"), literal(0x40, b"x-y", b"x")),
        (literal(0x40, b"x", b"a\r\nb\x7f"), literal(0x40, b"x", b"a--b-")),
        (literal(0x40, b":status", b"20"), literal(0x40, b"-status", b"20")),
        (vec![0x48, 2, b'2', b'0'], vec![0x64, 2, b'2', b'0']),
        (vec![0x48, 0], vec![0x64, 0]),
        (vec![0x08, 1, b'0'], vec![0x04, 1, b'0']),
        (vec![0x48, 0x81, 0x07], vec![0x64, 0x81, 0x07]), // 0
        // `:foo`: the colon becomes what is as long; `Xx`: two letters in two bytes
        (coded(0x40, &[0xb9, 0x49, 0xcf], &[0x1f]), coded(0x40, &[0xf3, 0x49, 0xcf], &[0x1f])),
        (coded(0x40, &[0xfc, 0xf3], &[0x1f]), coded(0x40, &[0xff, 0x40], &[0x1f])),
        (
            [&[0x48, 0x7f, 1][..], &[b'2'; 128]].concat(),
            [&[0x64, 0x7f, 1][..], &[b'2'; 128]].concat(),
        ),
        (vec![0x42, 3, b'A', b' ', b'\n'], vec![0x64, 3, b'A', b' ', b'-']), // a method
        (vec![0x41, 1, 0xff], vec![0x7a, 1, 0xff]),
        (vec![0x07, 0x82, 0xff, b'a'], vec![0x04, 2, b'-', b'a']),
        (vec![0x18, 0x81, 0xff], vec![0x14, 1, b'-']),
        (literal(0, b"", b"x"), vec![0x0f, 0, 1, b'x']), // `accept-charset`
        (literal(0x10, b"", b""), vec![0x1f, 0, 0]),
        (literal(0x40, b"", b"xY"), literal(0x40, b"x-", b"")),
        (literal(0x40, b"", b":status"), literal(0x40, b"-status", b"")),
        (coded(0x40, &[], &[0x1f]), coded(0x40, &[0x1f], &[])),
        // `a` and a NUL: as many letters in as many bytes
        (coded(0x40, &[0x1f], &[0x1f, 0xfe, 0x3f]), coded(0x40, &[0x1f], &[0xff, 0xfb, 0xf1])),
    ] {
        let mut blocks = Blocks::new();
        blocks.begin_response(0);
        let mut block = bad.clone();
        blocks.take(&mut block, 0).unwrap();
        blocks.end().unwrap();
        assert!(blocks.found().is_foreign, "{bad:02x?}");
        assert_eq!(block, mended, "{bad:02x?}");
        if block[0] & 0x40 != 0 {
            assert!(found_in_response(&blocks, &[0xbe]).0.is_foreign, "{bad:02x?}, by its index");
        }
    }
    let known = found_in_response(&Blocks::new(), &literal(0x40, b":status", b"200")).1;
    for (bad, mended) in [
        (vec![0x7e, 1, b'2'], vec![0x64, 1, b'2']),
        (vec![0x0f, 0x2f, 1, b'2'], vec![0x0f, 0, 1, b'2']),
    ] {
        let mut blocks = known.clone();
        blocks.begin_response(0);
        let mut block = bad.clone();
        blocks.take(&mut block, 0).unwrap();
        assert!(blocks.found().is_foreign && block == mended, "{bad:02x?}");
    }
    let mut blocks = Blocks::new();
    blocks.begin_response(0);
    blocks.take(&mut literal(0x40, b"", b"x"), 0).unwrap();
    assert_eq!(blocks.clone().take(&mut [0xbe], 0), Ok(()));
    let by_name = blocks.take(&mut [0x7e, 1, b'y'], 0);
    assert_eq!(by_name, Err(Refusal::Compression), "it would be longer than its sender counts");
    for good in [
        literal(0x40, b"x-foo", b"a\tb \xff"),
        literal(0x40, b":status", b"200"),
        vec![0x48, 0x82, 0x10, 0x01],
    ] {
        let mut blocks = Blocks::new();
        blocks.begin_response(0);
        let mut block = good.clone();
        blocks.take(&mut block, 0).unwrap();
        assert!(block == good && !blocks.found().is_foreign, "{good:02x?}");
    }
}
