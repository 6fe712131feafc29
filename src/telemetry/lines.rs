//! Lines on their way to whoever reads the log.
//!
//! Owns a bounded queue, and the one thread that may wait for a reader. Whoever logs never waits: a
//! line for which there is no room is dropped and counted, and told when there is room again.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// Lines, and their bytes, that wait for a reader at most.
const MAX_LINES: usize = 8192;
const MAX_BYTES: usize = 4 << 20;
/// Between two lines that tell of dropped ones.
const TELL: Duration = Duration::from_secs(1);
/// Between two attempts at a reader whose descriptor does not let anyone wait.
const AGAIN: Duration = Duration::from_millis(20);

/// Of the process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines of the log this process has dropped, because nobody read them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Where lines go. May wait for ever.
pub(super) trait Sink: Send + 'static {
    /// Writes all of a line.
    fn put(&mut self, line: &[u8]) -> io::Result<()>;
}

/// Takes lines. Clones have the same queue.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    held: AtomicUsize,
    /// Lines that were dropped.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// All before it was written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes. It ends with the process: nobody waits for it.
    pub(super) fn start(sink: impl Sink) -> io::Result<Self> {
        let (queue, messages) = sync_channel(MAX_LINES);
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        let write = move || write(&messages, sink, &of_thread);
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self { queue, counts })
    }

    /// Puts a line into the queue, or drops it.
    pub(super) fn push(&self, line: Vec<u8>) {
        let bytes = line.len();
        let held = self.counts.held.fetch_add(bytes, Ordering::Relaxed);
        let fits = held.saturating_add(bytes) <= MAX_BYTES;
        if !fits || self.queue.try_send(Message::Line(line)).is_err() {
            self.counts.held.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.drop_one();
        }
    }

    /// Waits until the queue's lines are written, but not longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        // A full queue is one that nobody reads.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            written.recv_timeout(patience).unwrap_or_default();
        }
    }

    #[cfg(test)]
    fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

impl Counts {
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(messages: &Receiver<Message>, mut sink: impl Sink, counts: &Counts) {
    let (mut told, mut at) = (0, Instant::now());
    loop {
        let untold = counts.dropped.load(Ordering::Relaxed) - told;
        if untold > 0 && at.elapsed() >= TELL {
            (told, at) = (told + untold, Instant::now());
            // This, too, goes into the queue, where the thread has just made room.
            tracing::warn!(
                lines = untold,
                "lines of the log were dropped: nobody read them in time"
            );
        }
        match messages.recv_timeout(TELL) {
            Ok(Message::Line(line)) => {
                if sink.put(&line).is_err() {
                    counts.drop_one();
                }
                counts.held.fetch_sub(line.len(), Ordering::Relaxed);
            }
            // Whoever asked may be gone.
            Ok(Message::Flush(done)) => done.try_send(()).unwrap_or_default(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Standard error, or what is meant by it.
#[derive(Debug)]
pub(super) struct StandardError(pub(super) File);

impl Sink for StandardError {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // Someone else who has it made it so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(AGAIN);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::net::UnixStream,
        sync::mpsc::{Sender, channel},
    };

    use super::*;

    /// Hands on each line, and waits for leave before each.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Sink for Gate {
        fn put(&mut self, line: &[u8]) -> io::Result<()> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(line.to_vec()).map_err(io::Error::other)
        }
    }

    fn gated() -> (Lines, Sender<()>, Receiver<Vec<u8>>) {
        let ((leave, gate), (written, read)) = (channel(), channel());
        (Lines::start(Gate(gate, written)).unwrap(), leave, read)
    }

    #[test]
    fn whoever_logs_never_waits_and_what_has_no_room_is_counted() {
        let (lines, leave, read) = gated();
        let all = MAX_LINES + 500;
        for n in 0..all {
            lines.push(n.to_string().into_bytes());
        }
        // One more may be with the thread already.
        let dropped = usize::try_from(lines.dropped()).unwrap();
        assert!((499..=500).contains(&dropped), "{dropped}");
        (0..all).for_each(|_| leave.send(()).unwrap());
        for n in 0..all - dropped {
            assert_eq!(read.recv().unwrap(), n.to_string().into_bytes());
        }
        lines.push(b"later".to_vec());
        assert_eq!(read.recv().unwrap(), b"later");
    }

    #[test]
    fn lines_are_bounded_by_their_bytes_too() {
        let (lines, leave, read) = gated();
        for _ in 0..9 {
            lines.push(vec![b'x'; MAX_BYTES / 4]);
        }
        assert_eq!(lines.dropped(), 5, "what the thread has counts until it is written");
        lines.push(vec![b'x'; MAX_BYTES * 2]);
        assert_eq!(lines.dropped(), 6);
        (0..4).for_each(|_| leave.send(()).unwrap());
        (0..4).for_each(|_| drop(read.recv().unwrap()));
    }

    #[test]
    fn the_end_waits_for_a_reader_and_not_for_none() {
        let (lines, leave, read) = gated();
        lines.push(b"1".to_vec());
        let began = Instant::now();
        lines.flush(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50), "there was no leave");
        leave.send(()).unwrap();
        lines.flush(Duration::from_secs(60));
        assert_eq!(read.try_recv().unwrap(), b"1");
        // A full queue is not waited for at all.
        (0..=MAX_LINES + 1).for_each(|_| lines.push(b"x".to_vec()));
        let began = Instant::now();
        lines.flush(Duration::from_secs(600));
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_descriptor_that_does_not_block_gets_whole_lines() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let lines = Lines::start(StandardError(File::from(std::os::fd::OwnedFd::from(writer))));
        let lines = lines.unwrap();
        let long = vec![b'y'; MAX_BYTES / 2];
        lines.push(long.clone());
        let mut read = vec![0; long.len()];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((read == long, lines.dropped()), (true, 0));
    }
}
