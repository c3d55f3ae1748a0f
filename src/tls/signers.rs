//! Threads that begin sessions whose certificate has a slow key, so that no core is held up.
//!
//! The signature is made while the ClientHello is taken in: so that, and that alone, is done here. The
//! threads are started by the control plane when it first reads such a key, and are not bound to a
//! core.

use std::{sync::OnceLock, thread};

use crossbeam_channel::{Sender, bounded};

use super::{Failure, Session};
use crate::base::limits;

/// A session that has taken in what had arrived.
pub struct Begun {
    /// The session.
    pub session: Session,
    /// What of the input is not used up.
    pub input: Vec<u8>,
    /// Plaintext that came with it.
    pub plain: Vec<u8>,
    /// Whether it can go on.
    pub result: Result<(), Failure>,
}

struct Job {
    session: Session,
    input: Vec<u8>,
    done: Box<dyn FnOnce(Begun) + Send>,
}

static JOBS: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts the threads, once.
pub fn start() {
    JOBS.get_or_init(|| {
        let (sender, jobs) = bounded::<Job>(limits::TLS_SIGNING_WAITING_MAX);
        for number in 0..limits::TLS_SIGNERS {
            let jobs = jobs.clone();
            let run = move || {
                for Job { mut session, mut input, done } in jobs {
                    let mut plain = Vec::new();
                    let result =
                        session.receive(&mut input, &mut |bytes| plain.extend_from_slice(bytes));
                    let result = result.map(|used| drop(input.drain(..used)));
                    done(Begun { session, input, plain, result });
                }
            };
            // With fewer threads it is slower; with none, jobs are refused when too many wait.
            let _ = thread::Builder::new().name(format!("ringway-sign-{number}")).spawn(run);
        }
        sender
    });
}

/// Lets a session take in its first bytes elsewhere; `done` is called there. Whether there was room.
pub fn begin(session: Session, input: Vec<u8>, done: Box<dyn FnOnce(Begun) + Send>) -> bool {
    JOBS.get().is_some_and(|jobs| jobs.try_send(Job { session, input, done }).is_ok())
}
