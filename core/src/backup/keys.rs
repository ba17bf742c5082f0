//! Keys that lock and unlock backups, and how they are written in files.
//!
//! Invariants: a key never appears in `Debug`, in an error or in any output; it is wiped from memory when dropped. Its id
//! says which key it is without saying anything about it: the first half of a SHA-256 over a label and the key.

use crate::rng::Rng;
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a key.
pub const KEY_BYTES: usize = 32;

/// A secret of 32 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

/// Says which key, without telling it. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

/// The keys that are at hand, by id.
#[derive(Clone, Default)]
pub struct KeyRing(BTreeMap<KeyId, Key>);

/// Why the content of a key file is no key. Says what was found, never the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the key is empty: expected 32 raw bytes, 64 hexadecimal digits or base64 of 32 bytes")]
    Empty,
    /// All bytes are zero: a hole in a file, not a key.
    #[error("the key consists of zero bytes only: it was never written, or its file is damaged")]
    Zero,
    /// Text with only hexadecimal digits, but not 64.
    #[error("the key has {digits} hexadecimal digits: expected 64")]
    HexLength {
        /// How many digits there are.
        digits: usize,
    },
    /// Base64 of something else than 32 bytes.
    #[error("the key is base64 of {bytes} bytes: expected 32")]
    Base64Length {
        /// How many bytes it stands for.
        bytes: usize,
    },
    /// No known form.
    #[error(
        "the key is {bytes} bytes of {what}: expected 32 raw bytes, 64 hexadecimal digits or base64 of 32 bytes"
    )]
    Unknown {
        /// Length of what was found.
        bytes: usize,
        /// `text` or `binary data`.
        what: &'static str,
    },
}

/// A key id is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 32 hexadecimal digits in lower case")]
pub struct BadKeyId;

impl Key {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Key(bytes)
    }

    /// Draws a fresh key. In production the generator is seeded by the operating system.
    pub fn draw(rng: &mut Rng) -> Self {
        Key(rng.bytes())
    }

    /// Reads the content of a key file: 32 raw bytes, 64 hexadecimal digits, or base64 (either alphabet, padded or not).
    /// One line end after the key is ignored. 32 bytes are raw, but not when all are digits or base64: those hold half a key.
    pub fn parse(content: &[u8]) -> Result<Self, KeyError> {
        let line = content
            .strip_suffix(b"\n")
            .map_or(content, |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
        let raw = [content, line].into_iter().find(|bytes| bytes.len() == KEY_BYTES);
        let bytes = match raw {
            Some(raw) if !is_encoded(line) => Zeroizing::new(raw.to_vec()),
            _ => decode(line)?,
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Zero);
        }
        let mut key = Key([0; KEY_BYTES]);
        key.0.copy_from_slice(&bytes);
        Ok(key)
    }

    /// Which key this is.
    pub fn id(&self) -> KeyId {
        let digest = Sha256::new().chain_update("raftkv key id").chain_update(self.0).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// As a line for a key file: 64 hexadecimal digits and a line end.
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text = base16ct::lower::encode_string(&self.0);
        text.push('\n');
        Zeroizing::new(text)
    }

    /// The secret itself, for the key derivation of this module's neighbours only.
    pub(super) fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Whether a word is what a key looks like in text, or half a key: then it is not for other eyes.
pub fn looks_like_key(word: &str) -> bool {
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word.len() {
        ..KEY_BYTES => false,
        KEY_BYTES => is_hex,
        _ => is_hex || Key::parse(word.as_bytes()).is_ok(),
    }
}

/// Whether there are only digits and letters of the textual forms. Of 10^18 raw keys not one looks like that.
fn is_encoded(content: &[u8]) -> bool {
    content.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte))
}

/// Decodes the textual forms to exactly 32 bytes.
fn decode(content: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if content.is_empty() {
        return Err(KeyError::Empty);
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(KeyError::Unknown { bytes: content.len(), what: "binary data" });
    };
    if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let bytes = base16ct::mixed::decode_vec(text).map(Zeroizing::new);
        return bytes
            .ok()
            .filter(|bytes| bytes.len() == KEY_BYTES)
            .ok_or(KeyError::HexLength { digits: text.len() });
    }
    let base64 = Base64::decode_vec(text)
        .or_else(|_| Base64Unpadded::decode_vec(text))
        .or_else(|_| Base64Url::decode_vec(text))
        .or_else(|_| Base64UrlUnpadded::decode_vec(text))
        .map(Zeroizing::new);
    match base64 {
        Ok(bytes) if bytes.len() == KEY_BYTES => Ok(bytes),
        Ok(bytes) => Err(KeyError::Base64Length { bytes: bytes.len() }),
        Err(_) => Err(KeyError::Unknown { bytes: content.len(), what: "text" }),
    }
}

