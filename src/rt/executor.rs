//! The tasks of one core: a run queue, first in, first out, and wakers that count without atomics.
//!
//! A task is one allocation: a header, then its future. It is held once by the list of all tasks
//! until it ends, once by the queue while it waits there, and once by each of its wakers. All of
//! that happens on one thread. A waker that another thread uses panics there with a clear message
//! and touches nothing; what other threads may do to a core is to ring its mailbox.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use slab::Slab;

use super::core;

/// Tasks polled before the kernel is asked for completions again. Large, because each question is
/// a system call; bounded, so that no crowd of tasks that wake each other keeps timers waiting.
const TURN_TASKS_MAX: usize = 1024;

/// With so many tasks the memory of each has left the cache since its last turn: a request over HTTP/2 works with 12
/// KiB, and a core has 1 or 2 MiB of its own.
const MANY_TASKS: usize = 128;

thread_local! {
    /// The number of this thread, 0 before its first loop. Never used twice in a process.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// The number of the calling thread, given on the first call.
fn number_this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if THREAD.get() == 0 {
        THREAD.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    }
    THREAD.get()
}

/// What all tasks have in front.
#[repr(C)]
struct Header {
    thread: u64,
    holders: Cell<usize>,
    key: Cell<usize>, // in `Executor::tasks`
    is_queued: Cell<bool>,
    is_done: Cell<bool>,
    /// Where else the task has what it works with, and how many bytes.
    elsewhere: Cell<*const u8>,
    elsewhere_bytes: Cell<usize>,
    kind: &'static Kind,
}

/// What is known of a task's future when only its header is at hand.
struct Kind {
    /// The size of the task.
    bytes: usize,
    /// Polls the future; true when it has ended. The caller then drops it.
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    /// Drops the future in place.
    drop_future: unsafe fn(NonNull<Header>),
    /// Frees the memory. The future is gone by then.
    free: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Task<F> {
    header: Header, // first: a pointer to the task is a pointer to it
    future: UnsafeCell<ManuallyDrop<F>>,
}

impl<F: Future<Output = ()> + 'static> Task<F> {
    const KIND: Kind = Kind {
        bytes: size_of::<Self>(),
        poll: Self::poll,
        drop_future: Self::drop_future,
        free: Self::free,
    };

    unsafe fn poll(task: NonNull<Header>, cx: &mut Context<'_>) -> bool {
        // WHY UNSAFE: the type of the future was erased, so that one queue holds all tasks.
        // SAFETY:
        // - type: this function is only reached through the header of a `Task<F>`;
        // - alive: only tasks that are not done are polled, and the caller holds this one;
        // - exclusive: a task is polled by `Executor::run` only, which is not entered twice;
        // - pinned: the future never leaves its allocation.
        let future = unsafe { &mut *task.cast::<Self>().as_ref().future.get() };
        // SAFETY: as above.
        unsafe { std::pin::Pin::new_unchecked(&mut **future) }.poll(cx).is_ready()
    }

    unsafe fn drop_future(task: NonNull<Header>) {
        // WHY UNSAFE, SAFETY: as in `poll`; the caller marked the task as done, once.
        unsafe { ManuallyDrop::drop(&mut *task.cast::<Self>().as_ref().future.get()) };
    }

    unsafe fn free(task: NonNull<Header>) {
        // WHY UNSAFE: the counterpart of `Box::into_raw` in `new_task`.
        // SAFETY: the last holder is gone, and the future was dropped when the task was done.
        drop(unsafe { Box::from_raw(task.cast::<Self>().as_ptr()) });
    }
}

/// One more or one fewer holder of a task; frees it after the last.
struct Held(NonNull<Header>);

impl Held {
    fn header(&self) -> &Header {
        // WHY UNSAFE: a counted pointer of our own, as `Rc` needs its own two words per task.
        // SAFETY: the task lives while anybody holds it, and `self` does.
        unsafe { self.0.as_ref() }
    }

    /// Has the memory of the task on its way into the cache: it is polled next.
    fn fetch(&self) {
        let header = self.header();
        super::sys::prefetch(self.0.as_ptr().cast(), header.kind.bytes);
        super::sys::prefetch(header.elsewhere.get(), header.elsewhere_bytes.get());
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        let holders = &self.header().holders;
        holders.set(holders.get() + 1);
        Self(self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let holders = &self.header().holders;
        holders.set(holders.get() - 1);
        if holders.get() == 0 {
            // WHY UNSAFE, SAFETY: see `Task::free`; nobody holds it any more. The list of tasks
            // holds every task until it is done, so its future is gone.
            unsafe { (self.header().kind.free)(self.0) };
        }
    }
}

fn new_task<F: Future<Output = ()> + 'static>(future: F) -> Held {
    let header = Header {
        thread: number_this_thread(),
        holders: Cell::new(1),
        key: Cell::new(0),
        is_queued: Cell::new(false),
        is_done: Cell::new(false),
        elsewhere: Cell::new(std::ptr::null()),
        elsewhere_bytes: Cell::new(0),
        kind: &Task::<F>::KIND,
    };
    let task = Box::new(Task { header, future: UnsafeCell::new(ManuallyDrop::new(future)) });
    Held(NonNull::from(Box::leak(task)).cast())
}

