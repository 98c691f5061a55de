//! From the nodes' answer to a key-encryption key, with what a customer adds to it.
//!
//! KEK = HKDF-SHA-512 (RFC 5869) of the PRF output and the customer term, bound to the label and to
//! one stanza's salt. So two stanzas never share a KEK, also when they share a label.

use core::fmt;

use hkdf::HkdfExtract;
use hmac::Mac;
use quorate_secret::{CustomerTerm, Fragment, Kek, PrfOutput, Secret};
use quorate_wire::Label;
use sha2::Sha512;
use zeroize::{Zeroize, Zeroizing};

use crate::expand::{expand, hmac_sha256};

/// HKDF-Extract's salt.
const KEK_SALT: &[u8] = b"Quorate-v1 KEK\0";
/// Begins the message of a customer term.
const TERM_TAG: &[u8] = b"Quorate-v1 customer term\0";
/// The message of a fragment's check value.
const FRAGMENT_TAG: &[u8] = b"Quorate-v1 fragment check value\0";

/// Bytes of a fragment's check value.
pub const FRAGMENT_ID_BYTES: usize = 16;
/// Bytes of a stanza's salt.
pub const STANZA_SALT_BYTES: usize = 32;

/// A fragment's check value: names the fragment in headers and gives nothing of it away.
///
/// The first 16 bytes of HMAC-SHA-256(fragment, tag); a fragment has 256 random bits, so there is
/// nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentId([u8; FRAGMENT_ID_BYTES]);

impl FragmentId {
    /// The check value of a fragment.
    #[must_use]
    pub fn of(fragment: &Fragment) -> Self {
        let mut mac = hmac_sha256(fragment.reveal());
        mac.update(FRAGMENT_TAG);
        let full = mac.finalize().into_bytes();
        let mut id = [0; FRAGMENT_ID_BYTES];
        for (to, from) in id.iter_mut().zip(full) {
            *to = from;
        }
        Self(id)
    }

    /// A check value from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; FRAGMENT_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; FRAGMENT_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fragment-{}", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The text is not a fragment's check value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fragment's check value is fragment- and 32 hexadecimal digits")]
pub struct NotAFragmentId;

impl core::str::FromStr for FragmentId {
    type Err = NotAFragmentId;

    fn from_str(text: &str) -> Result<Self, NotAFragmentId> {
        let hex = text.strip_prefix("fragment-").ok_or(NotAFragmentId)?;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).map_err(|_| NotAFragmentId)?;
        bytes.try_into().map(Self).map_err(|_| NotAFragmentId)
    }
}

impl fmt::Debug for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a stanza carries and how its KEK is made: 16 bits, most of which must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(u16);

/// Bits that this version does not know, or knows to be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stanza has unknown flags {0:#06x}; a newer version of Quorate may know them")]
pub struct UnknownFlags(pub u16);

impl Flags {
    /// The customer term is part of the KEK, and the fragment's check value of the stanza.
    pub const CUSTOMER_TERM: u16 = 0x0001;
    /// The stanza carries the encryption context in clear.
    pub const STORED_CONTEXT: u16 = 0x0002;
    /// Reserved for a post-quantum symmetric term. Refused by this version.
    pub const RESERVED_POST_QUANTUM_TERM: u16 = 0x0100;

    /// The flags of a stanza that carries these.
    #[must_use]
    pub const fn new(customer_term: bool, stored_context: bool) -> Self {
        let mut bits = 0;
        if customer_term {
            bits |= Self::CUSTOMER_TERM;
        }
        if stored_context {
            bits |= Self::STORED_CONTEXT;
        }
        Self(bits)
    }

    /// Flags as they were read.
    ///
    /// # Errors
    /// [`UnknownFlags`] when any bit but the two above is set.
    pub const fn from_bits(bits: u16) -> Result<Self, UnknownFlags> {
        let unknown = bits & !(Self::CUSTOMER_TERM | Self::STORED_CONTEXT);
        if unknown == 0 { Ok(Self(bits)) } else { Err(UnknownFlags(unknown)) }
    }

    /// The 16 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the customer term is part of the KEK.
    #[must_use]
    pub const fn customer_term(self) -> bool {
        self.0 & Self::CUSTOMER_TERM != 0
    }

    /// Whether the stanza carries the encryption context.
    #[must_use]
    pub const fn stored_context(self) -> bool {
        self.0 & Self::STORED_CONTEXT != 0
    }
}

/// Why there is no KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// The stanza needs a customer term and none was given.
    #[error("this object needs the customer fragment {0}")]
    FragmentNeeded(FragmentId),
    /// A customer term was given for a stanza that has none.
    #[error("this object was sealed without a customer fragment, but one was given")]
    FragmentNotExpected,
    /// Another fragment than the one named.
    #[error("this object needs the customer fragment {needed}, not {found}")]
    WrongFragment {
        /// The fragment that the stanza names.
        needed: FragmentId,
        /// The check value of the one given.
        found: FragmentId,
    },
}

/// What a fragment contributes to the KEKs of one label: HMAC-SHA-256(fragment, tag ‖ label).
/// One fragment serves any number of keys, and its terms say nothing of one another.
#[must_use]
pub fn customer_term(fragment: &Fragment, label: &Label) -> CustomerTerm {
    let mut mac = hmac_sha256(fragment.reveal());
    mac.update(TERM_TAG);
    mac.update(&label.canonical_bytes());
    let mut term = mac.finalize().into_bytes();
    let secret = Secret::from_fn(|bytes| bytes.copy_from_slice(&term));
    term.as_mut_slice().zeroize();
    CustomerTerm::new(secret)
}

