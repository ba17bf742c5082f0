//! What is said to people, on stderr. Who has closed it wants to hear nothing, and that is no reason to break anything off, as `eprintln!`
//! would.

use std::fmt;
use std::io::{self, Write as _};

/// Says a line in the name of this program, with the arguments of [`format!`].
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(format_args!("raftkv-cli: {}", format_args!($($words)*)))
    };
}

pub(crate) use say;

/// Writes a line as it is.
pub fn line(words: impl fmt::Display) {
    write(format_args!("{words}\n"));
}

/// Writes words without the end of a line: what is asked is answered behind them.
pub fn question(words: impl fmt::Display) {
    write(format_args!("{words} "));
}

fn write(words: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(words);
}
