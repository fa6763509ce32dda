use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The bytes that the writer takes at once, so that it makes few system calls.
const BATCH_BYTES: usize = 16 * 1024;

/// The bytes that a line occupies besides its text.
const LINE_OVERHEAD: usize = 64;

/// How long dropped lines stay unreported while the writer never catches up.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The class of a log line. Each has a queue of its own, so that no class displaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineClass {
    /// Requests and everything else of level `INFO` or below.
    Ordinary,
    /// `WARN` and `ERROR`.
    Problem,
    /// Audit events.
    Audit,
    /// How many lines were dropped. There is one report at a time, so its queue is never full.
    Report,
}

/// Log lines that wait for the thread that writes them, bounded in lines and bytes.
///
/// A line that finds the queue of its class full is dropped and counted. Lines leave in the order
/// in which they came, whatever their class.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(LineClass, Box<[u8]>)>,
    /// How many lines of each class wait, and the bytes that they occupy.
    waiting: [Waiting; 4],
    is_writing: bool,
    /// How many lines of each class were dropped since the last report.
    dropped: [u64; 4],
    /// When the first of them was dropped.
    first_dropped: Option<Instant>,
}

#[derive(Default)]
struct Waiting {
    lines: usize,
    bytes: usize,
}

/// What the queue holds of one class.
struct Limits {
    line: usize,
    lines: usize,
    bytes: usize,
}

impl LineClass {
    /// The classes whose lines can be dropped.
    pub(super) const DROPPABLE: [Self; 3] = [Self::Ordinary, Self::Problem, Self::Audit];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Problem => "problem",
            Self::Audit => "audit",
            Self::Report => "report",
        }
    }

    /// Returns the maximum bytes of a line.
    pub(super) fn max_line(self) -> usize {
        self.limits().line
    }

    /// An audit event with every field at its limit fits.
    fn limits(self) -> Limits {
        let (line, lines, bytes) = match self {
            Self::Audit => (256 * 1024, 16 * 1024, 8 * 1024 * 1024),
            Self::Ordinary | Self::Problem | Self::Report => (16 * 1024, 4096, 1024 * 1024),
        };
        Limits { line, lines, bytes }
    }
}

impl Queue {
    /// Adds a line, or drops it if the queue of its class is full. Returns whether it was added.
    pub(super) fn push(&self, class: LineClass, line: Box<[u8]>) -> bool {
        let mut state = self.lock();
        let (waiting, limits) = (&mut state.waiting[class as usize], class.limits());
        let bytes = waiting.bytes + line.len() + LINE_OVERHEAD;
        if waiting.lines >= limits.lines || bytes > limits.bytes {
            state.dropped[class as usize] += 1;
            state.first_dropped.get_or_insert_with(Instant::now);
            return false;
        }
        waiting.bytes = bytes;
        waiting.lines += 1;
        state.lines.push_back((class, line));
        drop(state);
        self.arrived.notify_one();
        true
    }

