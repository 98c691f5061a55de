//! Fixed-length identifiers with one text form each: a prefix and lower-case base32 (RFC 4648 section 6, no padding).

use core::fmt;
use core::str::FromStr;

use data_encoding::{Encoding, Specification};

fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The alphabet is a constant of 32 distinct ASCII symbols, which is all that `encoding` checks.
    spec.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
}

/// Why a text or byte string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not begin with this kind's prefix.
    #[error("expected an identifier that begins with \"{expected}\"")]
    Prefix {
        /// The prefix that this kind of identifier carries.
        expected: &'static str,
    },
    /// The rest of the text is not canonical lower-case base32.
    #[error("the identifier is not lower-case base32 (a-z, 2-7)")]
    Encoding,
    /// The identifier has the wrong length in bytes.
    #[error("the identifier has {found} bytes where {expected} are expected")]
    Length {
        /// The length that this kind of identifier has.
        expected: usize,
        /// The length found.
        found: usize,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// An identifier from its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// An identifier from a slice.
            ///
            /// # Errors
            /// [`IdError::Length`] when the slice has another length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length {
                    expected: $len,
                    found: bytes.len(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, base32().encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let rest = text
                    .strip_prefix($prefix)
                    .ok_or(IdError::Prefix { expected: $prefix })?;
                let bytes = base32().decode(rest.as_bytes()).map_err(|_| IdError::Encoding)?;
                Self::from_slice(&bytes)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A node: 16 random bytes chosen at `node init`. It outlives the node's rotating identity keys.
    NodeId, 16, "node-"
);
id!(
    /// A cluster: the digest of the first version of its roster.
    ClusterId, 32, "cluster-"
);
id!(
    /// A document: the digest of its first version, which contains 16 random bytes.
    DocumentId, 32, "doc-"
);
id!(
    /// A key: the [`DocumentId`] of its key document.
    KeyId, 32, "key-"
);
id!(
    /// A tenant: the [`DocumentId`] of its tenant document.
    TenantId, 32, "tenant-"
);
id!(
    /// A principal: the [`DocumentId`] of its principal document.
    PrincipalId, 32, "principal-"
);
id!(
    /// A 32-byte digest: a tagged SHA-512 transcript, truncated.
    Digest, 32, "digest-"
);
id!(
    /// One sharing of a key version, named by the digest of its DKG or reshare transcript.
    Generation, 32, "gen-"
);
id!(
    /// One ceremony session.
    SessionId, 32, "session-"
);
id!(
    /// A sealed object: 32 random bytes in its prologue.
    ObjectId, 32, "object-"
);

macro_rules! document_kind {
    ($($name:ident),*) => {$(
        impl From<DocumentId> for $name {
            fn from(id: DocumentId) -> Self {
                Self(*id.as_bytes())
            }
        }
        impl From<$name> for DocumentId {
            fn from(id: $name) -> Self {
                Self(*id.as_bytes())
            }
        }
    )*};
}
document_kind!(KeyId, TenantId, PrincipalId, ClusterId);

impl From<Digest> for DocumentId {
    fn from(digest: Digest) -> Self {
        Self(*digest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_names_what_is_wrong() {
        let id = KeyId::from_bytes([7; 32]);
        assert_eq!(id.to_string().parse::<KeyId>(), Ok(id));
        assert_eq!("node-aaaa".parse::<KeyId>(), Err(IdError::Prefix { expected: "key-" }));
        assert_eq!("key-AAAA".parse::<KeyId>(), Err(IdError::Encoding));
        assert_eq!("key-aa".parse::<KeyId>(), Err(IdError::Length { expected: 32, found: 1 }));
    }

    #[test]
    fn non_canonical_trailing_bits_are_refused() {
        // 16 bytes are 26 symbols with 2 spare bits, which must be zero.
        let good = NodeId::from_bytes([0; 16]).to_string();
        let mut bad = good.clone();
        bad.pop();
        bad.push('b');
        assert_eq!(bad.parse::<NodeId>(), Err(IdError::Encoding));
    }
}
