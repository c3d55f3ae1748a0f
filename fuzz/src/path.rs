//! Paths: the normal form is one, and holds nothing that climbs.

use ringway::proto::uri::{is_normal, normalise_path};

/// Panics if a normal form is not normal, or hides a dot segment.
pub fn check(data: &[u8]) {
    for merge_slashes in [false, true] {
        let mut once = Vec::new();
        if normalise_path(data, merge_slashes, &mut once).is_err() {
            assert!(!is_normal(data, merge_slashes));
            continue;
        }
        let mut twice = Vec::new();
        assert_eq!(normalise_path(&once, merge_slashes, &mut twice), Ok(()));
        assert_eq!(once, twice, "{}", data.escape_ascii());
        assert_eq!(once.first(), Some(&b'/'));
        if is_normal(data, merge_slashes) {
            assert_eq!(once, data);
        }
        for segment in once[1..].split(|&b| b == b'/') {
            let lower = segment.to_ascii_lowercase();
            assert!(!matches!(&*lower, b"." | b".." | b"%2e" | b"%2e%2e" | b".%2e" | b"%2e."));
            assert!(!lower.windows(3).any(|escape| escape == b"%00" || escape == b"%2e"));
        }
        assert!(!merge_slashes || !once.windows(2).any(|pair| pair == b"//"));
        assert!(once.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'?' && *b != b'#'));
    }
}
