//! The story of a run: one line per event with fixed columns.
//!
//! Columns: seconds of simulated time, who, what, details. Two runs of one seed must give the same bytes. Most runs are told to nobody, and
//! spelling out what happens would be a quarter of their work: then lines are only counted.

use crate::time::SimTime;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::rc::Rc;

/// Where a trace's text goes. It can be read after the world has ended, in whatever way it did.
pub type Story = Rc<RefCell<String>>;

/// Where the third column starts, but for a space.
const WHAT_COLUMN: usize = 18;

/// Counts lines, and spells them out where somebody listens.
#[derive(Debug, Default)]
pub struct Trace {
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
        self.lines += 1;
        let Some(story) = &self.story else { return };
        self.line.clear();
        // Writing into a string cannot fail.
        let _ = write!(self.line, "{now} {who}");
        while self.line.len() < WHAT_COLUMN {
            self.line.push(' ');
        }
        let _ = writeln!(self.line, " {what:<10} {details}");
        story.borrow_mut().push_str(&self.line);
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}
