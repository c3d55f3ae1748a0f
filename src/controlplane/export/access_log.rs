//! The thread that writes access log lines: alone with its file, so that a slow disk delays nobody.
//!
//! A line that cannot be written is counted and forgotten; the thread keeps trying with the next
//! batch, so a disk that was full heals by itself. The file is opened anew on demand (rotation) or
//! replaced (a reload that moves it).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::{
    base::limits::LOG_ORDERS_MAX,
    controlplane::log,
    snapshot::AccessLogTarget,
    telemetry::log_ring::{Batch, LogReceiver},
};

/// How the writer fares.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Lines that reached their file.
    pub written: AtomicU64,
    /// Lines that could not be written.
    pub lost: AtomicU64,
}

/// Where lines go: opened before the writer hears of it, so that a path that cannot be opened is
/// an error at its place and not a surprise later.
#[derive(Debug)]
pub struct Sink {
    name: String,
    file: File,
}

impl Sink {
    /// Opens a target for appending; a new file is readable by its owner and group.
    ///
    /// # Errors
    /// As open(2): a missing directory, no permission.
    pub fn open(target: &AccessLogTarget) -> io::Result<Self> {
        match target {
            AccessLogTarget::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(Self { name: "standard output".into(), file })
            }
            AccessLogTarget::File(path) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
                Ok(Self { name: path.display().to_string(), file })
            }
        }
    }
}

/// The control thread's handle of the writer.
#[derive(Debug)]
pub struct Writer {
    orders: Sender<Option<Sink>>,
    ended: Receiver<()>,
    stats: Arc<WriterStats>,
}

impl Writer {
    /// Starts the thread. Without a sink it throws lines away until it is given one.
    ///
    /// # Errors
    /// As clone(2): no more threads.
    pub fn start(batches: LogReceiver, sink: Option<Sink>) -> io::Result<Self> {
        let stats = Arc::new(WriterStats::default());
        let (orders, new_sinks) = bounded(LOG_ORDERS_MAX);
        let (ending, ended) = bounded(0);
        let mut thread =
            WriterThread { sink, torn: false, failing: false, stats: Arc::clone(&stats) };
        thread::Builder::new().name("ringway-log".into()).stack_size(128 * 1024).spawn(
            move || {
                thread.run(&batches, &new_sinks);
                drop(ending);
            },
        )?;
        Ok(Self { orders, ended, stats })
    }

    /// How it fares.
    pub fn stats(&self) -> &Arc<WriterStats> {
        &self.stats
    }

    /// From the next batch on, lines go here (`None`: nowhere). If the thread hangs in a write and
    /// several orders wait already, this one is dropped and false returned.
    pub fn redirect(&self, sink: Option<Sink>) -> bool {
        self.orders.try_send(sink).is_ok()
    }

    /// Writes what the cores have handed over and ends the thread; waits for that at most `within`:
    /// a reader of standard output that stands still must not keep us.
    pub fn finish(self, within: Duration) {
        drop(self.orders);
        let _ = self.ended.recv_timeout(within);
    }
}

struct WriterThread {
    sink: Option<Sink>,
    /// The last write ended inside a line.
    torn: bool,
    /// The last write failed; said once.
    failing: bool,
    stats: Arc<WriterStats>,
}

