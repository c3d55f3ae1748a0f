//! Buffers on loan to the kernel: what part of them an operation may read or write.
#![allow(unsafe_code)]

use monoio::buf::{IoBuf, IoBufMut};

use super::buf::Buf;

/// A buffer on its way through a receive: the kernel writes to its spare room.
pub(super) struct Receiving(pub(super) Buf);

// WHY UNSAFE: the kernel writes through this pointer, so monoio's `IoBufMut` is an unsafe trait.
// `Vec<u8>` needs no impl of ours but has no room in front, and costs 90 to 230 ns of mimalloc per
// receive where the pool takes 6 to 17 (34 KiB blocks; a warm loop, opt-level 3).
// SAFETY:
// - stable: the slot is part of a mapping that stays where it is however `self` moves;
// - exclusive: a `Buf` is one slot, out of the pool while it exists;
// - alive: monoio owns `self` until the completion arrives, even if the future is dropped;
// - initialised: mappings are zero, so any byte may be read;
// - in bounds: `received` asserts the length monoio reports.
unsafe impl IoBufMut for Receiving {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.spare_mut().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.spare()
    }

    unsafe fn set_init(&mut self, received: usize) {
        self.0.received(received);
    }
}

/// A buffer on its way through a send: the kernel reads the first `n` bytes of its data.
pub(super) struct Sending {
    pub(super) buf: Buf,
    pub(super) n: usize,
}

// WHY UNSAFE: the kernel reads through this pointer, so monoio's `IoBuf` is an unsafe trait.
// SAFETY: as for `Receiving`; `data()[..n]` is checked before each operation.
unsafe impl IoBuf for Sending {
    fn read_ptr(&self) -> *const u8 {
        self.buf.data()[..self.n].as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.n
    }
}

/// A vector on its way through a send, from the first byte not sent yet.
pub(super) struct SendingBytes {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
}

// WHY UNSAFE: as for `Sending`.
// SAFETY: a vector's bytes are on the heap and stay there while it is neither changed nor dropped,
// and monoio owns it until the completion.
unsafe impl IoBuf for SendingBytes {
    fn read_ptr(&self) -> *const u8 {
        self.bytes[self.sent..].as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len() - self.sent
    }
}
