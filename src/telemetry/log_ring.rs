//! The way of access log lines from a core to the thread that writes them.
//!
//! A core fills a batch and hands it over without waiting; the writer hands the empty buffer back.
//! When all of a core's batches wait for the writer, further lines are dropped and counted: a slow
//! disk costs log lines, never traffic.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    base::limits::{LOG_BATCH_BYTES, LOG_BATCHES_MAX},
    telemetry::{
        access::{AccessLogFormat, AccessRecord, encode},
        core_stats::CoreStats,
    },
};

/// Lines of one core, on their way to the writer.
#[derive(Debug)]
pub struct Batch {
    /// Whole lines.
    pub bytes: Vec<u8>,
    /// How many.
    pub records: u64,
    /// Where the empty buffer goes.
    home: Sender<Vec<u8>>,
}

impl Batch {
    /// Gives the buffer back to its core. Never waits: the core is the only other user of the way
    /// back, and it has no more buffers than fit.
    pub fn recycle(mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * LOG_BATCH_BYTES); // one huge line must not keep its room for ever
        let _ = self.home.try_send(self.bytes);
    }
}

/// The writer's end: batches of all cores, in the order they were handed over.
pub type LogReceiver = Receiver<Batch>;

/// Makes one sender per core and the writer's end.
pub fn log_ring(cores: &[Arc<CoreStats>]) -> (Vec<LogSender>, LogReceiver) {
    let (full, receiver) = bounded(LOG_BATCHES_MAX * cores.len().max(1));
    let senders = cores.iter().map(|stats| LogSender::new(full.clone(), stats)).collect();
    (senders, receiver)
}

/// One core's end.
#[derive(Debug)]
pub struct LogSender {
    full: Sender<Batch>,
    home: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    buffers_made: usize,
    current: Option<Vec<u8>>,
    records: u64,
    stats: Arc<CoreStats>,
}

impl LogSender {
    fn new(full: Sender<Batch>, stats: &Arc<CoreStats>) -> Self {
        let (home, empty) = bounded(LOG_BATCHES_MAX);
        let stats = Arc::clone(stats);
        Self { full, home, empty, buffers_made: 0, current: None, records: 0, stats }
    }

    /// Adds one line to the batch; hands the batch over when it is full. Never waits.
    pub fn push(&mut self, record: &AccessRecord<'_>, format: AccessLogFormat) {
        if self.current.is_none() {
            self.current = self.take_buffer();
        }
        let Some(batch) = &mut self.current else {
            self.stats.access_log_dropped.inc();
            return;
        };
        encode(record, format, batch);
        self.records += 1;
        // Most lines have a few hundred bytes: stop before one makes the buffer grow.
        if batch.len() >= LOG_BATCH_BYTES - 1024 {
            self.flush();
        }
    }

    /// Hands over what there is, so that lines of a quiet core arrive too. For each tick. Where the
    /// writer is behind, lines go on gathering: a batch is better full then.
    pub fn tick(&mut self) {
        let mine = self.empty.len() + usize::from(self.current.is_some());
        if self.buffers_made - mine < LOG_BATCHES_MAX / 2 {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        if self.records == 0 {
            return;
        }
        let Some(bytes) = self.current.take() else { return };
        let records = std::mem::take(&mut self.records);
        let batch = Batch { bytes, records, home: self.home.clone() };
        if let Err(refused) = self.full.try_send(batch) {
            // Full, or the writer is gone: the lines are lost, the buffer is not.
            self.stats.access_log_dropped.add(records);
            let mut bytes = refused.into_inner().bytes;
            bytes.clear();
            self.current = Some(bytes);
        }
    }

    /// An empty buffer: one that came back, or a new one while the bound allows it.
    fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if let Ok(buffer) = self.empty.try_recv() {
            return Some(buffer);
        }
        if self.buffers_made == LOG_BATCHES_MAX {
            return None;
        }
        self.buffers_made += 1;
        Some(Vec::with_capacity(LOG_BATCH_BYTES))
    }
}