impl WriterThread {
    fn run(&mut self, batches: &LogReceiver, new_sinks: &Receiver<Option<Sink>>) {
        loop {
            select! {
                recv(batches) -> batch => match batch {
                    Ok(batch) => self.take(batch),
                    Err(_) => return,
                },
                recv(new_sinks) -> sink => {
                    if let Ok(sink) = sink {
                        // Lines that were handed over before the order belong to the old file.
                        while let Ok(batch) = batches.try_recv() {
                            self.take(batch);
                        }
                        (self.sink, self.torn, self.failing) = (sink, false, false);
                    } else {
                        batches.try_iter().for_each(|batch| self.take(batch));
                        return;
                    }
                },
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        if self.sink.is_some() {
            self.write(&batch.bytes, batch.records);
        }
        batch.recycle();
    }

    fn write(&mut self, bytes: &[u8], records: u64) {
        let Some(sink) = &mut self.sink else { return };
        let mut end_torn_line = self.torn;
        let mut done = 0;
        let result = loop {
            if done == bytes.len() {
                break Ok(());
            }
            let next: &[u8] = if end_torn_line { b"\n" } else { &bytes[done..] };
            match sink.file.write(next) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(_) if end_torn_line => (end_torn_line, self.torn) = (false, false),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if done > 0 {
            self.torn = bytes[done - 1] != b'\n';
        }
        let lost = memchr::memchr_iter(b'\n', &bytes[done..]).count() as u64;
        self.stats.lost.fetch_add(lost, Relaxed);
        self.stats.written.fetch_add(records.saturating_sub(lost), Relaxed);
        self.report(result);
    }

    /// Says once that writing fails, and once that it works again.
    fn report(&mut self, result: io::Result<()>) {
        let name = self.sink.as_ref().map_or("", |sink| sink.name.as_str());
        match result {
            Err(error) if !self.failing => {
                self.failing = true;
                log::error(format_args!(
                    "access log: cannot write to {name}: {error}; \
                     lines are counted as lost until it works again"
                ));
            }
            Ok(()) if self.failing => {
                self.failing = false;
                let lost = self.stats.lost.load(Relaxed);
                log::warn(format_args!(
                    "access log: {name} can be written again; {lost} lines lost so far"
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::telemetry::{
        AccessLogFormat, AccessRecord, CoreStats,
        access::tests::record,
        log_ring::{LogSender, log_ring},
    };

    fn file(path: &Path) -> AccessLogTarget {
        AccessLogTarget::File(path.to_owned())
    }

    fn start(target: Option<&AccessLogTarget>) -> (LogSender, Writer) {
        let (mut senders, receiver) = log_ring(&[CoreStats::new(0)]);
        let sink = target.map(|target| Sink::open(target).expect("opened"));
        (senders.remove(0), Writer::start(receiver, sink).expect("started"))
    }

    fn push(sender: &mut LogSender, number: u64) {
        sender.push(&AccessRecord { bytes_out: number, ..record() }, AccessLogFormat::Common);
        sender.flush();
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        while !condition() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn lines_reach_the_file_before_the_thread_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access.log");
        let (mut sender, writer) = start(Some(&file(&path)));
        for number in 0..12 {
            push(&mut sender, number); // a batch each, of which there may be 16
        }
        let stats = Arc::clone(writer.stats());
        writer.finish(Duration::from_secs(10));
        let text = fs::read_to_string(&path).expect("the log");
        assert_eq!(text.lines().count(), 12);
        assert!(text.lines().last().is_some_and(|line| line.ends_with(" 11")));
        assert_eq!(stats.written.load(Relaxed), 12);
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, old) = (directory.path().join("a.log"), directory.path().join("a.log.1"));
        let (mut sender, writer) = start(Some(&file(&path)));
        push(&mut sender, 1);
        wait_until(|| writer.stats().written.load(Relaxed) == 1);
        fs::rename(&path, &old).expect("renamed");
        push(&mut sender, 2);
        wait_until(|| writer.stats().written.load(Relaxed) == 2);
        assert!(writer.redirect(Some(Sink::open(&file(&path)).expect("opened"))));
        wait_until(|| {
            push(&mut sender, 3);
            fs::read_to_string(&path).is_ok_and(|text| !text.is_empty())
        });
        writer.finish(Duration::from_secs(10));
        let old = fs::read_to_string(&old).expect("the old file");
        assert!(old.lines().nth(1).is_some_and(|line| line.ends_with(" 2")));
    }

    #[test]
    fn a_full_disk_costs_lines_which_are_counted_and_heals() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access.log");
        let (mut sender, writer) = start(Some(&file(Path::new("/dev/full"))));
        for number in 0..10 {
            push(&mut sender, number);
        }
        wait_until(|| writer.stats().lost.load(Relaxed) == 10);
        assert_eq!(writer.stats().written.load(Relaxed), 0);
        assert!(writer.redirect(Some(Sink::open(&file(&path)).expect("opened"))));
        wait_until(|| {
            push(&mut sender, 11);
            writer.stats().written.load(Relaxed) > 0
        });
        let text = fs::read_to_string(&path).expect("the log");
        assert!(text.lines().next().is_some_and(|line| line.ends_with(" 11")));
    }

    #[test]
    fn without_a_sink_lines_are_thrown_away() {
        let (mut sender, writer) = start(None);
        push(&mut sender, 1);
        let stats = Arc::clone(writer.stats());
        writer.finish(Duration::from_secs(10));
        assert_eq!(stats.written.load(Relaxed), 0);
        assert_eq!(stats.lost.load(Relaxed), 0);
    }

    #[test]
    fn a_missing_directory_is_an_error_at_once() {
        let error = Sink::open(&file(Path::new("/nowhere/at/all.log"))).expect_err("no directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// A write that ends inside a line must not glue the next line to it.
    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access.log");
        let mut thread = WriterThread {
            sink: Some(Sink::open(&file(&path)).expect("opened")),
            torn: false,
            failing: false,
            stats: Arc::default(),
        };
        thread.write(b"one\ntw", 1);
        assert!(thread.torn);
        thread.write(b"three\n", 1);
        assert_eq!(fs::read_to_string(&path).expect("the log"), "one\ntw\nthree\n");
        assert!(!thread.torn);
    }
}
