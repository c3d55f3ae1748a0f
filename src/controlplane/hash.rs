//! A checksum that is the same on every machine and in every version: for ETags and the state file.
//! Not for secrets: whoever wants two texts with the same one can make them.

/// FNV-1a, 128 bits, in hex. Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm".
pub(super) fn hash(bytes: &[u8]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    format!("{:032x}", bytes.iter().fold(BASIS, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(hash(b""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash(b"a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
