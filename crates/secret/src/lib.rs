//! Secret newtypes: boxed, zeroized, redacted in `Debug`, compared in constant time, not `Clone`.
//!
//! No IO. A secret leaves its type only through [`Secret::reveal`], and every caller says why.
#![forbid(unsafe_code)]

use core::fmt;

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

/// `N` secret bytes on the heap: moving the value moves a pointer and leaves no copy on the stack.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// A secret of zeros, to be filled in place through `fill`.
    pub fn from_fn(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut bytes = Box::new([0; N]);
        fill(&mut bytes);
        Self(bytes)
    }

    /// A fresh uniform secret.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        Self::from_fn(|bytes| rng.fill_bytes(bytes))
    }

    /// Takes the bytes over and zeroizes where they came from.
    pub fn take(from: &mut [u8; N]) -> Self {
        let secret = Self::from_fn(|bytes| bytes.copy_from_slice(from));
        from.zeroize();
        secret
    }

    /// A secret from a slice, which stays as it is: the caller zeroizes it.
    ///
    /// Returns `None` when the slice has another length.
    #[must_use]
    pub fn from_slice(from: &[u8]) -> Option<Self> {
        (from.len() == N).then(|| Self::from_fn(|bytes| bytes.copy_from_slice(from)))
    }

    /// The bytes, for computing with or for sealing. Never log, format or send what this returns.
    #[must_use]
    pub fn reveal(&self) -> &[u8; N] {
        &self.0
    }

    /// A second copy, named so that it is seen in review; both are zeroized when dropped.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::from_fn(|bytes| bytes.copy_from_slice(&*self.0))
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(redacted)")
    }
}

/// Secret bytes of a length known at run time: a decrypted row, a passphrase.
pub struct SecretVec(Zeroizing<Vec<u8>>);

impl SecretVec {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Never log, format or send what this returns.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretVec(redacted)")
    }
}

macro_rules! newtype {
    ($($(#[$doc:meta])* $name:ident, $len:literal;)*) => {$(
        $(#[$doc])*
        pub struct $name(Secret<$len>);

        impl $name {
            /// Wraps the secret bytes.
            #[must_use]
            pub fn new(secret: Secret<$len>) -> Self {
                Self(secret)
            }

            /// A fresh uniform one.
            pub fn random(rng: &mut dyn CryptoRng) -> Self {
                Self(Secret::random(rng))
            }

            /// The bytes, for computing with or for sealing. Never log, format or send what this returns.
            #[must_use]
            pub fn reveal(&self) -> &[u8; $len] {
                self.0.reveal()
            }

            /// A second copy, named so that it is seen in review.
            #[must_use]
            pub fn duplicate(&self) -> Self {
                Self(self.0.duplicate())
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

newtype! {
    /// The 64-byte output of the PRF for one label: input to the KEK, nothing else.
    PrfOutput, 64;
    /// A key-encryption key: HKDF-Expand input for one stanza.
    Kek, 64;
    /// The key of one object or one of the application's own data keys.
    DataKey, 32;
    /// A node's root key, which wraps every other secret that the node stores.
    RootKey, 32;
    /// A customer's fragment, which never leaves the customer.
    Fragment, 32;
    /// HMAC-SHA-256(fragment, tag || label): what a fragment contributes to one KEK.
    CustomerTerm, 32;
    /// An Ed25519 seed (RFC 8032 section 5.1.5).
    SigningSeed, 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let key = DataKey::new(Secret::from_fn(|b| b.fill(0x41)));
        assert_eq!(format!("{key:?}"), "DataKey(redacted)");
        assert_eq!(format!("{:?}", SecretVec::new(vec![0x41; 4])), "SecretVec(redacted)");
    }

    #[test]
    fn take_wipes_its_source() {
        let mut source = [9u8; 32];
        let secret = Secret::take(&mut source);
        assert_eq!(source, [0; 32]);
        assert_eq!(secret.reveal(), &[9; 32]);
    }

    #[test]
    fn equality_compares_every_byte() {
        let one = Secret::<2>::from_fn(|b| *b = [1, 2]);
        let two = Secret::<2>::from_fn(|b| *b = [1, 3]);
        assert!(bool::from(one.ct_eq(&one.duplicate())));
        assert!(!bool::from(one.ct_eq(&two)));
    }
}
