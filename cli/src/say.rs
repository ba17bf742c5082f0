//! What is said to people, on stderr. Who has closed it wants to hear nothing, and that is no reason to break anything off, as `eprintln!`
//! would.

use crate::output::json_bytes::harmless;
use std::fmt;
use std::io::{self, Write as _};

/// Says a line in the name of this program, with the arguments of [`format!`].
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(format_args!("raftkv-cli: {}", format_args!($($words)*)))
    };
}

pub(crate) use say;

/// Writes a line.
pub fn line(words: impl fmt::Display) {
    write(&words.to_string(), "\n");
}

/// Writes words without the end of a line: what is asked is answered behind them.
pub fn question(words: impl fmt::Display) {
    write(&words.to_string(), " ");
}

fn write(words: &str, end: &str) {
    let _ = io::stderr().write_fmt(format_args!("{}{end}", harmless(words)));
}
