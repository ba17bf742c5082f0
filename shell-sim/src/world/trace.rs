//! The story of a run: one line per event with fixed columns, and a fingerprint over all of them.
//!
//! Columns: seconds of simulated time, who, what, details. Two runs of one seed must give the same bytes.

use crate::fingerprint::Fingerprint;
use crate::time::SimTime;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::rc::Rc;

/// Where a trace's text goes. It can be read after the world has ended, in whatever way it did.
pub type Story = Rc<RefCell<String>>;

/// Where the third column starts, but for a space.
const WHAT_COLUMN: usize = 18;

/// Collects lines or only their fingerprint.
#[derive(Debug, Default)]
pub struct Trace {
    fingerprint: Fingerprint,
    lines: u64,
    line: String,
    story: Option<Story>,
}

impl Trace {
    /// Adds the text to `story`, if there is one.
    pub fn new(story: Option<Story>) -> Self {
        Trace { story, ..Trace::default() }
    }

    /// Adds a line.
    pub fn line(
        &mut self,
        now: SimTime,
        who: impl fmt::Display,
        what: &str,
        details: fmt::Arguments,
    ) {
        self.line.clear();
        // Writing into a string cannot fail.
        let _ = write!(self.line, "{now} {who}");
        while self.line.len() < WHAT_COLUMN {
            self.line.push(' ');
        }
        let _ = writeln!(self.line, " {what:<10} {details}");
        self.fingerprint.add(self.line.as_bytes());
        self.lines += 1;
        if let Some(story) = &self.story {
            story.borrow_mut().push_str(&self.line);
        }
    }

    /// The fingerprint of everything so far.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.value()
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}
