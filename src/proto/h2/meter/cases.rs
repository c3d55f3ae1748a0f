//! What of a connection passes the meter.

use super::*;

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

impl FrameMeter {
    /// What passes of `piece`, and why nothing more does.
    fn passes(&mut self, piece: &[u8], tick: u64) -> (Vec<u8>, Option<Refusal>) {
        let mut bytes = piece.to_vec();
        let passed = self.pass(&mut bytes, tick);
        ([&self.take_front(), &bytes[..passed.kept]].concat(), passed.refusal)
    }

    /// What passes of bytes that are cut every `step`.
    fn passes_cut(&mut self, bytes: &[u8], step: usize) -> (Vec<u8>, Option<Refusal>) {
        let mut all = Vec::new();
        for piece in bytes.chunks(step) {
            let (passed, refusal) = self.passes(piece, 0);
            all.extend(passed);
            if refusal.is_some() {
                return (all, refusal);
            }
        }
        (all, None)
    }
}

#[test]
fn only_empty_ones_count_however_they_are_cut() {
    let mut bytes = b"preface".to_vec();
    bytes.extend(frame(4, b"")); // SETTINGS
    bytes.extend(frame(0, b"\0\0\0\x06\0\0\0\0\0")); // DATA that looks like a PING
    bytes.extend(frame(6, b"12345678")); // PING
    for step in 1..bytes.len() {
        let mut meter = FrameMeter::new(7, 0);
        assert_eq!(meter.passes_cut(&bytes, step), (bytes.clone(), None), "cut every {step}");
        assert_eq!(meter.needless.0, limits::H2_EMPTY_FRAMES_MAX - 2, "cut every {step}");
    }
}

#[test]
fn trailers_are_looked_at_however_they_are_cut() {
    let head = |kind, flags, id: u8, block: &[u8]| {
        [&[0, 0, block.len() as u8, kind, flags, 0, 0, 0, id], block].concat()
    };
    let start = [b"preface", &SETTINGS[..], &head(1, 4, 1, &[0x84])].concat();
    let path = [0x44, 1, b'/'];
    let padded = [&[3, 0, 0, 0, 1, 9][..], &path, &[0x84; 3]].concat();
    let only_padding = [&[3][..], &[0x8f, 0x84, 0x84, 0x84]].concat();
    for (frames, is_bad) in [
        (head(1, 4, 3, &path), false),
        (head(1, 5, 1, &path), true),
        (head(1, 5 | 8 | 0x20, 1, &padded), true),
        (head(1, 5 | 8, 1, &only_padding), false),
        ([head(1, 1, 1, &[0x8f]), head(9, 4, 1, &path)].concat(), true),
        ([head(1, 5, 1, &[0x8f]), head(0, 0, 3, &path)].concat(), false),
    ] {
        let bytes = [&start[..], &frames].concat();
        for step in 1..bytes.len() {
            let mut meter = FrameMeter::new(7, 0);
            let (_, found) = meter.passes_cut(&bytes, step);
            let expected = is_bad.then_some(Refusal::PseudoTrailers);
            assert_eq!(found, expected, "cut every {step}");
        }
    }
    assert_eq!(FrameMeter::new(0, 0).last_stream, None, "endpoints open none");
}

#[test]
fn a_head_is_unfinished_until_its_last_byte() {
    let mut bytes = vec![0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0]; // HEADERS without END_HEADERS
    bytes.extend([0, 0, 1, 9, 4, 0, 0, 0, 1, 0]); // CONTINUATION with it
    bytes.extend(frame(6, b"12345678"));
    bytes.extend([0, 0, 1, 1, 4, 0, 0, 0, 3, 0]); // HEADERS with it
    let mut meter = FrameMeter::new(0, 0);
    meter.passes(&SETTINGS, 0);
    let seen: Vec<_> = bytes
        .iter()
        .map(|byte| {
            meter.passes(std::slice::from_ref(byte), 0);
            meter.unfinished_head()
        })
        .collect();
    let expected = |at: usize| match at {
        8..20 => Some(1),
        46 => Some(2),
        _ => None,
    };
    for (at, seen) in seen.into_iter().enumerate() {
        assert_eq!(seen, expected(at), "after byte {at}");
    }
}

