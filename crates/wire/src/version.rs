//! Versions of requests: which this build speaks, and how a request is written in each.
//!
//! In memory a request has one form, that of the newest version. [`Versioned`] writes and reads the older ones, so no
//! other code knows of them. What is signed (documents, rounds of ceremonies, certificates) is not versioned here: its
//! payload type says its version, and it is the same bytes in requests of every version.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use prost::Message;

use crate::proto::v1;
use crate::strict::DecodeError;

/// A build of the version after this one, for tests of upgrades; never released. It speaks one version of requests more, and
/// knows one format of stores more.
pub const IS_NEXT_BUILD: bool = cfg!(feature = "next-wire");

/// This software and its version, as nodes say it and as stores remember it.
pub const SOFTWARE: &str = if IS_NEXT_BUILD {
    concat!("quorate ", env!("CARGO_PKG_VERSION"), "+next-wire")
} else {
    concat!("quorate ", env!("CARGO_PKG_VERSION"))
};

/// The version that a request is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireVersion(NonZeroU32);

impl WireVersion {
    /// The first, which a request without a version is written in.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// A version by its number.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that is no version, or no versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version of the node protocol")]
pub struct VersionError;

impl FromStr for WireVersion {
    type Err = VersionError;

    /// Decimal digits without leading zeros.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits || text.starts_with('0') {
            return Err(VersionError);
        }
        text.parse().ok().and_then(Self::new).ok_or(VersionError)
    }
}

/// All versions from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Versions {
    lowest: WireVersion,
    highest: WireVersion,
}

impl Versions {
    /// Those that this build speaks. A release speaks what the release before it spoke, so that nodes and clients of two
    /// releases that follow each other work together.
    pub const SPOKEN: Self = Self {
        lowest: WireVersion::FIRST,
        highest: match WireVersion::new(if IS_NEXT_BUILD { 2 } else { 1 }) {
            Some(highest) => highest,
            None => WireVersion::FIRST,
        },
    };

    /// From the lowest to the highest; nothing where that is no range.
    #[must_use]
    pub const fn new(lowest: u32, highest: u32) -> Option<Self> {
        match (WireVersion::new(lowest), WireVersion::new(highest)) {
            (Some(from), Some(to)) if lowest <= highest => Some(Self { lowest: from, highest: to }),
            _ => None,
        }
    }

    /// The lowest of them.
    #[must_use]
    pub const fn lowest(self) -> WireVersion {
        self.lowest
    }

    /// The highest of them.
    #[must_use]
    pub const fn highest(self) -> WireVersion {
        self.highest
    }

    /// Whether a version is one of them.
    #[must_use]
    pub fn contain(self, version: WireVersion) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }

    /// The highest version that both have.
    #[must_use]
    pub fn highest_common(self, other: Self) -> Option<WireVersion> {
        let common = self.highest.min(other.highest);
        (self.contain(common) && other.contain(common)).then_some(common)
    }

    /// Their numbers, the lowest first.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        self.lowest.get()..=self.highest.get()
    }
}

impl fmt::Display for Versions {
    /// `1`, or `1-2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lowest == self.highest {
            return self.lowest.fmt(f);
        }
        write!(f, "{}-{}", self.lowest, self.highest)
    }
}

impl FromStr for Versions {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (lowest, highest) = match text.split_once('-') {
            Some((lowest, highest)) => (lowest.parse()?, highest.parse()?),
            None => {
                let only: WireVersion = text.parse()?;
                (only, only)
            }
        };
        Self::new(WireVersion::get(lowest), WireVersion::get(highest)).ok_or(VersionError)
    }
}

/// A request that can be written in every version that is spoken.
pub trait Versioned: Message + Default {
    /// The message's name.
    const NAME: &'static str;

    /// What version 2 says besides, in field 1000: one more than how many entries the request has. Version 2 exists in
    /// builds for tests alone ([`IS_NEXT_BUILD`]).
    fn entries(&self) -> Option<usize> {
        None
    }

    /// The one encoding in a version.
    fn encode_in(&self, version: WireVersion) -> Vec<u8> {
        let mut bytes = self.encode_to_vec();
        if version > WireVersion::FIRST
            && let Some(entries) = self.entries()
        {
            // One more than there are, so that an empty list is no default value.
            let number = u64::try_from(entries).unwrap_or(u64::MAX).saturating_add(1);
            prost::encoding::uint64::encode(ENTRIES_FIELD, &number, &mut bytes);
        }
        bytes
    }

