//! Pipes for splice(2), pooled per core.
//!
//! A pipe is reused only when it is empty: one that still holds a client's bytes is closed, so that
//! they can never reach another client.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::sys;

/// The pipes of one core, bounded in number, opened when first needed, reused last in, first out.
/// Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct PipePool {
    shared: Rc<Shared>,
}

struct Shared {
    pipe_bytes: usize,
    count_max: usize,
    open: Cell<usize>, // idle and in use
    idle: RefCell<Vec<Ends>>,
}

pub(super) struct Ends {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) bytes_max: usize,
}

impl PipePool {
    /// A pool of at most `count_max` pipes of `pipe_bytes` bytes each, or less if the kernel grants
    /// less (`fs.pipe-user-pages-soft`). Opens nothing yet.
    pub fn new(count_max: usize, pipe_bytes: usize) -> Self {
        let idle = RefCell::new(Vec::with_capacity(count_max));
        Self { shared: Rc::new(Shared { pipe_bytes, count_max, open: Cell::new(0), idle }) }
    }

    /// An empty pipe. `None` when all are in use or no descriptor is left: copy instead.
    pub fn take(&self) -> Option<Pipe> {
        let shared = &self.shared;
        let idle = shared.idle.borrow_mut().pop();
        let ends = match idle {
            Some(ends) => ends,
            None if shared.open.get() < shared.count_max => {
                let (read, write, bytes_max) = sys::pipe(shared.pipe_bytes).ok()?;
                shared.open.set(shared.open.get() + 1);
                Ends { read, write, bytes_max }
            }
            None => return None,
        };
        Some(Pipe { ends: Some(ends), held: 0, home: Rc::clone(shared) })
    }

    /// (pipes in use, pipes waiting to be used).
    pub fn counts(&self) -> (usize, usize) {
        let idle = self.shared.idle.borrow().len();
        (self.shared.open.get() - idle, idle)
    }
}

/// A pipe on loan. Goes back to its pool when dropped empty, is closed otherwise.
pub struct Pipe {
    ends: Option<Ends>, // `None` only while it is being dropped
    held: usize,        // bytes in it
    home: Rc<Shared>,
}

impl Pipe {
    /// Bytes in the pipe: taken from the source, not given to the target yet.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The two ends. `None` never happens while the pipe lives.
    pub(super) fn ends(&self) -> Option<&Ends> {
        self.ends.as_ref()
    }

    pub(super) fn set_held(&mut self, held: usize) {
        self.held = held;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        match self.ends.take() {
            Some(ends) if self.held == 0 => self.home.idle.borrow_mut().push(ends),
            _ => self.home.open.set(self.home.open.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_empty_pipes_return() {
        let pool = PipePool::new(1, 64 * 1024);
        let mut pipe = pool.take().unwrap();
        assert!(pool.take().is_none(), "the pool is bounded");
        assert_eq!(pool.counts(), (1, 0));
        let written = {
            let ends = pipe.ends().unwrap();
            std::fs::File::from(ends.write.try_clone().unwrap()).write(b"secret").unwrap()
        };
        pipe.set_held(written);
        drop(pipe);
        assert_eq!(pool.counts(), (0, 0), "closed, not pooled");
        drop(pool.take().unwrap());
        assert_eq!(pool.counts(), (0, 1));
        assert!(pool.take().is_some());
    }
}