#[test]
fn a_flood_is_told_and_time_forgives() {
    let mut meter = FrameMeter::new(0, 10);
    let ping = frame(6, b"12345678");
    meter.passes(&SETTINGS, 10);
    for _ in 1..limits::H2_EMPTY_FRAMES_MAX {
        assert_eq!(meter.passes(&ping, 10), (ping.clone(), None));
    }
    let mut later = meter.clone();
    assert_eq!(meter.passes(&ping, 10), (Vec::new(), Some(Refusal::Flood)));
    for _ in 0..limits::H2_EMPTY_FRAMES_PER_TICK {
        assert_eq!(later.passes(&ping, 11).1, None);
    }
    assert_eq!(later.passes(&ping, 11).1, Some(Refusal::Flood));
}

/// A client whose requests each have an empty DATA frame before the last one.
#[test]
fn empty_data_is_taken_out_where_it_means_nothing() {
    let head = [0, 0, 1, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x84];
    let data = |flags, id, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, DATA, flags, 0, 0, 0, id], payload].concat()
    };
    let start = [b"preface", &SETTINGS[..], &head].concat();
    let mut bytes = start.clone();
    let mut expected = start.clone();
    for n in 0..limits::H2_EMPTY_DATA_SHOWN * 2 {
        let next = [0, 0, 1, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x8f];
        let last = [&data(0, 1, &[1, 2, 3])[..], &next].concat();
        bytes.extend([data(0, 1, b""), last.clone()].concat());
        let is_shown = n < limits::H2_EMPTY_DATA_SHOWN;
        expected.extend(if is_shown { data(0, 1, b"") } else { Vec::new() });
        expected.extend(last);
    }
    // Of streams that are not open, or that end before it: the crate says what it thinks of them.
    let bad =
        [data(0, 3, b""), data(0, 0, b""), data(PADDED, 1, b""), data(END_STREAM, 1, b"")].concat();
    bytes.extend(&bad);
    expected.extend(&bad);
    for step in (1..40).chain([bytes.len()]) {
        let mut meter = FrameMeter::new(7, 0);
        assert!(meter.passes_cut(&bytes, step) == (expected.clone(), None), "cut every {step}");
    }
    let flood = data(0, 1, b"").repeat(limits::H2_EMPTY_FRAMES_MAX as usize + 1);
    let mut meter = FrameMeter::new(7, 0);
    meter.passes(&start, 0);
    let (passed, refusal) = meter.passes(&flood, 0);
    assert_eq!(passed.len(), HEADER_BYTES * limits::H2_EMPTY_DATA_SHOWN as usize);
    assert_eq!(refusal, Some(Refusal::Flood));
}

#[test]
fn endpoints_may_reset_what_they_were_asked() {
    let reset = frame(RST_STREAM, &[0; 4]);
    let asked = [&[0, 0, 1, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x8f], &reset[..]].concat();
    let (mut endpoint, mut client) = (FrameMeter::new(0, 0), FrameMeter::new(7, 0));
    endpoint.passes(&SETTINGS, 0);
    client.passes(&[b"preface", &SETTINGS[..]].concat(), 0);
    let many = asked.repeat(5_000);
    assert!(endpoint.passes(&many, 0) == (many.clone(), None));
    assert_eq!(client.passes(&many, 0).1, Some(Refusal::Flood));
    assert_eq!(endpoint.passes(&reset.repeat(1_001), 0).1, Some(Refusal::Flood));
}

/// Interim responses wait in the crate, however many, until their stream is read.
#[test]
fn interim_responses_come_beside_final_ones() {
    let head = |block: &[u8]| {
        [&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1], block].concat() // END_HEADERS
    };
    let (interim, last) = (head(&[0x08, 3, b'1', b'0', b'3']), head(&[0x88]));
    let mut meter = FrameMeter::new(0, 0);
    assert_eq!(meter.passes(&SETTINGS, 0).1, None);
    let pair = [interim.clone(), last].concat();
    (0..5_000).for_each(|_| assert_eq!(meter.passes(&pair, 0).1, None));
    let mut in_two = frame(HEADERS, &[0x08, 3]);
    in_two.extend([0, 0, 3, CONTINUATION, END_HEADERS, 0, 0, 0, 1, b'1', b'0', b'3']);
    for interim in [interim, in_two] {
        let mut meter = meter.clone();
        let flood = interim.repeat(limits::H2_EMPTY_FRAMES_MAX as usize);
        assert_eq!(meter.passes(&flood, 0).1, None);
        assert_eq!(meter.passes(&interim, 0).1, Some(Refusal::Flood));
    }
}

