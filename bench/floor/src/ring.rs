//! The floor with io_uring: one multishot receive per connection, buffers the kernel picks from a
//! ring, one send for each that was filled, one system call for all of a turn.

use crate::relay::{Role, Table};
use crate::{Options, socket};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

const BUFFER_BYTES: usize = 32 * 1024;
const GROUP: u16 = 0;
const ENTRIES: u32 = 4096;

/// What a completion belongs to: kind in the upper half, connection in the lower.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;

struct Ring {
    uring: IoUring,
    entries: *mut types::BufRingEntry,
    memory: *mut u8,
    mask: u16,
    tail: u16,
    /// Put into the queue since the last submission.
    sends: u32,
    options: Options,
}

fn pages(bytes: usize) -> io::Result<*mut u8> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, at no given place.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

/// The same in pages of 2 MiB.
fn huge_pages(bytes: usize) -> io::Result<*mut u8> {
    const HUGE: usize = 2 << 20;
    let at = pages(bytes + HUGE)?;
    let skip = at.addr().next_multiple_of(HUGE) - at.addr();
    // SAFETY: inside the mapping just made, which is larger by as much.
    unsafe {
        let at = at.add(skip);
        libc::madvise(at.cast(), bytes.next_multiple_of(HUGE) - HUGE, libc::MADV_HUGEPAGE);
        Ok(at)
    }
}

impl Ring {
    fn new(options: &Options) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(ENTRIES * 4);
        let uring = builder.build(ENTRIES)?;
        let count = options.buffers;
        let entries = pages(usize::from(count) * size_of::<types::BufRingEntry>())?.cast();
        let bytes = usize::from(count) * BUFFER_BYTES;
        let memory = if options.huge { huge_pages(bytes)? } else { pages(bytes)? };
        if options.fixed {
            uring.submitter().register_files_sparse(ENTRIES)?;
        }
        // SAFETY: the memory stays mapped for as long as the process lives.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(entries as u64, count, GROUP, 0)?;
        }
        let mut ring = Self {
            uring,
            entries,
            memory,
            mask: count - 1,
            tail: 0,
            sends: 0,
            options: options.clone(),
        };
        (0..count).for_each(|id| ring.give_back(id));
        Ok(ring)
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: what entries point to is the buffers' memory, which stays.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.uring.submit()?;
        }
        Ok(())
    }

    fn buffer(&self, id: u16, bytes: usize) -> &[u8] {
        // SAFETY: inside the mapping; the kernel does not write to a buffer it has given us.
        unsafe {
            std::slice::from_raw_parts(self.memory.add(usize::from(id) * BUFFER_BYTES), bytes)
        }
    }

    fn give_back(&mut self, id: u16) {
        // SAFETY: a place of the ring that the kernel does not read before the tail passes it.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & self.mask));
            entry.set_addr(self.memory.add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn receive(&mut self, table: &Table, index: u32) -> io::Result<()> {
        let fd = table.conns[index as usize].fd;
        let entry = if self.options.fixed {
            self.uring.submitter().register_files_update(index, &[fd])?;
            opcode::RecvMulti::new(types::Fixed(index), GROUP).build()
        } else {
            opcode::RecvMulti::new(types::Fd(fd), GROUP).build()
        };
        self.push(entry.user_data(RECEIVE | u64::from(index)))
    }

    fn send(&mut self, table: &mut Table, index: u32) -> io::Result<()> {
        let conn = &mut table.conns[index as usize];
        let Some((id, bytes)) = conn.queue.front().copied() else { return Ok(()) };
        conn.is_sending = true;
        let at = self.buffer(id, bytes as usize).as_ptr();
        let entry = match self.options.fixed {
            true => opcode::Send::new(types::Fixed(index), at, bytes),
            false => opcode::Send::new(types::Fd(conn.fd), at, bytes),
        };
        let entry = entry.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        self.sends += 1;
        self.push(entry.user_data(SEND | u64::from(index)))
    }

    fn wait(&mut self) -> io::Result<()> {
        let Options { wait, expect, .. } = self.options;
        let sends = std::mem::take(&mut self.sends);
        let result = self.uring.submit_and_wait((wait + if expect { sends } else { 0 }) as usize);
        match result {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME)) => Ok(()),
            result => result.map(drop),
        }
    }

    fn received(
        &mut self,
        table: &mut Table,
        index: u32,
        result: i32,
        flags: u32,
    ) -> io::Result<()> {
        let id = cqueue::buffer_select(flags);
        let (1.., Some(id)) = (result, id) else {
            id.into_iter().for_each(|id| self.give_back(id));
            if result == -libc::ENOBUFS {
                return self.receive(table, index);
            }
            table.end(index);
            if !table.conns[index as usize].is_sending {
                table.release(index);
            }
            return Ok(());
        };
        let bytes = self.buffer(id, result as usize);
        let (target, opened) = table.target(index, bytes)?;
        if self.options.direct {
            let _ = socket::send_all(table.conns[target as usize].fd, bytes);
            self.give_back(id);
        } else {
            table.conns[target as usize].queue.push_back((id, result as u32));
            if !table.conns[target as usize].is_sending {
                self.send(table, target)?;
            }
        }
        if let Some(opened) = opened {
            self.receive(table, opened)?;
        }
        if !cqueue::more(flags) {
            self.receive(table, index)?;
        }
        Ok(())
    }

    fn sent(&mut self, table: &mut Table, index: u32) -> io::Result<()> {
        let conn = &mut table.conns[index as usize];
        conn.is_sending = false;
        if let Some((id, _)) = conn.queue.pop_front() {
            self.give_back(id);
        }
        if table.conns[index as usize].role != Role::Gone {
            return self.send(table, index);
        }
        let left = std::mem::take(&mut table.conns[index as usize].queue);
        left.into_iter().for_each(|(id, _)| self.give_back(id));
        table.release(index);
        Ok(())
    }
}

pub fn run(options: Options) -> io::Result<()> {
    let listener = socket::listen(options.port)?;
    let mut ring = Ring::new(&options)?;
    let mut table = Table::new(options.origin);
    let accept = opcode::AcceptMulti::new(types::Fd(listener)).build();
    ring.push(accept.clone().user_data(ACCEPT))?;
    let mut completions = Vec::new();
    loop {
        ring.wait()?;
        let come = ring.uring.completion();
        completions.extend(come.map(|one| (one.user_data(), one.result(), one.flags())));
        for (data, result, flags) in completions.drain(..) {
            let index = data as u32;
            match data >> 32 << 32 {
                ACCEPT => {
                    if result >= 0 {
                        socket::set_nodelay(result)?;
                        let index = table.add(result, Role::Client);
                        ring.receive(&table, index)?;
                    }
                    if !cqueue::more(flags) {
                        ring.push(accept.clone().user_data(ACCEPT))?;
                    }
                }
                RECEIVE => ring.received(&mut table, index, result, flags)?,
                _ => ring.sent(&mut table, index)?,
            }
        }
    }
}
