//! The transcript that everybody signs: `CanonicalEncode` (algorithm 6), and parsing it for recovery.

use quorate_types::{Threshold, ThresholdError};

use super::round1::Round1Broadcast;
use super::setup::{Setup, SetupError};
use crate::dkg::suite::Suite;

/// The canonical bytes of a session's public face.
#[must_use]
pub fn encode_transcript<'a, S: Suite>(
    setup: &Setup<S>,
    broadcasts: impl Iterator<Item = &'a Round1Broadcast<S>> + Clone,
    extension: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let framed = |bytes: &mut Vec<u8>, field: &[u8]| {
        bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
        bytes.extend_from_slice(field);
    };
    framed(&mut bytes, S::ID.as_bytes());
    framed(&mut bytes, setup.context());
    bytes.extend_from_slice(&u32::from(setup.threshold().n()).to_le_bytes());
    bytes.extend_from_slice(&u32::from(setup.threshold().t()).to_le_bytes());
    for key in setup.receive_keys() {
        bytes.extend_from_slice(key.as_ref());
    }
    for broadcast in broadcasts.clone() {
        for commitment in &broadcast.commitments {
            bytes.extend_from_slice(commitment.as_ref());
        }
    }
    for broadcast in broadcasts.clone() {
        bytes.extend_from_slice(broadcast.pop.as_ref());
    }
    for broadcast in broadcasts {
        bytes.extend_from_slice(broadcast.ephemeral.as_ref());
    }
    framed(&mut bytes, extension);
    bytes
}

/// A transcript, taken apart.
#[derive(Debug, Clone)]
pub struct ParsedTranscript<S: Suite> {
    /// Context, T-of-N and receive keys.
    pub setup: Setup<S>,
    /// Every dealer's message, in the order of indices.
    pub broadcasts: Vec<Round1Broadcast<S>>,
    /// The application's extension.
    pub extension: Vec<u8>,
}

/// Why bytes are not a transcript of this suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// Another suite's, or no transcript at all.
    #[error("the transcript is not of the suite {0}")]
    Suite(&'static str),
    /// It ends too early or too late.
    #[error("the transcript's length does not fit its content")]
    Length,
    /// No possible T-of-N.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// Its receive keys are no setup.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Parses a transcript strictly: of this suite, to the last byte.
///
/// # Errors
/// [`TranscriptError`].
pub fn parse_transcript<S: Suite>(bytes: &[u8]) -> Result<ParsedTranscript<S>, TranscriptError> {
    let mut rest = bytes;
    if framed(&mut rest)? != S::ID.as_bytes() {
        return Err(TranscriptError::Suite(S::ID));
    }
    let context = framed(&mut rest)?.to_vec();
    let (n, t) = (number(&mut rest)?, number(&mut rest)?);
    let narrow = |v: u32| u16::try_from(v).map_err(|_| ThresholdError::TooMany { n: u16::MAX });
    let threshold = Threshold::new(narrow(t)?, narrow(n)?)?;
    let n = usize::from(threshold.n());
    let keys = array::<S::PointBytes>(&mut rest, n)?;
    let mut commitments = Vec::with_capacity(n);
    for _ in 0..n {
        commitments.push(array::<S::PointBytes>(&mut rest, usize::from(threshold.t()))?);
    }
    let pops = array::<S::SignatureBytes>(&mut rest, n)?;
    let ephemerals = array::<S::PointBytes>(&mut rest, n)?;
    let extension = framed(&mut rest)?.to_vec();
    if !rest.is_empty() {
        return Err(TranscriptError::Length);
    }
    let broadcasts = commitments
        .into_iter()
        .zip(pops)
        .zip(ephemerals)
        .map(|((commitments, pop), ephemeral)| Round1Broadcast { commitments, pop, ephemeral })
        .collect();
    let setup = Setup::with_context(context, threshold, &keys)?;
    Ok(ParsedTranscript { setup, broadcasts, extension })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], TranscriptError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(TranscriptError::Length)?;
    *rest = tail;
    Ok(head)
}

fn framed<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], TranscriptError> {
    let head = take(rest, 8)?.try_into().map_err(|_| TranscriptError::Length)?;
    let length = usize::try_from(u64::from_le_bytes(head)).map_err(|_| TranscriptError::Length)?;
    take(rest, length)
}

fn number(rest: &mut &[u8]) -> Result<u32, TranscriptError> {
    let four = take(rest, 4)?.try_into().map_err(|_| TranscriptError::Length)?;
    Ok(u32::from_le_bytes(four))
}

fn array<T: for<'a> TryFrom<&'a [u8]>>(
    rest: &mut &[u8],
    count: usize,
) -> Result<Vec<T>, TranscriptError> {
    let item = size_of::<T>();
    (0..count)
        .map(|_| T::try_from(take(rest, item)?).map_err(|_| TranscriptError::Length))
        .collect()
}
