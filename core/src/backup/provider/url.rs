//! Paths in URLs: which have one, and how they are written in it.

use std::fmt;

/// Whether a directory can be named by a URL: what stands before the first `/` of one is a host, and no parser agrees with another on dots.
pub(super) fn has_url(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."))
}

/// A path as it stands in a URL: [`decode`] gives it back.
pub(super) struct Encoded<'a>(pub(super) &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if matches!(c, ' ' | '%' | '?' | '#' | '@') || c.is_control() {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                bytes.into_iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

/// Undoes percent-encoding.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}
