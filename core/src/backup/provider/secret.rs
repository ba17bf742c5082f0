//! Credentials, and the values of keys that may be some: nothing shows them, and nothing keeps them longer than needed.

use serde::ser::{Serialize, Serializer};
use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// A credential. Shows as `***`, in `Debug` and when written out.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(pub(super) String);

/// A value as it is in the file.
pub(super) enum Given {
    Text(Secret),
    /// What it is instead is not kept: it may be a credential without its quotes.
    NoText,
}

impl Secret {
    /// The credential itself, for the store's client only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl de::Visitor<'_> for Any {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Text(Secret(text.into())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Given, E> {
                Ok(Given::Text(Secret(text)))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Given, E> {
                Ok(Given::NoText)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Given, E> {
                Ok(Given::NoText)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Given, E> {
                Ok(Given::NoText)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Given, E> {
                Ok(Given::NoText)
            }
        }
        // Not as a string: some formats would then complain themselves, and repeat the value.
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
