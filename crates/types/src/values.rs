//! Key specs, usages, states, versions and times.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

/// What kind of key this is: the group, the hash and the function computed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeySpec {
    /// RFC 9497 `OPRF(ristretto255, SHA-512)` in VOPRF mode, thresholdised. The default for encryption.
    PrfRistretto255Sha512,
}

impl KeySpec {
    /// All key specs.
    pub const ALL: [Self; 1] = [Self::PrfRistretto255Sha512];

    /// The name in documents and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrfRistretto255Sha512 => "PRF_RISTRETTO255_SHA512",
        }
    }

    /// The number on the wire and in labels, from 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::PrfRistretto255Sha512 => 1,
        }
    }

    /// The key spec with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| u32::from(s.number()) == number)
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyUsage {
    /// Deriving key-encryption keys of objects and data keys.
    EncryptDecrypt,
}

impl KeyUsage {
    /// The number on the wire, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::EncryptDecrypt => 1,
        }
    }

    /// The usage with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::EncryptDecrypt),
            _ => None,
        }
    }

    /// The name in documents and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncryptDecrypt => "ENCRYPT_DECRYPT",
        }
    }
}

/// The states of NIST SP 800-57 part 1 rev. 5 section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Not to be used yet.
    PreActivation,
    /// In use.
    Active,
    /// Held back for a while.
    Suspended,
    /// Opens old objects, makes no new ones.
    Deactivated,
    /// Known or thought to have leaked.
    Compromised,
    /// Gone.
    Destroyed,
}

impl KeyState {
    /// All states, in the order of their wire numbers.
    pub const ALL: [Self; 6] = [
        Self::PreActivation,
        Self::Active,
        Self::Suspended,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
    ];

    /// The number on the wire, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::PreActivation => 1,
            Self::Active => 2,
            Self::Suspended => 3,
            Self::Deactivated => 4,
            Self::Compromised => 5,
            Self::Destroyed => 6,
        }
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number() == number)
    }

    /// The name in documents and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActivation => "pre-activation",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version of a key, from 1. Rotation adds the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(NonZeroU32);

impl KeyVersion {
    /// The version that a key begins with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version with this number; none is numbered 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// Its number, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The version that a rotation adds.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for KeyVersion {
    type Err = core::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds. Pure crates are handed it, and never ask a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// How far apart two times are, in seconds.
    #[must_use]
    pub const fn abs_diff(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }

    /// This time and `seconds` more, at most the end of time.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
