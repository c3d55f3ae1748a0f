//! Bytes in, decisions out: HTTP heads, framing, chunks. No socket, no clock.