/// However they are cut: what is malformed in them is in one piece.
#[test]
fn header_blocks_of_endpoints_pass_as_whole_frames() {
    let upper = [0x88, 0, 3, b'a', b'B', b'c', 2, b'x', 0];
    let mended = [0x88, 0, 3, b'a', b'-', b'c', 2, b'x', b'-'];
    let frames = |block: &[u8]| {
        let mut head = frame(HEADERS, &block[..3]);
        let mut more = frame(CONTINUATION, &block[3..]);
        (head[4], more[4]) = (0, END_HEADERS);
        [&SETTINGS[..], &head, &more, &frame(DATA, b"abc")].concat()
    };
    let (bytes, expected) = (frames(&upper), frames(&mended));
    for step in 1..=bytes.len() {
        let mut meter = FrameMeter::new(0, 0);
        assert!(meter.passes_cut(&bytes, step) == (expected.clone(), None), "cut every {step}");
        assert_eq!(meter.take_suspect(), Some(Suspect::Malformed(1)), "cut every {step}");
        assert_eq!(meter.take_suspect(), None);
        let mut meter = FrameMeter::new(0, 0);
        for piece in bytes.chunks(step) {
            meter.passes(piece, 0);
            let is_cut = meter.payload_is_head && meter.payload_left > 0;
            assert_eq!(is_cut, !meter.held.is_empty(), "cut every {step}");
        }
    }
    let mut too_long = frame(HEADERS, &[]);
    too_long[0] = 1; // 64 KiB
    let mut meter = FrameMeter::new(0, 0);
    let bytes = [&SETTINGS[..], &too_long].concat();
    assert!(meter.passes_cut(&bytes, 1) == (bytes.clone(), None), "the crate refuses it");
}

/// So do those of clients; the stream is told before the crate sees what it would end the connection for.
#[test]
fn malformed_requests_are_told_with_their_stream() {
    let request = |block: &[u8]| {
        let mut head = frame(HEADERS, &[0x82]);
        let mut more = frame(CONTINUATION, block);
        (head[4], more[4]) = (0, END_HEADERS);
        [&SETTINGS[..], &head, &more].concat()
    };
    let good = request(b"\0\x01a\x01b");
    for (bad, mended) in [
        (&b"\0\x01A\x01\0"[..], &b"\0\x01-\x01-"[..]),
        (b"\0\x82\xfc\xf3\0", b"\0\x82\xff\x40\0"), // `Xx`, spelled otherwise as a whole
    ] {
        let (bytes, expected) = (request(bad), request(mended));
        for step in 1..=bytes.len() {
            let mut meter = FrameMeter::new(7, 0);
            meter.passes(b"preface", 0);
            assert!(meter.passes_cut(&bytes, step) == (expected.clone(), None), "cut every {step}");
            assert_eq!(meter.take_suspect(), Some(Suspect::Request(1)), "cut every {step}");
            assert_eq!(meter.take_suspect(), None);
        }
    }
    for step in 1..=good.len() {
        let mut meter = FrameMeter::new(7, 0);
        meter.passes(b"preface", 0);
        assert!(meter.passes_cut(&good, step) == (good.clone(), None), "cut every {step}");
        assert_eq!(meter.take_suspect(), None, "cut every {step}");
    }
}

/// On a stream it is no violation of the connection.
#[test]
fn windows_that_are_opened_by_nothing() {
    let zero = |stream| {
        let mut zero = frame(WINDOW_UPDATE, &[0x80, 0, 0, 0]); // the first bit means nothing
        zero[8] = stream;
        [&SETTINGS[..], &zero].concat()
    };
    let mut one = zero(3);
    *one.last_mut().unwrap() = 1;
    for step in 1..=one.len() {
        let mut meter = FrameMeter::new(0, 0);
        assert!(meter.passes_cut(&zero(3), step) == (one.clone(), None), "cut every {step}");
        assert_eq!(meter.take_suspect(), Some(Suspect::Malformed(3)));
        assert_eq!(meter.take_suspect(), None);
        assert!(meter.passes_cut(&zero(0)[9..], step).0 == zero(0)[9..], "of the connection");
        assert!(meter.passes_cut(&one[9..], step).0 == one[9..]);
        assert_eq!(meter.take_suspect(), None);
    }
    let mut client = FrameMeter::new(7, 0);
    let bytes = [&b"preface"[..], &zero(3)].concat();
    assert!(client.passes(&bytes, 0) == (bytes.clone(), None), "those of clients are the crate's");
}

