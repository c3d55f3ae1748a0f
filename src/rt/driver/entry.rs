//! Entries of the submission queue that the `io_uring` crate has no words for.
#![allow(unsafe_code)]

use io_uring::{opcode, squeue, types};

/// `IORING_RECV_MULTISHOT` in linux/io_uring.h.
const RECV_MULTISHOT: u16 = 1 << 1;

/// Where `optlen` lies in `struct io_uring_sqe`; for a multishot receive the bytes in all.
/// Source: linux/io_uring.h, `io_recvmsg_prep` in io_uring/net.c (Linux 6.17).
const OPTLEN_AT: usize = 44;

const _: () = assert!(size_of::<squeue::Entry>() == 64);

/// Receives again and again into buffers of a group, `bytes` in all.
pub(super) fn receive_many(fd: types::Fd, group: u16, bytes: u32) -> squeue::Entry {
    let mut entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0)
        .buf_group(group)
        .ioprio(RECV_MULTISHOT)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT);
    // WHY UNSAFE: the crate has no way to set this field.
    // SAFETY: the entry is `struct io_uring_sqe`, 64 bytes of plain data, 8-aligned: asserted above;
    // four bytes at 44 are inside and aligned.
    unsafe { (&raw mut entry).cast::<u8>().add(OPTLEN_AT).cast::<u32>().write(bytes) };
    entry
}

/// Receives once into a buffer of a group, as much as it holds.
pub(super) fn receive_once(fd: types::Fd, group: u16) -> squeue::Entry {
    opcode::Recv::new(fd, std::ptr::null_mut(), 0)
        .buf_group(group)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}
