//! Reading JSON lines: bounded, numbered, with errors that say which line.

use crate::failure::{Exit, Failure};
use crate::output::json_bytes::join;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A longer line cannot be a key and a value within the store's limits, however it is written.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The lines of a file that are not blank.
pub struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    number: u64,
    bytes_read: u64,
}

/// One line.
pub struct Line<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Without its end.
    pub bytes: &'a [u8],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

impl Lines {
    /// Opens a file, or stdin for `-`.
    pub fn open(path: &Path) -> Result<Lines, Failure> {
        let input: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::new(Exit::NotFound, format!("{} does not exist", path.display()))
                }
                _ => Failure::file("read", path, error),
            })?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        };
        let path = path.to_owned();
        Ok(Lines { path, input, buffer: Vec::new(), number: 0, bytes_read: 0 })
    }

    /// Passes over lines; how many there were.
    pub fn skip(&mut self, lines: u64) -> Result<u64, Failure> {
        while self.number < lines {
            if !self.read()? {
                break;
            }
        }
        Ok(self.number)
    }

    /// The next line that is not blank.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, Failure> {
        while self.read()? {
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, bytes: &self.buffer }));
            }
        }
        Ok(None)
    }

    /// Bytes passed so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn read(&mut self) -> Result<bool, Failure> {
        self.buffer.clear();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| Failure::file("read", &self.path, error))?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        self.bytes_read += read as u64;
        if self.buffer.pop_if(|byte| *byte == b'\n').is_none() && read as u64 == LINE_BYTES_MAX {
            let place = format!("{} line {}", self.path.display(), self.number);
            let what = format!("longer than {} MiB", LINE_BYTES_MAX >> 20);
            return Err(Failure::new(Exit::Usage, format!("{place}: {what}")));
        }
        Ok(true)
    }
}

/// Key and value of a line. The error says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|error| {
        // serde_json counts lines within what it is given; only the column helps here.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        format!("{what} (column {})", error.column())
    })?;
    let key = join("key", entry.key, entry.key_base64)?;
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    Ok((key, join("value", entry.value, entry.value_base64)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_explained() {
        for (line, what) in [
            ("{", "column 1"),
            ("[]", "expected struct"),
            (r#"{"key":"a"}"#, "value (or value_base64) is missing"),
            (r#"{"key":"","value":""}"#, "the key is empty"),
            (r#"{"key":"a","value":"b","ttl":1}"#, "ttl"),
            (r#"{"key":"a","value_base64":"?"}"#, "value_base64 is not base64"),
            (r#"{"key":1,"value":"b"}"#, "expected a string"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }

    #[test]
    fn lines_are_numbered_blank_ones_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "one\n\ntwo\r\nthree").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            seen.push((line.number, String::from_utf8(line.bytes.to_vec()).unwrap()));
        }
        assert_eq!(seen, [(1, "one".into()), (3, "two\r".into()), (4, "three".into())]);
        let mut lines = Lines::open(&path).unwrap();
        assert_eq!(lines.skip(2).unwrap(), 2);
        assert_eq!(lines.next_line().unwrap().unwrap().number, 3);
        assert_eq!(lines.skip(99).unwrap(), 4);
    }
}