#[test]
fn settings_come_first() {
    let mut ack = SETTINGS;
    ack[4] = 1;
    for first in [&frame(6, b"12345678")[..], &frame(0, b""), &ack] {
        let bytes = [b"preface", first].concat();
        let found = FrameMeter::new(7, 0).passes(&bytes, 0);
        assert_eq!(found, (b"preface".to_vec(), Some(Refusal::NoSettings)));
    }
}

#[test]
fn nothing_follows_the_end_of_a_message() {
    let head = |flags, id| [0, 0, 1, HEADERS, END_HEADERS | flags, 0, 0, 0, id, 0x84];
    let data = |flags, id| [0, 0, 1, DATA, flags, 0, 0, 0, id, b'x'];
    let start = [b"preface", &SETTINGS[..]].concat();
    let judge = |frames: &[[u8; 10]]| {
        FrameMeter::new(7, 0).passes(&[&start[..], &frames.concat()].concat(), 0).1
    };
    for end in [&[head(END_STREAM, 1)][..], &[head(0, 1), data(END_STREAM, 1)]] {
        for behind in [data(0, 1), data(END_STREAM, 1), head(END_STREAM, 1)] {
            assert_eq!(judge(&[end, &[behind]].concat()), Some(Refusal::Ended));
            assert_eq!(judge(&[end, &[head(0, 3), behind]].concat()), Some(Refusal::Ended));
        }
        assert_eq!(judge(&[end, &[head(0, 3), data(0, 3), data(END_STREAM, 3)]].concat()), None);
    }
    let answer = [head(0, 1), data(END_STREAM, 1), data(0, 1)].concat();
    let of_endpoint = FrameMeter::new(0, 0).passes(&[&SETTINGS[..], &answer].concat(), 0);
    assert_eq!(of_endpoint.1, None, "its streams are the crate's");
}

/// The last setting counts, and of the updates those of the whole connection.
#[test]
fn what_the_peer_takes_is_known_however_it_is_cut() {
    let mut settings = frame(4, &[0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 1, 2]);
    settings[8] = 0;
    let mut of_all = frame(8, &[0, 1, 0, 5]);
    of_all[8] = 0;
    let of_one = frame(8, &[0, 0, 0, 7]);
    let bytes = [&b"preface"[..], &settings, &of_all, &of_one, &of_all].concat();
    for step in 1..bytes.len() {
        let mut meter = FrameMeter::new(7, 0);
        assert_eq!(meter.windows(), Windows { of_stream: 65_535, in_all: 65_535 });
        assert_eq!(meter.passes_cut(&bytes, step).1, None);
        let in_all = 65_535 + 2 * 0x1_0005;
        assert_eq!(meter.windows(), Windows { of_stream: 0x102, in_all }, "cut every {step}");
    }
}

#[test]
fn what_is_wrong_with_a_frame_is_called_by_its_name() {
    let window = |value: u32| [&[0, 4], &value.to_be_bytes()[..]].concat();
    let mut ack = frame(4, &[0; 6]);
    ack[4] = 1;
    for (frame, expected) in [
        (frame(6, b"1234567"), Some(Refusal::FrameSize)),
        (frame(4, b"12345"), Some(Refusal::FrameSize)),
        (frame(3, b"123"), Some(Refusal::FrameSize)),
        (frame(8, b"12345"), Some(Refusal::FrameSize)),
        (frame(7, b"1234567"), Some(Refusal::FrameSize)),
        (ack, Some(Refusal::FrameSize)),
        (frame(4, &window(1 << 31)), Some(Refusal::Window)),
        (frame(4, &[window(5), window(1 << 31)].concat()), Some(Refusal::Window)),
        (frame(4, &window((1 << 31) - 1)), None),
        (frame(1, &[0x80]), Some(Refusal::Compression)),
    ] {
        for step in 1..frame.len() {
            let mut meter = FrameMeter::new(7, 0);
            meter.passes(&[b"preface", &SETTINGS[..]].concat(), 0);
            let mut frame = frame.clone();
            frame[4] |= if frame[3] == 1 { END_HEADERS } else { 0 };
            assert_eq!(meter.passes_cut(&frame, step).1, expected, "{frame:02x?}");
        }
    }
}
