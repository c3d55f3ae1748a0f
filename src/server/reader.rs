//! The thread that reads configurations, for the life of the process.
//!
//! Most of what a reading yields lives until a later one replaces it, piece by piece, and the
//! allocator gives each thread pages of its own. On one thread the next reading fills the holes that
//! the last ones left; with a thread for each, every one of them would leave pages behind that are
//! nearly empty.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, mpsc},
    thread,
};

use crate::{base::pace, controlplane::dns::Names, rt};

type Job = Box<dyn FnOnce() + Send>;

/// The way to that thread.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    jobs: mpsc::Sender<Job>,
    /// What names of endpoints stand for, for whatever is compiled there.
    pub(super) names: Arc<Names>,
}

impl Reader {
    /// Starts the thread; it ends with the last of its handles.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel::<Job>();
        thread::Builder::new().name("ringway-read".into()).spawn(move || {
            rt::memory::map_large_blocks();
            for job in receiver {
                pace::begin();
                job();
            }
        })?;
        Ok(Self { jobs, names: Arc::default() })
    }

    /// Runs something there and waits for it. It panics here if it does there.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        let job = move || {
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        };
        let sent = self.jobs.send(Box::new(job));
        let result = sent.ok().and_then(|()| result.recv().ok());
        match result {
            Some(Ok(value)) => value,
            Some(Err(panic)) => resume_unwind(panic),
            None => resume_unwind(Box::new("the thread that reads is gone")),
        }
    }

    /// Lets go of something large there, after what it was asked for before: it takes some 0.1 ms for each thousand
    /// routes, and gives the next reading its memory.
    pub(super) fn let_go(&self, work: impl FnOnce() + Send + 'static) {
        let job = move || {
            pace::long_step();
            work();
        };
        let _ = self.jobs.send(Box::new(job));
    }

    /// Gives memory back that readings left behind. Not after each one: where one follows the other,
    /// the next uses that memory, and a quarter of its time goes into having it anew.
    pub(super) fn tidy(&self) {
        let _ = self.jobs.send(Box::new(rt::memory::give_back));
    }

    /// From now on it takes no more of a processor than a worker leaves, and not for long at a time.
    pub(super) fn yield_to_workers(&self) {
        let _ = self.jobs.send(Box::new(|| {
            rt::service::yield_to_workers();
            pace::rest_between_pieces();
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_callers_and_the_thread_goes_on() {
        let reader = Reader::start().expect("a thread");
        let panicked = catch_unwind(AssertUnwindSafe(|| reader.run(|| panic!("a defect"))));
        assert!(panicked.is_err());
        assert_eq!(reader.run(|| 7), 7);
    }
}
