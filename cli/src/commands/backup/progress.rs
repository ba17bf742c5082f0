//! How far a long job is: a bar for people, a line of JSON a second with `-o json`, nothing where nobody looks.
//!
//! All of it goes to stderr, and only when that is a terminal, so that logs of scheduled jobs stay short.

use crate::context::Context;
use crate::output::Format;
use crate::say;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_core::backup::machine::Progress;
use serde::Serialize;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows how far a job is.
#[derive(Debug)]
pub struct Meter {
    bar: ProgressBar,
    lines: Option<Lines>,
}

/// Status lines.
#[derive(Debug)]
struct Lines {
    started: Instant,
    next: Cell<Instant>,
}

/// One of them.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    done_bytes: u64,
    total_bytes: Option<u64>,
    bytes_per_s: u64,
    /// Seconds that are left at this rate.
    left_secs: Option<u64>,
}

impl Meter {
    /// For a job that begins now.
    pub fn new(context: &Context) -> Self {
        let now = Instant::now();
        let lines = Lines { started: now, next: Cell::new(now + LINE_EVERY) };
        match (context.shows_progress(), context.format()) {
            (false, _) => Meter { bar: ProgressBar::hidden(), lines: None },
            (true, Format::Json) => Meter { bar: ProgressBar::hidden(), lines: Some(lines) },
            (true, Format::Table | Format::Yaml) => {
                let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                let style =
                    ProgressStyle::with_template(template).expect("the template is well-formed");
                Meter { bar: ProgressBar::no_length().with_style(style), lines: None }
            }
        }
    }

    /// Tells where the job stands.
    pub fn show(&self, progress: Progress) {
        if let Some(total) = progress.total_bytes {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.done_bytes);
        let now = Instant::now();
        if let Some(lines) = self.lines.as_ref().filter(|lines| now >= lines.next.get()) {
            lines.next.set(now + LINE_EVERY);
            let line = Line::new(progress, now - lines.started);
            say::line(serde_json::to_string(&line).expect("a line has string keys"));
        }
    }

    /// Takes the bar away.
    pub fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Line {
    fn new(Progress { done_bytes, total_bytes }: Progress, elapsed: Duration) -> Self {
        let bytes_per_s = (done_bytes as f64 / elapsed.as_secs_f64().max(f64::EPSILON)) as u64;
        let left = total_bytes.map(|total| total.saturating_sub(done_bytes));
        let left_secs = left.and_then(|left| left.checked_div(bytes_per_s));
        Line { done_bytes, total_bytes, bytes_per_s, left_secs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_time_left() {
        let half = Progress { done_bytes: 1000, total_bytes: Some(3000) };
        let line = serde_json::to_string(&Line::new(half, Duration::from_secs(2))).unwrap();
        let expected = r#"{"done_bytes":1000,"total_bytes":3000,"bytes_per_s":500,"left_secs":4}"#;
        assert_eq!(line, expected);
        let start = Progress { done_bytes: 0, total_bytes: None };
        assert_eq!(Line::new(start, Duration::ZERO).left_secs, None);
    }
}
