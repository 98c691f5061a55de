//! The nodes that hold one generation's shares, as its certificate names them.

use quorate_documents::{Certificate, Statement};
use quorate_schemes::group::{PointError, Ristretto};
use quorate_schemes::sharing::{CommitmentError, PublicShares};
use quorate_types::{Generation, KeyId, KeyVersion, NodeId, ParticipantIndex, Threshold};

/// The committee of one generation: who holds which share, and what answers are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    key: KeyId,
    version: KeyVersion,
    generation: Generation,
    public: PublicShares,
    /// In the order of indices.
    nodes: Vec<NodeId>,
}

/// Why a certificate's statement names no committee: its commitments, which documents keep as bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// A commitment that is no element.
    #[error("commitment {position} of the certificate is no element")]
    Point {
        /// Its position, from 0.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: PointError,
    },
    /// The commitments are not a sharing.
    #[error("the certificate's commitments are no sharing")]
    Commitments(#[from] CommitmentError),
}

impl Committee {
    /// The committee that a certificate names.
    ///
    /// # Errors
    /// [`CommitteeError`].
    pub fn new(certificate: &Certificate) -> Result<Self, CommitteeError> {
        Self::from_statement(certificate.statement())
    }

    /// The committee that a statement names, whoever signed it.
    ///
    /// # Security
    /// Believes the statement. Take it from a verified [`Certificate`], or use [`Committee::new`].
    ///
    /// # Errors
    /// [`CommitteeError`].
    pub fn from_statement(statement: &Statement) -> Result<Self, CommitteeError> {
        let commitments = statement
            .commitments()
            .iter()
            .enumerate()
            .map(|(position, bytes)| {
                Ristretto::decode_point(bytes)
                    .map_err(|source| CommitteeError::Point { position, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            key: statement.key(),
            version: statement.version(),
            generation: statement.generation(),
            public: PublicShares::from_commitments(statement.threshold(), &commitments)?,
            nodes: statement.participants().iter().map(|m| m.node).collect(),
        })
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The version of the key.
    #[must_use]
    pub const fn version(&self) -> KeyVersion {
        self.version
    }

    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// T-of-N.
    #[must_use]
    pub fn threshold(&self) -> Threshold {
        self.public.threshold()
    }

    /// The verifying key and shares.
    #[must_use]
    pub const fn public(&self) -> &PublicShares {
        &self.public
    }

    /// The nodes, in the order of their indices.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The index that a node holds the share of.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<ParticipantIndex> {
        let position = self.nodes.iter().position(|n| *n == node)?;
        ParticipantIndex::new(u32::try_from(position).ok()?.checked_add(1)?, self.threshold()).ok()
    }
}