    /// Waits for lines and returns the oldest. They count as unwritten until
    /// [`mark_written`](Self::mark_written) is called.
    pub(super) fn take(&self) -> Vec<u8> {
        let state = self.lock();
        let state = self.arrived.wait_while(state, |it| it.lines.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        let mut batch = Vec::new();
        while let Some((class, line)) = state.lines.pop_front() {
            if !batch.is_empty() && batch.len() + line.len() > BATCH_BYTES {
                state.lines.push_front((class, line));
                break;
            }
            let waiting = &mut state.waiting[class as usize];
            waiting.lines -= 1;
            waiting.bytes -= line.len() + LINE_OVERHEAD;
            batch.extend_from_slice(&line);
        }
        batch
    }

    /// Returns how many lines of each class were dropped since the last report, if a report is due:
    /// when no line waits, or 10 s after the first drop. No report is due while one waits.
    pub(super) fn take_dropped(&self, now: Instant) -> Vec<(LineClass, u64)> {
        let mut state = self.lock();
        let Some(first) = state.first_dropped else {
            return Vec::new();
        };
        let is_recent = now.saturating_duration_since(first) < REPORT_INTERVAL;
        let reports = state.waiting[LineClass::Report as usize].lines;
        if reports > 0 || !state.lines.is_empty() && is_recent {
            return Vec::new();
        }
        state.first_dropped = None;
        let dropped = std::mem::take(&mut state.dropped);
        let counts = LineClass::DROPPABLE.map(|class| (class, dropped[class as usize]));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Marks what was [taken](Self::take) as written.
    pub(super) fn mark_written(&self) {
        self.lock().is_writing = false;
        self.written.notify_all();
    }

    /// Waits until every line is written, for at most `limit`. Returns whether that is so.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let is_pending = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let state = self.lock();
        let waited = self.written.wait_timeout_while(state, limit, is_pending);
        let (_state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(queue: &Queue, class: LineClass, line: &[u8]) -> usize {
        let mut added = 0;
        while queue.push(class, line.into()) {
            added += 1;
        }
        added
    }

    #[test]
    fn each_class_is_bounded_in_lines_and_bytes() {
        for class in [LineClass::DROPPABLE.as_slice(), &[LineClass::Report]].concat() {
            let queue = Queue::default();
            assert_eq!(fill(&queue, class, b"x\n"), class.limits().lines);
            let queue = Queue::default();
            let line = vec![b'x'; class.max_line()];
            let fit = class.limits().bytes / (line.len() + LINE_OVERHEAD);
            assert_eq!(fill(&queue, class, &line), fit);
        }
    }

    #[test]
    fn full_class_does_not_affect_others_or_the_order() {
        let queue = Queue::default();
        queue.push(LineClass::Audit, (*b"first ").into());
        let count = fill(&queue, LineClass::Ordinary, b"x");
        assert!(queue.push(LineClass::Problem, (*b" second").into()));
        assert!(queue.push(LineClass::Audit, (*b" third").into()));
        let text = "first ".to_owned() + &"x".repeat(count) + " second third";
        assert_eq!(queue.take(), text.as_bytes());
    }

    #[test]
    fn dropped_lines_are_reported_once_when_nothing_waits() {
        let queue = Queue::default();
        fill(&queue, LineClass::Ordinary, &[b'x'; 255]);
        queue.push(LineClass::Ordinary, [b'x'; 255].into());
        fill(&queue, LineClass::Audit, b"x");
        let now = Instant::now();
        assert_eq!(queue.take_dropped(now), []);
        while !queue.lock().lines.is_empty() {
            queue.take();
        }
        let dropped = [(LineClass::Ordinary, 2), (LineClass::Audit, 1)];
        assert_eq!(queue.take_dropped(now), dropped);
        assert_eq!(queue.take_dropped(now), []);
    }

    #[test]
    fn dropped_lines_are_reported_within_the_interval() {
        let queue = Queue::default();
        fill(&queue, LineClass::Ordinary, b"x");
        let later = Instant::now() + REPORT_INTERVAL;
        assert_eq!(queue.take_dropped(later), [(LineClass::Ordinary, 1)]);
    }

    #[test]
    fn reports_do_not_overlap() {
        let queue = Queue::default();
        fill(&queue, LineClass::Problem, b"x");
        let later = Instant::now() + REPORT_INTERVAL;
        assert_eq!(queue.take_dropped(later), [(LineClass::Problem, 1)]);
        assert!(queue.push(LineClass::Report, (*b"report").into()));
        assert!(!queue.push(LineClass::Problem, (*b"x").into()));
        let later = later + REPORT_INTERVAL;
        assert_eq!(queue.take_dropped(later), []);
        while !queue.lock().lines.is_empty() {
            queue.take();
        }
        assert_eq!(queue.take_dropped(later), [(LineClass::Problem, 1)]);
    }

    #[test]
    fn flush_waits_for_the_line_being_written() {
        let queue = Queue::default();
        assert!(queue.flush(Duration::ZERO));
        queue.push(LineClass::Ordinary, (*b"x").into());
        assert!(!queue.flush(Duration::ZERO));
        queue.take();
        assert!(!queue.flush(Duration::ZERO));
        queue.mark_written();
        assert!(queue.flush(Duration::ZERO));
    }
}
