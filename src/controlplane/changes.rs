//! The door by which every change of the rules comes in: the file watch, SIGHUP and the Admin API all
//! [`Changes::submit`] here, and `server` takes the orders out one batch at a time.
//!
//! An [`Edit`] runs on the thread that prepares changes, one after the other, on the rules that are
//! in force then: what it reads in [`Current`] cannot change before its own result is in force, so
//! If-Match is checked inside it. What follows (read, check, compile, bind, save, send) is the same
//! for all; whatever fails there refuses the change as a whole and leaves everything as it was.
//!
//! Orders that wait together are applied together, as one version, as far as they can be: if a batch
//! is refused its orders are tried one by one, so an edit may be called more than once and must not
//! have effects of its own.

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::{mpsc, oneshot};

use crate::{
    base::limits::CHANGES_WAITING_MAX,
    controlplane::{
        config::{ConfigErrors, Problem, Severity, overlay::Overlay},
        dns::Names,
    },
    snapshot::{Snapshot, Upstream},
};

/// A wish for other rules.
pub struct Change {
    /// Who wants it, for messages and `/v1/status`: `SIGHUP`, `admin API`.
    pub from: Box<str>,
    /// What is wanted.
    pub edit: Edit,
    /// Only find out whether it would be accepted; nothing is bound for good, saved or sent.
    pub dry_run: bool,
}

/// What a change does.
pub enum Edit {
    /// Reads the files again.
    Reread,
    /// Reads the files again if they are not those that were read (or refused) last.
    RereadIfChanged,
    /// Changes what the Admin API has said. May be called more than once; see above.
    With(EditFn),
}

/// From what is in force to what shall be.
pub type EditFn = Box<dyn Fn(&Current<'_>) -> Result<Plan, Refused> + Send>;

/// What an edit finds.
pub struct Current<'a> {
    /// The rules in force. Of orders before this one that are not, changed upstreams show here, and
    /// everything in `overlay`.
    pub snapshot: &'a Arc<Snapshot>,
    /// What the Admin API has said so far.
    pub overlay: &'a Arc<Overlay>,
    /// What names of endpoints stand for.
    pub names: &'a Arc<Names>,
}

/// What an edit wants.
pub struct Plan {
    /// What the Admin API has said from now on; kept on the disk before anybody is told so.
    pub overlay: Arc<Overlay>,
    /// How the rules follow from it.
    pub effect: Effect,
}

/// How new rules are made.
pub enum Effect {
    /// The files and the overlay are read and compiled.
    Recompile,
    /// These upstreams replace those of the same name, everything else stays: the quick way for
    /// endpoints, whose cost does not depend on the number of routes. Compiling the overlay must
    /// yield the same. A name that is not in force makes it a [`Effect::Recompile`].
    Upstreams(Vec<Upstream>),
}

/// A change that was accepted.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The version it has, or would have had.
    pub version: u64,
    /// What looks odd.
    pub warnings: Vec<Problem>,
}

/// A change that was not: everything is as it was.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Whose fault it is.
    pub why: Why,
    /// At least one error, warnings among them.
    pub problems: Vec<Problem>,
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The configuration would not be valid.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// Somebody else owns it, or was faster.
    Conflict,
    /// If-Match names another state.
    Precondition,
    /// The machine does not allow it: a busy port, a file that cannot be written.
    Machine,
    /// The process is ending, or hands over to its successor.
    Leaving,
    /// Too many changes wait.
    Busy,
}

impl Refused {
    /// One reason that has no place in a file.
    pub fn because(why: Why, key: &str, message: impl Into<Box<str>>, hint: &str) -> Self {
        let problem = Problem {
            file: "".into(),
            line: 0,
            column: 0,
            key: key.into(),
            message: message.into(),
            hint: hint.into(),
            severity: Severity::Error,
        };
        Self { why, problems: vec![problem] }
    }
}

impl From<ConfigErrors> for Refused {
    fn from(errors: ConfigErrors) -> Self {
        Self { why: Why::Invalid, problems: errors.0 }
    }
}

impl fmt::Display for Refused {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            match (&*problem.file, &*problem.key) {
                ("", "") => write!(f, "{}; {}", problem.message, problem.hint)?,
                ("", key) => write!(f, "{key}: {}; {}", problem.message, problem.hint)?,
                _ => write!(f, "{problem}")?,
            }
        }
        Ok(())
    }
}

/// A change on its way, with the one who waits for the answer.
pub struct Order {
    /// What is wanted.
    pub change: Change,
    /// When it came.
    pub received: Instant,
    answer: oneshot::Sender<Result<Applied, Refused>>,
}

impl Order {
    fn new(change: Change) -> (Self, oneshot::Receiver<Result<Applied, Refused>>) {
        let (answer, answered) = oneshot::channel();
        (Self { change, received: Instant::now(), answer }, answered)
    }

    /// Tells whoever waits; nobody may.
    pub fn answer(self, result: Result<Applied, Refused>) {
        let _ = self.answer.send(result);
    }
}

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Changes {
    orders: mpsc::Sender<Order>,
}

/// The receiving side, for `server`.
pub type Orders = mpsc::Receiver<Order>;

impl Changes {
    /// Makes both ends.
    pub fn new() -> (Self, Orders) {
        let (orders, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        (Self { orders }, receiver)
    }

    /// Submits a change and waits for what becomes of it: the answer comes when it can no longer be
    /// refused, kept on the disk and on its way to the cores.
    ///
    /// # Errors
    /// Why the rules stay as they are.
    ///
    /// # Cancel safety
    /// A change that was submitted goes its way whether or not somebody waits for the answer.
    pub async fn submit(&self, change: Change) -> Result<Applied, Refused> {
        let (order, answered) = Order::new(change);
        match self.orders.try_send(order) {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(leaving())),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refused::because(
                Why::Busy,
                "",
                format!("{CHANGES_WAITING_MAX} changes wait already"),
                "try again in a second",
            )),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(leaving()),
        }
    }

    /// Submits a change nobody waits for. Whether there was room for it.
    pub fn post(&self, change: Change) -> bool {
        self.orders.try_send(Order::new(change).0).is_ok()
    }
}

/// The answer when nobody takes changes any more.
pub fn leaving() -> Refused {
    let hint = "its successor takes changes as soon as it is ready";
    Refused::because(Why::Leaving, "", "this process is ending", hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        Change { from: "test".into(), edit: Edit::Reread, dry_run: false }
    }

    #[tokio::test]
    async fn a_change_is_answered_by_whoever_takes_it() {
        let (changes, mut orders) = Changes::new();
        let taken = async {
            let order = orders.recv().await.expect("an order");
            order.answer(Ok(Applied { version: 7, warnings: Vec::new() }));
        };
        let (result, ()) = tokio::join!(changes.submit(change()), taken);
        assert_eq!(result.expect("accepted").version, 7);
    }

    #[tokio::test]
    async fn too_many_and_too_late_are_refused() {
        let (changes, orders) = Changes::new();
        for _ in 0..CHANGES_WAITING_MAX {
            assert!(changes.post(change()));
        }
        assert_eq!(changes.submit(change()).await.expect_err("full").why, Why::Busy);
        drop(orders);
        let refused = changes.submit(change()).await.expect_err("closed");
        assert_eq!(refused.why, Why::Leaving);
        assert!(refused.to_string().starts_with("this process is ending; "), "{refused}");
    }
}
