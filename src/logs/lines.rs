//! Lines that go to a file in the background: a bounded queue and one thread that writes.
//!
//! Not here: what a line says. **Invariant:** whoever queues a line never waits; what does not fit
//! is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::metrics::Counter;

/// Lines that wait for the disk (ours: about 8 MB, and half a second at 30,000 requests/s).
const QUEUE: usize = 16 * 1024;
/// Bytes gathered into one write.
const BUFFER: usize = 64 * 1024;
/// Between two looks at the queue while lines come (ours): whoever queues one wakes nobody then.
/// The queue holds what comes at 1,600,000 lines/s meanwhile.
const GATHER: Duration = Duration::from_millis(10);

/// What becomes of a log's lines.
#[derive(Clone, Debug)]
pub struct Counts {
    pub written: Counter,
    pub dropped: Counter,
    /// The cell of the writer thread.
    pub control: usize,
}

/// Queues lines for the writer thread. Clones share it; dropping the last one writes what is
/// queued.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None only while dropping.
    queue: Option<SyncSender<Option<String>>>,
    reopen: Arc<AtomicBool>,
    what: &'static str,
    counts: Counts,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lines {
    /// Opens `path` for appending and starts the writer; `what` names the log in messages.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn open(path: &Path, what: &'static str, counts: Counts) -> io::Result<Self> {
        let file = append(path)?;
        let (queue, lines) = sync_channel(QUEUE);
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            path: path.to_owned(),
            what,
            file: BufWriter::with_capacity(BUFFER, file),
            reopen: Arc::clone(&reopen),
            counts: counts.clone(),
            pending: 0,
            failing: false,
        };
        let thread =
            std::thread::Builder::new().name(what.to_owned()).spawn(move || writer.run(lines))?;
        let (queue, thread) = (Some(queue), Mutex::new(Some(thread)));
        Ok(Self(Arc::new(Inner { queue, reopen, what, counts, thread })))
    }

    /// Queues one line with its end; drops and counts it when the queue is full. `thread` is the
    /// caller's cell.
    pub fn push(&self, thread: usize, line: String) {
        if !self.0.send(Some(line)) {
            self.0.counts.dropped.add(thread, 1);
        }
    }

    /// Closes the file and opens its path anew: it was moved away. What is queued before goes to
    /// the old one, or to the new one when the queue is full.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Release);
        // Only wakes: a full queue wakes by itself.
        let _ = self.0.send(None);
    }
}

impl Inner {
    fn send(&self, line: Option<String>) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(line).is_ok())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(log = self.what, "a log's thread has panicked");
        }
    }
}

struct Writer {
    path: PathBuf,
    what: &'static str,
    file: BufWriter<File>,
    reopen: Arc<AtomicBool>,
    counts: Counts,
    /// Lines in the buffer.
    pending: u64,
    /// The last write failed; said once.
    failing: bool,
}

impl Writer {
    #[allow(clippy::needless_pass_by_value, reason = "the receiver ends with the thread")]
    fn run(mut self, lines: Receiver<Option<String>>) {
        // The first line of some is on disk at once, the others within a moment.
        while let Ok(first) = lines.recv() {
            self.take(first);
            self.flush();
            loop {
                std::thread::sleep(GATHER);
                if lines.try_iter().map(|line| self.take(line)).count() == 0 {
                    break;
                }
                self.flush();
            }
        }
    }

    fn take(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.write(&line);
        }
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.open_again();
        }
    }

    fn write(&mut self, line: &str) {
        // Flushed here rather than by the buffer itself, so that a failed write loses counted
        // lines.
        if self.file.buffer().len() + line.len() > BUFFER {
            self.flush();
        }
        self.pending += 1;
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.lose(&error);
        }
    }

    fn flush(&mut self) {
        match self.file.flush() {
            Ok(()) => {
                self.counts.written.add(self.counts.control, std::mem::take(&mut self.pending));
                self.failing = false;
            }
            Err(error) => self.lose(&error),
        }
    }

    /// Gives the buffer up: memory is bounded, the disk may stay full for hours.
    fn lose(&mut self, error: &io::Error) {
        self.counts.dropped.add(self.counts.control, std::mem::take(&mut self.pending));
        if !std::mem::replace(&mut self.failing, true) {
            let path = self.path.display();
            tracing::error!(log = self.what, %path, %error, "a log cannot be written");
        }
        if let Ok(file) = self.file.get_ref().try_clone() {
            let (_, _) = std::mem::replace(&mut self.file, BufWriter::with_capacity(BUFFER, file))
                .into_parts();
        }
    }

    fn open_again(&mut self) {
        self.flush();
        match append(&self.path) {
            Ok(file) => self.file = BufWriter::with_capacity(BUFFER, file),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(log = self.what, %path, %error, "a log cannot be reopened");
            }
        }
    }
}

/// Readable by the owner's group at most: lines carry clients' addresses.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
