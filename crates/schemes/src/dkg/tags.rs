//! Every tag that this module hashes under, in one place: the transcripts of what Quorate adds
//! to COCKTAIL-DKG. COCKTAIL's own prefixes belong to its suites.

/// Proof of knowledge of a receive or an ephemeral key: the statement.
pub(crate) const POSSESSION: &str = "dkg-possession";
/// Proof of knowledge: the challenge.
pub(crate) const POSSESSION_CHALLENGE: &str = "dkg-possession-challenge";
/// Proof of knowledge: the nonce.
pub(crate) const POSSESSION_NONCE: &str = "dkg-possession-nonce";
/// What a receive key is expanded from its seed under.
pub(crate) const RECEIVE_KEY: &str = "dkg-receive-key";
/// What coefficients, ephemeral key and proof randomness are expanded from the round-1 seed under.
pub(crate) const ROUND1: &str = "dkg-round1-expansion";
/// A leaf of a dealer's ciphertext tree.
pub(crate) const MERKLE_LEAF: &str = "dkg-ciphertext-leaf";
/// An inner node of a dealer's ciphertext tree.
pub(crate) const MERKLE_NODE: &str = "dkg-ciphertext-node";
/// COCKTAIL's application-specific extension.
pub(crate) const EXTENSION: &str = "dkg-extension";
/// The digest of COCKTAIL's transcript, which names the generation.
pub(crate) const TRANSCRIPT: &str = "dkg-transcript";
/// Evidence, equality of discrete logarithms: the statement.
pub(crate) const EVIDENCE: &str = "dkg-evidence";
/// Evidence: the challenge.
pub(crate) const EVIDENCE_CHALLENGE: &str = "dkg-evidence-challenge";
/// Evidence: the nonce.
pub(crate) const EVIDENCE_NONCE: &str = "dkg-evidence-nonce";

/// Reshare, proof of knowledge: the statement.
pub(crate) const RESHARE_POSSESSION: &str = "reshare-possession";
/// Reshare, proof of knowledge: the challenge.
pub(crate) const RESHARE_POSSESSION_CHALLENGE: &str = "reshare-possession-challenge";
/// What a reshare's coefficients, ephemeral key and proof randomness are expanded from the seed under.
pub(crate) const RESHARE_ROUND1: &str = "reshare-round1-expansion";
/// What a reshare's transcript is extended by.
pub(crate) const RESHARE_EXTENSION: &str = "reshare-extension";
/// The digest of a reshare's transcript, which names the generation.
pub(crate) const RESHARE_TRANSCRIPT: &str = "reshare-transcript";