/// The tasks of one loop.
pub(super) struct Executor {
    queue: RefCell<VecDeque<Held>>,
    tasks: RefCell<Slab<Held>>,
    main: Held,
}

impl Executor {
    pub(super) fn new() -> Self {
        let main = new_task(async {}); // a header to be woken by; what it stands for is elsewhere
        Self { queue: RefCell::default(), tasks: RefCell::default(), main }
    }

    /// Adds a task, which is polled for the first time in its turn.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = new_task(future);
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        task.header().key.set(entry.key());
        entry.insert(task.clone());
        drop(tasks);
        self.enqueue(task);
    }

    /// Whether nobody waits to be polled.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// How many wait to be polled.
    pub(super) fn ready_count(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Wakes what `poll_main` of [`Executor::run`] stands for.
    pub(super) fn wake_main(&self) {
        self.enqueue(self.main.clone());
    }

    /// Polls the tasks that are ready now, each once; those that become ready meanwhile wait for the
    /// next call. `poll_main` is polled when its own waker was called; true ends this.
    pub(super) fn run(&self, mut poll_main: impl FnMut(&mut Context<'_>) -> bool) -> bool {
        let ready = self.queue.borrow().len().min(TURN_TASKS_MAX);
        let are_many = self.tasks.borrow().len() >= MANY_TASKS;
        for _ in 0..ready {
            let Some(task) = self.queue.borrow_mut().pop_front() else { break };
            let header = task.header();
            header.is_queued.set(false);
            if header.is_done.get() {
                continue;
            }
            if are_many && let Some(next) = self.queue.borrow().front() {
                next.fetch();
            }
            // Lent, not counted: a task that is only polled touches no counter.
            let waker = ManuallyDrop::new(waker_of(task.0));
            let mut cx = Context::from_waker(&waker);
            if task.0 == self.main.0 {
                if poll_main(&mut cx) {
                    return true;
                }
                continue;
            }
            // WHY UNSAFE, SAFETY: see `Task::poll`; the task is not done, and held by `task`.
            if unsafe { (header.kind.poll)(task.0, &mut cx) } {
                self.finish(&task);
            }
        }
        false
    }

    fn finish(&self, task: &Held) {
        let header = task.header();
        header.is_done.set(true);
        let listed = self.tasks.borrow_mut().remove(header.key.get());
        // WHY UNSAFE, SAFETY: see `Task::drop_future`; it was not done until now.
        unsafe { (header.kind.drop_future)(task.0) };
        drop(listed);
    }

    /// Drops all tasks, those included that their destructors spawn.
    pub(super) fn drop_all(&self) {
        loop {
            let first = self.tasks.borrow().iter().next().map(|(_, task)| task.clone());
            let Some(task) = first else { break };
            self.finish(&task);
        }
        let queued = self.queue.take();
        drop(queued); // after the borrow
    }

    fn enqueue(&self, task: Held) {
        if !task.header().is_queued.replace(true) {
            self.queue.borrow_mut().push_back(task);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // The list holds what is not done, and nobody else drops futures: see `Held::drop`.
        self.drop_all();
        let main = self.main.header();
        if !main.is_done.replace(true) {
            // WHY UNSAFE, SAFETY: see `Task::drop_future`; it is never polled.
            unsafe { (main.kind.drop_future)(self.main.0) };
        }
    }
}

/// Notes where the task of a waker has memory that it will need when it is polled the next time. That may be gone by
/// then.
pub(super) fn note_elsewhere(waker: &Waker, start: *const u8, bytes: usize) {
    if !std::ptr::eq(waker.vtable(), &WAKER) || !is_on_its_thread(waker.data()) {
        return;
    }
    // WHY UNSAFE: what is behind a waker can't be had otherwise.
    // SAFETY: its table says that it is one of ours, which holds its task, and that is one of this thread.
    let header = unsafe { &*waker.data().cast::<Header>() };
    header.elsewhere.set(start);
    header.elsewhere_bytes.set(bytes);
}

static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

fn waker_of(task: NonNull<Header>) -> Waker {
    // WHY UNSAFE: `std::task::Wake` needs an `Arc`: an atomic operation per wait and per wake.
    // SAFETY: the functions of `WAKER` keep the contract of `RawWaker` on the thread of the task
    // and do nothing but panic on others, which makes the waker `Send` and `Sync` in effect:
    // `thread` is written once, before there is a waker, and is all that is read there.
    unsafe { Waker::from_raw(RawWaker::new(task.as_ptr().cast(), &WAKER)) }
}

/// The task of a waker, on its own thread.
///
/// # Panics
/// On any other.
fn on_its_thread(data: *const ()) -> NonNull<Header> {
    assert!(
        is_on_its_thread(data),
        "a task of a core was woken by another thread; send to its rt::mailbox instead"
    );
    // WHY UNSAFE: `data` is the pointer `waker_of` made the waker from.
    // SAFETY: so it is not null.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

fn is_on_its_thread(data: *const ()) -> bool {
    let task = data.cast::<Header>();
    // WHY UNSAFE: reads one field through a pointer that other threads may have as well.
    // SAFETY: a waker holds its task, so the header lives; the field never changes.
    let thread = unsafe { (&raw const (*task).thread).read() };
    thread == THREAD.get()
}

unsafe fn clone(data: *const ()) -> RawWaker {
    let held = ManuallyDrop::new(Held(on_its_thread(data)));
    std::mem::forget(Held::clone(&held));
    RawWaker::new(data, &WAKER)
}

unsafe fn wake(data: *const ()) {
    wake_task(Held(on_its_thread(data)));
}

unsafe fn wake_by_ref(data: *const ()) {
    let held = ManuallyDrop::new(Held(on_its_thread(data)));
    if !held.header().is_queued.get() {
        wake_task(Held::clone(&held));
    }
}

unsafe fn drop_waker(data: *const ()) {
    if std::thread::panicking() && !is_on_its_thread(data) {
        return; // it panicked over this already; a second one would abort. Leaks the task's memory
    }
    drop(Held(on_its_thread(data)));
}

fn wake_task(task: Held) {
    if task.header().is_done.get() {
        return;
    }
    core::with(|core| core.executor.enqueue(task));
}

/// Waits until all tasks that are ready now have had their turn, and the kernel was asked for
/// completions.
pub(super) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{RuntimeSettings, run, sleep};
    use std::rc::Rc;
    use std::time::Duration;

    fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
        run(RuntimeSettings { ring_entries: 256, ..RuntimeSettings::default() }, f).expect("a ring")
    }

    fn spawn(future: impl Future<Output = ()> + 'static) {
        core::with(|core| core.executor.spawn(future)).expect("a loop");
    }

    #[test]
    fn tasks_run_in_the_order_they_were_woken() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&order);
        on_core(|| async move {
            for name in 0..5 {
                let seen = Rc::clone(&seen);
                spawn(async move {
                    for round in 0..3 {
                        seen.borrow_mut().push((round, name));
                        yield_now().await;
                    }
                });
            }
            sleep(Duration::from_millis(5)).await;
        });
        let expected: Vec<_> = (0..3).flat_map(|round| (0..5).map(move |n| (round, n))).collect();
        assert_eq!(*order.borrow(), expected);
    }

    #[test]
    fn a_foreign_wake_panics_there_and_harms_nobody() {
        on_core(|| async {
            let slot: Rc<RefCell<Option<Waker>>> = Rc::default();
            let kept = Rc::clone(&slot);
            spawn(std::future::poll_fn(move |cx| {
                *kept.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }));
            yield_now().await;
            let waker = slot.borrow_mut().take().expect("it was polled");
            let back = std::thread::scope(|scope| {
                let foreign = scope.spawn(|| {
                    let by_ref = std::panic::catch_unwind(|| waker.wake_by_ref());
                    let cloned = std::panic::catch_unwind(|| waker.clone());
                    (by_ref.is_err(), cloned.is_err())
                });
                foreign.join().expect("both panics were caught")
            });
            assert_eq!(back, (true, true));
            waker.wake(); // and here it works
            yield_now().await;
        });
    }

    #[test]
    fn what_tasks_hold_is_dropped_with_the_loop_and_late_wakes_do_nothing() {
        let held = Rc::new(());
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let (inside, kept) = (Rc::clone(&held), Rc::clone(&wakers));
        on_core(|| async move {
            for _ in 0..3 {
                let (inside, kept) = (Rc::clone(&inside), Rc::clone(&kept));
                spawn(std::future::poll_fn(move |cx| {
                    let _ = &inside;
                    kept.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }));
            }
            yield_now().await;
            drop((inside, kept));
        });
        assert_eq!(Rc::strong_count(&held), 1);
        for waker in wakers.take() {
            waker.wake_by_ref();
            waker.wake();
        }
    }
}