/// The KEK of one stanza. `fragment` is the check value that the stanza names, or none; `term` must
/// be there exactly then.
///
/// # Errors
/// [`KekError`] when `fragment` and `term` disagree.
///
/// # Security
/// Never derive two keys' worth of wrapping from one salt: [`crate::StanzaPlan`] draws a fresh one
/// and is consumed by sealing.
pub fn derive(
    prf: &PrfOutput,
    term: Option<&CustomerTerm>,
    flags: Flags,
    label: &Label,
    fragment: Option<FragmentId>,
    salt: &[u8; STANZA_SALT_BYTES],
) -> Result<Kek, KekError> {
    let mut extract = HkdfExtract::<Sha512>::new(Some(KEK_SALT));
    extract.input_ikm(prf.reveal());
    match (fragment, term) {
        (Some(_), Some(term)) => extract.input_ikm(term.reveal()),
        (Some(needed), None) => return Err(KekError::FragmentNeeded(needed)),
        (None, Some(_)) => return Err(KekError::FragmentNotExpected),
        (None, None) => {}
    }
    let (mut output, _) = extract.finalize();
    let mut prk = Zeroizing::new([0; 64]);
    prk.copy_from_slice(&output);
    output.as_mut_slice().zeroize();

    let label = label.canonical_bytes();
    // Labels have 202 bytes and are bounded by 1024, so the length fits its two bytes.
    let length = (label.len() as u16).to_be_bytes();
    let flags = flags.bits().to_be_bytes();
    let fragment_bytes: &[u8] = fragment.as_ref().map_or(&[], |id| id.as_bytes());
    let info = [&flags, &length, label.as_slice(), fragment_bytes, salt];
    Ok(Kek::new(Secret::from_fn(|kek| expand(&prk, &info, kek))))
}

#[cfg(test)]
mod tests {
    use quorate_types::{
        Digest, KeyId, KeySpec, KeyVersion, PrincipalId, Purpose, TenantId, UnixSeconds,
    };

    use super::*;

    fn label(nonce: u8) -> Label {
        Label {
            purpose: Purpose::ObjectKey,
            spec: KeySpec::PrfRistretto255Sha512,
            tenant: TenantId::from_bytes([1; 32]),
            key: KeyId::from_bytes([2; 32]),
            version: KeyVersion::FIRST,
            creator: PrincipalId::from_bytes([3; 32]),
            created_at: UnixSeconds(1_800_000_000),
            nonce: [nonce; 24],
            context_hash: Digest::from_bytes([5; 32]),
        }
    }

    fn prf(byte: u8) -> PrfOutput {
        PrfOutput::new(Secret::from_fn(|b| b.fill(byte)))
    }

    fn term(byte: u8) -> CustomerTerm {
        CustomerTerm::new(Secret::from_fn(|b| b.fill(byte)))
    }

    /// Leaving any one of them out of `derive` makes two of these equal: tried with flags, label,
    /// check value, salt and term.
    #[test]
    fn every_input_changes_the_kek() {
        let id = |byte| Some(FragmentId::from_bytes([byte; 16]));
        let (plain, stored) = (Flags::new(true, false), Flags::new(true, true));
        let keks = [
            derive(&prf(1), Some(&term(1)), plain, &label(1), id(1), &[1; 32]),
            derive(&prf(2), Some(&term(1)), plain, &label(1), id(1), &[1; 32]),
            derive(&prf(1), Some(&term(2)), plain, &label(1), id(1), &[1; 32]),
            derive(&prf(1), Some(&term(1)), stored, &label(1), id(1), &[1; 32]),
            derive(&prf(1), Some(&term(1)), plain, &label(2), id(1), &[1; 32]),
            derive(&prf(1), Some(&term(1)), plain, &label(1), id(2), &[1; 32]),
            derive(&prf(1), Some(&term(1)), plain, &label(1), id(1), &[2; 32]),
            derive(&prf(1), None, Flags::new(false, false), &label(1), None, &[1; 32]),
        ];
        let keks: Vec<[u8; 64]> = keks.map(|kek| *kek.unwrap().reveal()).to_vec();
        for (i, one) in keks.iter().enumerate() {
            assert!(keks.iter().skip(i + 1).all(|other| other != one));
        }
    }

    #[test]
    fn a_check_value_is_written_and_read() {
        let id = FragmentId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "fragment-", "fragment-ab", &id.to_string()[9..], "fragment-XX"] {
            assert_eq!(bad.parse::<FragmentId>(), Err(NotAFragmentId), "{bad}");
        }
    }

    #[test]
    fn a_term_is_of_one_fragment_and_one_label() {
        let fragment = |byte| Fragment::new(Secret::from_fn(|b| b.fill(byte)));
        let term = |f, l| *customer_term(&fragment(f), &label(l)).reveal();
        assert_eq!(term(1, 1), term(1, 1));
        assert_ne!(term(1, 1), term(2, 1));
        assert_ne!(term(1, 1), term(1, 2));
        assert_ne!(FragmentId::of(&fragment(1)), FragmentId::of(&fragment(2)));
        assert_ne!(FragmentId::of(&fragment(1)).as_bytes()[..], term(1, 1)[..16]);
    }
}
