//! How far an import came, remembered in a small file so that it can go on from there.

use crate::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SAVE_EVERY: Duration = Duration::from_millis(500);

/// Counts lines that are done without a gap.
#[derive(Debug)]
pub struct Resume {
    place: Option<Place>,
    /// Every line up to this one is done.
    done: u64,
    /// The last line handed out.
    started: u64,
    /// Spans of lines under way or done after a gap: first line, last line, done.
    spans: BTreeMap<u64, (u64, bool)>,
    saved: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    input: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    input: String,
    lines_done: u64,
}

impl Resume {
    /// Nothing is remembered; lines up to `skip` count as done.
    pub fn none(skip: u64) -> Self {
        Resume { place: None, done: skip, started: skip, spans: BTreeMap::new(), saved: None }
    }

    /// Goes on from what `path` remembers of `input`, or from the start if there is no such file.
    pub fn open(path: &Path, input: &Path) -> Result<Self, Failure> {
        let input = input.display().to_string();
        let done = match fs::read(path) {
            Ok(bytes) => {
                let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| {
                    let path = path.display();
                    Failure::new(Exit::Failed, format!("{path} is not a resume file: {error}"))
                })?;
                if saved.input != input {
                    let (path, other) = (path.display(), saved.input);
                    return Err(Failure::new(
                        Exit::Refused,
                        format!(
                            "{path} belongs to the import of {other}, not of {input}: use another one"
                        ),
                    ));
                }
                saved.lines_done
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Failure::file("read", path, error)),
        };
        let place = Place { path: path.to_owned(), input };
        Ok(Resume { place: Some(place), ..Resume::none(done) })
    }

    /// Every line up to this one is done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Lines are on their way. Called in the order of lines; blank lines between belong to what follows.
    pub fn start(&mut self, (_, last): (u64, u64)) {
        self.spans.insert(self.started + 1, (last, false));
        self.started = last;
    }

    /// Lines that were on their way are done.
    pub fn finish_batch(&mut self, (first, last): (u64, u64)) -> Result<(), Failure> {
        if let Some((_, (end, done))) = self.spans.range_mut(..=first).next_back() {
            debug_assert_eq!(*end, last);
            *done = true;
        }
        while let Some(entry) = self.spans.first_entry() {
            let (end, true) = *entry.get() else { break };
            self.done = end;
            entry.remove();
        }
        if self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
            self.save()?;
        }
        Ok(())
    }

    /// Everything is done: there is nothing to go on from.
    pub fn finish(self) -> Result<(), Failure> {
        match &self.place {
            Some(place) if place.path.exists() => fs::remove_file(&place.path)
                .map_err(|error| Failure::file("removed", &place.path, error)),
            _ => Ok(()),
        }
    }

    /// Remembers how far it came.
    pub fn save(&mut self) -> Result<(), Failure> {
        self.saved = Some(Instant::now());
        let Some(place) = &self.place else { return Ok(()) };
        let saved = Saved { input: place.input.clone(), lines_done: self.done };
        let json = serde_json::to_vec(&saved).expect("it has string keys");
        // After a crash an older count is as good: lines may be imported twice.
        let mut fresh = place.path.as_os_str().to_owned();
        fresh.push(".new");
        fs::write(&fresh, json)
            .and_then(|()| fs::rename(&fresh, &place.path))
            .map_err(|error| Failure::file("written", &place.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_without_a_gap_count() {
        let mut resume = Resume::none(10);
        // Line 11 is blank.
        resume.start((12, 14));
        resume.start((15, 15));
        resume.start((17, 20));
        resume.finish_batch((17, 20)).unwrap();
        assert_eq!(resume.done(), 10);
        resume.finish_batch((12, 14)).unwrap();
        assert_eq!(resume.done(), 14);
        resume.finish_batch((15, 15)).unwrap();
        assert_eq!(resume.done(), 20);
    }

    #[test]
    fn the_file_is_read_back_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, input) = (dir.path().join("resume"), Path::new("data.ndjson"));
        let mut resume = Resume::open(&path, input).unwrap();
        resume.start((1, 5));
        resume.finish_batch((1, 5)).unwrap();
        assert_eq!(Resume::open(&path, input).unwrap().done(), 5);
        let other = Resume::open(&path, Path::new("other.ndjson")).unwrap_err();
        assert_eq!(other.exit(), Exit::Refused);
        resume.finish().unwrap();
        assert!(!path.exists());
        fs::write(&path, "{}").unwrap();
        assert!(Resume::open(&path, input).is_err());
    }
}
