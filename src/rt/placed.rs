//! Futures in recycled memory, so that a task stays small while it waits.
//!
//! A task is as large as the largest thing it ever awaits. A connection waits for requests most of
//! its life and needs a hundred bytes for that; serving one needs some kilobytes. So the serving
//! future is put into a block that goes back to its core's pool when the request is over: an idle
//! connection holds none, and a busy core allocates none.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::{Cell, RefCell},
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    rc::Rc,
    task::{Context, Poll},
};

use super::executor;

/// Blocks for futures of one type, last in, first out. Cloning gives another handle.
#[derive(Clone)]
pub struct FuturePool {
    shared: Rc<Shared>,
}

struct Shared {
    kept_max: usize,
    /// The layout of the blocks in `free`: that of the first future ever placed.
    layout: Cell<Option<Layout>>,
    free: RefCell<Vec<NonNull<u8>>>,
}

impl FuturePool {
    /// A pool that keeps at most `kept_max` unused blocks. Allocates nothing yet.
    pub fn new(kept_max: usize) -> Self {
        let shared = Shared { kept_max, layout: Cell::new(None), free: RefCell::default() };
        Self { shared: Rc::new(shared) }
    }

    /// Puts the future that `make` returns into a block. Allocates only when none waits, or when
    /// the future is of another type than the first one placed.
    pub fn place<F: Future>(&self, make: impl FnOnce() -> F) -> Placed<F> {
        let layout = Layout::new::<F>();
        let memory = self.shared.take(layout).cast::<F>();
        // WHY UNSAFE: `Box::new` allocates per request what the pool has lying ready.
        // SAFETY: `memory` is a block of the layout of `F` that nobody else holds. Should `make`
        // panic, the block leaks, which is safe.
        unsafe { memory.write(make()) };
        Placed { memory, pool: Rc::clone(&self.shared), owns: PhantomData }
    }

    /// Unused blocks.
    pub fn free_count(&self) -> usize {
        self.shared.free.borrow().len()
    }
}

impl Shared {
    fn take(&self, layout: Layout) -> NonNull<u8> {
        assert!(layout.size() > 0, "a future that awaits something has a size");
        let known = self.layout.get().unwrap_or_else(|| {
            self.layout.set(Some(layout));
            layout
        });
        if known == layout
            && let Some(block) = self.free.borrow_mut().pop()
        {
            return block;
        }
        // WHY UNSAFE: memory without a type is only to be had so.
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }

    fn give(&self, block: NonNull<u8>, layout: Layout) {
        let mut free = self.free.borrow_mut();
        if self.layout.get() == Some(layout) && free.len() < self.kept_max {
            free.push(block);
            return;
        }
        // WHY UNSAFE: the counterpart of `alloc` in `take`.
        // SAFETY: the block came from `alloc` with this layout, and is given up here.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(layout) = self.layout.get() else { return };
        for block in self.free.get_mut().drain(..) {
            // WHY UNSAFE, SAFETY: as in `give`; blocks in `free` have the layout of the pool.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
    }
}

/// A future in a block of a [`FuturePool`]; the block goes back when this is dropped.
pub struct Placed<F> {
    memory: NonNull<F>,
    pool: Rc<Shared>,
    owns: PhantomData<F>,
}

impl<F> Unpin for Placed<F> {}

impl<F: Future> Future for Placed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        executor::note_elsewhere(cx.waker(), self.memory.as_ptr().cast(), size_of::<F>());
        // WHY UNSAFE: pinning what a pointer of our own points to.
        // SAFETY: the future was written by `place`, lives until `drop`, is reachable only through
        // `self`, and its block does not move however `self` does.
        unsafe { Pin::new_unchecked(self.memory.as_mut()) }.poll(cx)
    }
}

impl<F> Drop for Placed<F> {
    fn drop(&mut self) {
        // WHY UNSAFE: the block outlives the future in it.
        // SAFETY: the future is there (see `poll`) and is not used after this line. Should its drop
        // panic, the block leaks, which is safe.
        unsafe { self.memory.drop_in_place() };
        self.pool.give(self.memory.cast(), Layout::new::<F>());
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, pin::pin, task::Waker};

    use super::*;

    fn finish<F: Future>(future: F) -> F::Output {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(future).poll(&mut cx) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    async fn wide(value: u64) -> u64 {
        let many = [value; 100];
        ready(()).await;
        many.iter().sum()
    }

    #[test]
    fn a_block_is_used_again() {
        let pool = FuturePool::new(1);
        let (one, two) = (pool.place(|| wide(1)), pool.place(|| wide(2)));
        let address = one.memory;
        assert_eq!(finish(one), 100);
        assert_eq!(pool.free_count(), 1);
        assert_eq!(finish(two), 200);
        assert_eq!(pool.free_count(), 1, "no more than asked for are kept");
        assert_eq!(pool.place(|| wide(3)).memory, address);
    }

    #[test]
    fn another_type_is_served_too() {
        let pool = FuturePool::new(4);
        assert_eq!(finish(pool.place(|| wide(1))), 100);
        assert_eq!(finish(pool.place(|| async { ready(7).await })), 7);
        assert_eq!(pool.free_count(), 1, "blocks of another size are not kept");
    }

    #[test]
    fn what_a_dropped_future_holds_is_dropped() {
        let pool = FuturePool::new(4);
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        drop(pool.place(|| async move {
            ready(()).await;
            drop(inside);
        }));
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