impl Drop for LogSender {
    /// A worker that ends leaves nothing behind in its batch.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access::tests::record;

    #[test]
    fn a_writer_that_is_behind_costs_a_quiet_core_no_line() {
        let (mut sender, receiver, stats) = one_core();
        for _ in 0..10 * LOG_BATCHES_MAX {
            sender.push(&record(), AccessLogFormat::Json);
            sender.tick();
        }
        assert_eq!(stats.access_log_dropped.get(), 0);
        drop(sender);
        let records: u64 = receiver.iter().map(|batch| batch.records).sum();
        assert_eq!(records, 10 * LOG_BATCHES_MAX as u64);
    }

    fn one_core() -> (LogSender, LogReceiver, Arc<CoreStats>) {
        let stats = CoreStats::new(0);
        let (mut senders, receiver) = log_ring(std::slice::from_ref(&stats));
        (senders.remove(0), receiver, stats)
    }

    #[test]
    fn lines_arrive_in_order_and_buffers_come_back() {
        let (mut sender, receiver, stats) = one_core();
        for round in 0..10 * LOG_BATCHES_MAX as u64 {
            sender.push(&AccessRecord { bytes_out: round, ..record() }, AccessLogFormat::Common);
            sender.flush();
            let batch = receiver.try_recv().expect("a batch");
            assert_eq!(batch.records, 1);
            assert!(batch.bytes.ends_with(format!(" {round}\n").as_bytes()));
            batch.recycle();
        }
        assert_eq!(sender.buffers_made, 1, "one buffer went round and round");
        assert_eq!(stats.access_log_dropped.get(), 0);
    }

    #[test]
    fn a_full_batch_leaves_by_itself() {
        let (mut sender, receiver, _stats) = one_core();
        let mut pushed = 0;
        while receiver.is_empty() {
            sender.push(&record(), AccessLogFormat::Json);
            pushed += 1;
        }
        let batch = receiver.try_recv().expect("a batch");
        assert_eq!(batch.records, pushed);
        assert!(batch.bytes.len() <= LOG_BATCH_BYTES, "the buffer did not grow");
    }

    #[test]
    fn a_writer_that_stands_still_costs_lines_which_are_counted() {
        let (mut sender, receiver, stats) = one_core();
        let pushed = LOG_BATCHES_MAX as u64 + 100;
        for _ in 0..pushed {
            sender.push(&record(), AccessLogFormat::Common);
            sender.flush();
        }
        assert_eq!(receiver.len(), LOG_BATCHES_MAX);
        assert_eq!(stats.access_log_dropped.get(), 100);
        receiver.try_recv().expect("a batch").recycle();
        sender.push(&record(), AccessLogFormat::Common);
        sender.flush();
        assert_eq!(stats.access_log_dropped.get(), 100, "goes on as soon as there is room");
    }

    #[test]
    fn a_writer_that_is_gone_costs_lines_only() {
        let (mut sender, receiver, stats) = one_core();
        drop(receiver);
        for _ in 0..500 {
            sender.push(&record(), AccessLogFormat::Common);
            sender.flush();
        }
        assert_eq!(stats.access_log_dropped.get(), 500);
    }

    #[test]
    fn the_last_lines_leave_when_the_worker_ends() {
        let (mut sender, receiver, _stats) = one_core();
        sender.push(&record(), AccessLogFormat::Common);
        drop(sender);
        assert_eq!(receiver.try_recv().expect("a batch").records, 1);
    }

    #[test]
    fn a_huge_line_does_not_keep_its_room() {
        let (mut sender, receiver, _stats) = one_core();
        let target = vec![b'a'; 10 * LOG_BATCH_BYTES];
        sender.push(&AccessRecord { target: &target, ..record() }, AccessLogFormat::Common);
        receiver.try_recv().expect("a batch").recycle();
        assert!(sender.take_buffer().expect("came back").capacity() <= 2 * LOG_BATCH_BYTES);
    }
}
