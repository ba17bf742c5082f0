//! Bytes in JSON: as text where they are UTF-8, else as base64 under a name that says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The bytes for a pair of fields `name` and `name_base64`: exactly one is set.
pub fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes from such a pair. `name` is for the error.
pub fn join(name: &str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => {
            STANDARD.decode(base64).map_err(|error| format!("{name}_base64 is not base64: {error}"))
        }
        (None, None) => Err(format!("{name} (or {name}_base64) is missing")),
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 exclude each other")),
    }
}

/// The bytes for a terminal: text, with everything else escaped so that no line is broken and no terminal is confused.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Text of several lines for a terminal, with everything escaped that would do more than stand there: names in a store, and notes beside its
/// backups, are whoever's who can write to it.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        match is_harmful(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_either_way() {
        for bytes in [&b""[..], b"plain", "\u{fc}".as_bytes(), b"\xff\x00"] {
            let (text, base64) = split(bytes);
            assert_eq!(join("key", text, base64).as_deref(), Ok(bytes));
        }
        assert!(join("key", None, None).is_err());
        assert!(join("key", Some("a".into()), Some("YQ==".into())).is_err());
        assert!(join("key", None, Some("*".into())).is_err());
    }

    #[test]
    fn terminals_see_no_control_characters() {
        assert_eq!(printable(b"a\x1b[2J\n\xffb\\"), "a\\u{1b}[2J\\n\\xffb\\\\");
        assert_eq!(harmless("a\x1b[2J\n\rb\\\u{9b}2J"), "a\\u{1b}[2J\n\\rb\\\\u{9b}2J");
        assert!(matches!(harmless("two\nlines:\t░"), Cow::Borrowed(_)));
    }
}
