//! What the fuzz targets check. Run one for 20 seconds, on stable:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none head fuzz/corpus/head fuzz/seeds/head -- \
//!     -max_total_time=20 -dict=fuzz/http.dict
//! ```
//!
//! (`proto` has no unsafe code, so a sanitizer would only slow it down.) An input that is found
//! becomes a named unit test beside the code, and a seed here.

pub mod chunked;
pub mod client_hello;
pub mod framing_differential;
pub mod grpc_web;
pub mod h2_mend;
pub mod h2_request;
pub mod head;
pub mod hpack;
pub mod path;
pub mod response_head;
pub mod route;
pub mod tls_session;
pub mod toml;

use ringway::proto::h1::HeadLimits;

/// Small enough that the fuzzer meets them.
const LIMITS: HeadLimits = HeadLimits { bytes_max: 512, count_max: 12 };

/// The first byte says how the rest is cut: into pieces of that many bytes.
fn cut(data: &[u8]) -> (usize, &[u8]) {
    match data.split_first() {
        Some((&size, rest)) => (usize::from(size % 32).max(1), rest),
        None => (1, data),
    }
}

/// Ends of the pieces of `length` bytes, the last one at `length`.
fn stops(length: usize, size: usize) -> impl Iterator<Item = usize> {
    (size..length).step_by(size).chain([length])
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Each seed, and each of its beginnings, passes its target's check.
    #[test]
    fn seeds_pass() {
        let targets: [(&str, fn(&[u8])); 12] = [
            ("head", super::head::check),
            ("response_head", super::response_head::check),
            ("h2_mend", super::h2_mend::check),
            ("h2_request", super::h2_request::check),
            ("chunked", super::chunked::check),
            ("client_hello", super::client_hello::check),
            ("grpc_web", super::grpc_web::check),
            ("path", super::path::check),
            ("framing_differential", super::framing_differential::check),
            ("route", super::route::check),
            ("tls_session", super::tls_session::check),
            ("toml", super::toml::check),
        ];
        for (name, check) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
            let mut count = 0;
            for entry in fs::read_dir(&folder).unwrap() {
                let seed = fs::read(entry.unwrap().path()).unwrap();
                for end in 0..=seed.len() {
                    check(&seed[..end]);
                }
                count += 1;
            }
            assert!(count > 0, "{} has no seeds", folder.display());
        }
    }
}