    /// Reads the one encoding in a version, and no other: writing it again must give the same bytes. So a field of a later
    /// version is refused, and so is a request that lacks what its version has.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode_in(version: WireVersion, bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = Self::NAME;
        let decoded = Self::decode(bytes).map_err(|_| DecodeError::Malformed { message })?;
        if decoded.encode_in(version) != bytes {
            return Err(DecodeError::NotCanonical { message });
        }
        Ok(decoded)
    }
}

/// The field that version 2 puts behind all others of the requests that have entries.
const ENTRIES_FIELD: u32 = 1000;

macro_rules! versioned {
    ($($message:ident $(has $entries:ident)?;)*) => {$(
        impl Versioned for v1::$message {
            const NAME: &'static str = stringify!($message);
            $(fn entries(&self) -> Option<usize> {
                Some(self.$entries.len())
            })?
        }
    )*};
}

versioned! {
    InfoRequest;
    StatusRequest;
    PutDocumentsRequest;
    GetDocumentsRequest;
    GetKeyRequest;
    ListKeysRequest;
    EvaluateRequest has items;
    DkgOpenRequest;
    DkgDealRequest has round0;
    DkgSignRequest has round1;
    DkgSignatureRequest;
    PutCertificateRequest;
    CeremonyBatchRequest has calls;
    ReshareStateRequest;
    ReshareOpenRequest;
    ReshareDealRequest has round0;
    ReshareSignRequest has round1;
    GetAuditRequest;
    GetProofRequest;
    PutMarksRequest;
    GetUsageRequest;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict;

    fn versions(lowest: u32, highest: u32) -> Versions {
        Versions::new(lowest, highest).unwrap()
    }

    #[test]
    fn versions_are_one_range_in_one_form() {
        for (text, lowest, highest) in [("1", 1, 1), ("1-2", 1, 2), ("7-12", 7, 12)] {
            assert_eq!(text.parse(), Ok(versions(lowest, highest)));
            assert_eq!(versions(lowest, highest).to_string(), text);
        }
        for bad in ["", "0", "01", "+1", " 1", "1-", "-1", "2-1", "0-1", "1-2-3", "4294967296", "x"]
        {
            assert_eq!(bad.parse::<Versions>(), Err(VersionError), "{bad}");
        }
        assert_eq!(Versions::SPOKEN.numbers().next(), Some(1));
    }

    #[test]
    fn the_highest_common_version_is_spoken_by_both() {
        let common = |a: Versions, b: Versions| {
            assert_eq!(a.highest_common(b), b.highest_common(a));
            a.highest_common(b).map(WireVersion::get)
        };
        assert_eq!(common(versions(1, 1), versions(1, 2)), Some(1));
        assert_eq!(common(versions(1, 3), versions(2, 5)), Some(3));
        assert_eq!(common(versions(2, 2), versions(2, 2)), Some(2));
        assert_eq!(common(versions(1, 1), versions(2, 3)), None);
    }

    /// A request of one version is none of the other, in both directions: in the requests of evaluations and of
    /// ceremonies something is different. Fails where `encode_in` writes the same in both, and where `decode_in` skips what it
    /// does not know.
    #[test]
    fn a_request_is_read_in_its_own_version_alone() {
        let (first, second) = (WireVersion::FIRST, WireVersion::new(2).unwrap());
        let evaluate = v1::EvaluateRequest {
            node: vec![1; 16],
            items: vec![v1::Item { nonce: vec![2; 24], ..v1::Item::default() }; 3],
            ..v1::EvaluateRequest::default()
        };
        let batch = v1::CeremonyBatchRequest { node: vec![1; 16], calls: Vec::new() };
        fn check<M: Versioned + PartialEq + fmt::Debug>(
            request: &M,
            first: WireVersion,
            second: WireVersion,
        ) {
            let [old, new] = [first, second].map(|version| request.encode_in(version));
            assert_eq!(old, strict::encode(request));
            assert_eq!(M::decode_in(first, &old).as_ref(), Ok(request));
            assert_eq!(M::decode_in(second, &new).as_ref(), Ok(request));
            let refused = Err(DecodeError::NotCanonical { message: M::NAME });
            assert_eq!(M::decode_in(second, &old), refused);
            assert_eq!(M::decode_in(first, &new), refused);
            assert_eq!(strict::decode::<M>(M::NAME, &new), refused);
        }
        check(&evaluate, first, second);
        check(&batch, first, second);
        // Another number of entries than there are.
        let mut wrong = strict::encode(&evaluate);
        prost::encoding::uint64::encode(ENTRIES_FIELD, &3, &mut wrong);
        assert!(v1::EvaluateRequest::decode_in(second, &wrong).is_err());
        // What has no entries is the same in both.
        let key = v1::GetKeyRequest { node: vec![1; 16], ..v1::GetKeyRequest::default() };
        assert_eq!(key.encode_in(first), key.encode_in(second));
    }
}