impl KeyRing {
    /// A ring with these keys.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        KeyRing(keys.into_iter().map(|key| (key.id(), key)).collect())
    }

    /// The key with this id.
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.0.get(&id)
    }

    /// The ids of all keys at hand.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.0.keys().copied()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = BadKeyId;
    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let mut id = [0; 16];
        match base16ct::lower::decode(text, &mut id) {
            Ok(_) if text.len() == 32 => Ok(KeyId(id)),
            _ => Err(BadKeyId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use proptest::prelude::*;

    fn key() -> Key {
        Key::draw(&mut Seed::from_number(5).fork("key"))
    }

    #[test]
    fn every_form_of_a_key_file_is_the_same_key() {
        let key = key();
        let raw = key.secret().to_vec();
        let hex = base16ct::lower::encode_string(&raw);
        for content in [
            raw.clone(),
            [&raw[..], b"\n"].concat(),
            hex.clone().into_bytes(),
            format!("{hex}\r\n").into_bytes(),
            hex.to_uppercase().into_bytes(),
            Base64::encode_string(&raw).into_bytes(),
            format!("{}\n", Base64Unpadded::encode_string(&raw)).into_bytes(),
            Base64UrlUnpadded::encode_string(&raw).into_bytes(),
            key.to_file().as_bytes().to_vec(),
        ] {
            assert_eq!(Key::parse(&content).map(|key| key.id()), Ok(key.id()), "{}", content.len());
        }
    }

    #[test]
    fn errors_say_what_was_found() {
        let hex = "5e".repeat(31);
        assert_eq!(Key::parse(b"").map(|k| k.id()), Err(KeyError::Empty));
        assert_eq!(Key::parse(b"\n").map(|k| k.id()), Err(KeyError::Empty));
        assert_eq!(Key::parse(&[0; 32]).map(|k| k.id()), Err(KeyError::Zero));
        assert_eq!(
            Key::parse(hex.as_bytes()).map(|k| k.id()),
            Err(KeyError::HexLength { digits: 62 })
        );
        assert_eq!(
            Key::parse(Base64::encode_string(b"too short!").as_bytes()).map(|k| k.id()),
            Err(KeyError::Base64Length { bytes: 10 })
        );
        assert_eq!(
            Key::parse(b"correct horse battery staple").map(|k| k.id()),
            Err(KeyError::Unknown { bytes: 28, what: "text" })
        );
        assert_eq!(
            Key::parse(&[0xff; 31]).map(|k| k.id()),
            Err(KeyError::Unknown { bytes: 31, what: "binary data" })
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = key();
        let shown = format!("{key:?} {:?}", KeyRing::new([key.clone()]));
        let hex = base16ct::lower::encode_string(key.secret());
        assert!(shown.contains(&key.id().to_string()) && !shown.contains(&hex[..16]));
    }

    #[test]
    fn what_is_written_in_32_characters_is_half_a_key_and_refused() {
        let hex = "5e1fab90".repeat(4);
        let base64 = Base64::encode_string(&[7; 24]);
        let short = Base64::encode_string(&[7; 23]);
        for end in ["", "\n", "\r\n"] {
            let parse = |text: &str| Key::parse(format!("{text}{end}").as_bytes()).map(|k| k.id());
            assert_eq!(parse(&hex), Err(KeyError::HexLength { digits: 32 }));
            assert_eq!(parse(&hex[1..]), Err(KeyError::HexLength { digits: 31 }));
            assert_eq!(parse(&base64), Err(KeyError::Base64Length { bytes: 24 }));
            assert_eq!(parse(&short), Err(KeyError::Base64Length { bytes: 23 }));
            let neither = "abcdefghijklmnop=+-_ABCDEFGHIJKL";
            assert_eq!(parse(neither), Err(KeyError::Unknown { bytes: 32, what: "text" }));
        }
        // What is no such text is raw, letters or not.
        for raw in [*b"32 bytes of which some are none.", *b"\x8032345678901234567890123456789\n\n"]
        {
            assert_eq!(Key::parse(&raw).map(|key| *key.secret()), Ok(raw));
        }
    }

    proptest! {
        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = Key::parse(&content);
        }
    }
}
