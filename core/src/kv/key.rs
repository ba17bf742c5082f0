//! Keys as the state holds them: short ones without an allocation of their own, long ones shared.
//!
//! A tree with a million keys compares them all the time; bytes that lie in the tree's own nodes save a cache miss each.
//! Nothing pins the buffer a key arrived in.

use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

const INLINE_BYTES_MAX: usize = 30;

/// A key. Orders as its bytes do.
#[derive(Clone)]
pub(super) struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Shared(Arc<[u8]>),
}

impl Key {
    /// The key before all others.
    pub(super) const EMPTY: Key = Key(Repr::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] });

    /// A copy of these bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        if key.len() > INLINE_BYTES_MAX {
            return Key(Repr::Shared(key.into()));
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Key(Repr::Inline { len: key.len() as u8, bytes })
    }

    /// The bytes, for an answer.
    pub(super) fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Inline { len, bytes } => Bytes::copy_from_slice(&bytes[..usize::from(*len)]),
            Repr::Shared(bytes) => Bytes::from_owner(bytes.clone()),
        }
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_takes_four_words() {
        assert_eq!(size_of::<Key>(), 32);
    }

    proptest! {
        #[test]
        fn keys_hold_and_order_as_their_bytes(
            a in proptest::collection::vec(any::<u8>(), 0..64),
            b in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let (x, y) = (Key::new(&a), Key::new(&b));
            prop_assert_eq!(&x[..], &a[..]);
            prop_assert_eq!(&x.to_bytes()[..], &a[..]);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
