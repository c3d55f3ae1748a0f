//! The queue of changes: what waits, what is being prepared, what is being kept on the disk.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    controlplane::{
        changes::{Applied, Edit, Order, Orders, Refused, Why, leaving},
        log,
    },
    rt,
    server::{
        prepare::{self, Done, Kept, Outcome, Preparer, Step},
        reader::Reader,
    },
};

/// After how long without a change the memory of the last one is given back.
const QUIET: Duration = Duration::from_secs(1);

/// Changes on their way.
pub(super) struct Changing {
    orders: Orders,
    preparer: Arc<Mutex<Preparer>>,
    reader: Reader,
    waiting: VecDeque<Order>,
    /// How many of the first orders are tried alone, because together they were refused.
    alone: usize,
    preparing: Option<mpsc::Receiver<Step>>,
    /// When the last batch was prepared, until its memory is given back.
    prepared_at: Option<Instant>,
    /// On its way to the cores, not yet kept: who waits for that, and what they are told then.
    keeping: Option<(Vec<Order>, Applied)>,
}

/// What the control loop has to do next about changes.
pub(super) enum Event {
    /// Something was submitted; [`Changing::start`] may have something to start.
    Submitted,
    /// A batch is prepared.
    Done(Done),
    /// What became of keeping one that is on its way to the cores.
    Kept(Kept),
}

impl Changing {
    pub(super) fn new(preparer: Preparer, orders: Orders) -> Self {
        Self {
            orders,
            reader: preparer.reader.clone(),
            preparer: Arc::new(Mutex::new(preparer)),
            waiting: VecDeque::new(),
            alone: 0,
            preparing: None,
            prepared_at: Some(Instant::now()), // the start was one
            keeping: None,
        }
    }

    /// Waits for something to do.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken that is not returned or kept.
    pub(super) async fn next(&mut self) -> Event {
        let step = async {
            match &mut self.preparing {
                Some(preparing) => preparing.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(order) = self.orders.recv() => {
                self.waiting.push_back(order);
                while let Ok(order) = self.orders.try_recv() {
                    self.waiting.push_back(order);
                }
                Event::Submitted
            }
            step = step => {
                let event = match step {
                    Some(Step::Done(done)) => Event::Done(done),
                    Some(Step::Kept(kept)) => Event::Kept(kept),
                    None => Event::Done(defect()),
                };
                let is_last = !matches!(&event, Event::Done(done) if done.is_to_be_kept());
                if is_last {
                    self.preparing = None;
                    self.prepared_at = Some(Instant::now());
                }
                event
            }
        }
    }

    /// Starts to prepare what waits, unless something is being prepared.
    pub(super) fn start(&mut self) {
        if self.is_preparing() || self.waiting.is_empty() {
            return;
        }
        let orders = self.next_batch();
        if orders.iter().any(|order| matches!(order.change.edit, Edit::Reread)) {
            log::info(format_args!("reading the configuration again"));
        }
        match prepare::start(&self.preparer, orders) {
            Ok(preparing) => self.preparing = Some(preparing),
            // The orders went with the thread that did not start: whoever waits is told by that.
            Err(error) => log::error(format_args!("a change was refused: {}", no_thread(&error))),
        }
    }

    /// The thread that reads, and lets go of what was read.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Gives memory back when no change has come for a while. For every now and then.
    pub(super) fn tidy(&mut self) {
        let is_due = |at: &mut Instant| at.elapsed() >= QUIET && self.preparing.is_none();
        if self.prepared_at.take_if(is_due).is_some() {
            self.reader.tidy();
            rt::memory::give_back(); // of this thread: what the Admin API read and answered
            rt::memory::give_back_program();
        }
    }

    /// Orders that go together: a dry run is alone, and so are those that failed together.
    fn next_batch(&mut self) -> Vec<Order> {
        let is_dry = |order: &Order| order.change.dry_run;
        let count = match self.waiting.iter().position(is_dry) {
            _ if self.alone > 0 => 1,
            Some(0) => 1,
            Some(first) => first,
            None => self.waiting.len(),
        };
        self.alone = self.alone.saturating_sub(1);
        self.waiting.drain(..count).collect()
    }

    /// Puts a batch that was refused back, to be tried one by one.
    pub(super) fn try_alone(&mut self, orders: Vec<Order>) {
        self.alone += orders.len();
        for order in orders.into_iter().rev() {
            self.waiting.push_front(order);
        }
    }

    pub(super) fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    /// Notes a batch that is on its way to the cores; answers those who wait for it, if it is kept.
    pub(super) fn accept(&mut self, orders: Vec<Order>, applied: Applied, is_kept: bool) {
        self.keeping = Some((orders, applied));
        if is_kept {
            self.kept();
        }
    }

    /// Answers those who waited for their rules to be kept.
    pub(super) fn kept(&mut self) {
        let Some((orders, applied)) = self.keeping.take() else { return };
        for order in orders {
            order.answer(Ok(applied.clone()));
        }
    }

    /// Those whose rules could not be kept, to be told why.
    pub(super) fn not_kept(&mut self) -> Vec<Order> {
        self.keeping.take().map_or_else(Vec::new, |(orders, _)| orders)
    }

    /// Takes no more changes; refuses those that wait.
    pub(super) fn close(&mut self) {
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            self.waiting.push_back(order);
        }
        for order in std::mem::take(&mut self.waiting).into_iter().chain(self.not_kept()) {
            order.answer(Err(leaving()));
        }
    }
}

/// The thread that prepared a batch panicked: its orders went with it.
fn defect() -> Done {
    let refused = Refused::because(
        Why::Machine,
        "",
        "a defect of ringway ended the thread that prepared a change",
        "please report it with the lines above",
    );
    Done { orders: Vec::new(), outcome: Outcome::Refused(refused) }
}

fn no_thread(error: &io::Error) -> String {
    format!("no thread to prepare it: {error}; raise `ulimit -u` (TasksMax= in systemd)")
}
