//! Orders to make key versions: who holds the shares.

use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, MAX_COMMITTEE};
use quorate_types::{Digest, KeyId, KeyVersion, NodeId, ParticipantIndex, Threshold};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, digests};

use crate::fields::{BodyError, count, distinct, fixed, public_key};

/// One member of a committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its Shamir evaluation point.
    pub index: ParticipantIndex,
    /// The node.
    pub node: NodeId,
    /// The identity key with which it takes part.
    pub identity_key: PublicKey,
}

impl Member {
    /// Members as they stand in orders and certificates: indices exactly `1..=n` in this order, no
    /// node and no identity key twice.
    pub(crate) fn committee(
        threshold: u32,
        members: &[v1::Member],
    ) -> Result<(Threshold, Vec<Self>), BodyError> {
        count("members", members.len(), usize::from(MAX_COMMITTEE))?;
        let bad = BodyError::Number { field: "threshold", value: threshold.into() };
        let n = u16::try_from(members.len()).map_err(|_| bad.clone())?;
        let t = u16::try_from(threshold).map_err(|_| bad.clone())?;
        let threshold = Threshold::new(t, n).map_err(|_| bad)?;
        let mut committee = Vec::with_capacity(members.len());
        for (member, expected) in members.iter().zip(threshold.indices()) {
            if member.index != u32::from(expected.get()) {
                let value = member.index.into();
                return Err(BodyError::Number { field: "members.index", value });
            }
            committee.push(Self {
                index: expected,
                node: NodeId::from_bytes(fixed("members.node", &member.node)?),
                identity_key: public_key("members.identity_key", &member.identity_key)?,
            });
        }
        distinct("members.node", committee.iter().map(|m| m.node))?;
        distinct("members.identity_key", committee.iter().map(|m| m.identity_key))?;
        Ok((threshold, committee))
    }

    pub(crate) fn to_proto(self) -> v1::Member {
        v1::Member {
            index: self.index.get().into(),
            node: self.node.as_bytes().to_vec(),
            identity_key: self.identity_key.as_bytes().to_vec(),
        }
    }
}

/// Who holds the shares of a key version, and how its ceremonies may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    threshold: Threshold,
    members: Vec<Member>,
    max_attempts: u32,
    refresh_seconds: u64,
}

impl Order {
    /// The first order of a key version: `t` of the nodes, which get the indices `1..=n` in the
    /// order given, with the most attempts allowed and no standing refresh.
    ///
    /// # Errors
    /// [`BodyError`] unless `1 <= t <= n <= 128` and no node and no key stands twice.
    pub fn new(
        t: u16,
        nodes: impl IntoIterator<Item = (NodeId, PublicKey)>,
    ) -> Result<Self, BodyError> {
        let members: Vec<v1::Member> = nodes
            .into_iter()
            .zip(1u32..)
            .map(|((node, identity_key), index)| v1::Member {
                index,
                node: node.as_bytes().to_vec(),
                identity_key: identity_key.as_bytes().to_vec(),
            })
            .collect();
        let (threshold, members) = Member::committee(t.into(), &members)?;
        Ok(Self { threshold, members, max_attempts: MAX_ATTEMPTS_PER_ORDER, refresh_seconds: 0 })
    }

    /// The same order with another bound on sessions.
    ///
    /// # Errors
    /// [`BodyError::Number`] unless `1 <= attempts <= 16`.
    pub fn with_max_attempts(self, attempts: u32) -> Result<Self, BodyError> {
        check_attempts(attempts)?;
        Ok(Self { max_attempts: attempts, ..self })
    }

    /// The same order with a standing refresh once in so many seconds; 0 for never.
    #[must_use]
    pub fn with_refresh_seconds(self, seconds: u64) -> Self {
        Self { refresh_seconds: seconds, ..self }
    }

    /// The order's number: 1, the order in the key document. Later orders are documents of their own.
    #[must_use]
    pub const fn number(&self) -> u32 {
        1
    }

    /// T-of-N.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The members, in the order of their indices `1..=n`.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member that this node is.
    #[must_use]
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.node == *node)
    }

    /// How many sessions may be opened under the order.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// A plain refresh may be run once in so many seconds; 0 for never.
    #[must_use]
    pub const fn refresh_seconds(&self) -> u64 {
        self.refresh_seconds
    }

    /// Whether the loss of one node stops the key for good while others would go on: N = T > 1.
    #[must_use]
    pub const fn fragile(&self) -> bool {
        self.threshold.n() > 1 && self.threshold.spare() == 0
    }

    /// What ceremonies and certificates name the order by.
    #[must_use]
    pub fn digest(&self, key: KeyId, version: KeyVersion) -> Digest {
        digests::order_digest(key, version, &self.to_proto())
    }

    /// A checked order.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Order) -> Result<Self, BodyError> {
        if proto.number != 1 {
            return Err(BodyError::Number { field: "order.number", value: proto.number.into() });
        }
        let (threshold, members) = Member::committee(proto.threshold, &proto.members)?;
        check_attempts(proto.max_attempts)?;
        Ok(Self {
            threshold,
            members,
            max_attempts: proto.max_attempts,
            refresh_seconds: proto.refresh_seconds,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Order {
        v1::Order {
            number: self.number(),
            threshold: self.threshold.t().into(),
            members: self.members.iter().map(|m| m.to_proto()).collect(),
            max_attempts: self.max_attempts,
            refresh_seconds: self.refresh_seconds,
        }
    }
}

fn check_attempts(attempts: u32) -> Result<(), BodyError> {
    if attempts == 0 || attempts > MAX_ATTEMPTS_PER_ORDER {
        return Err(BodyError::Number { field: "max_attempts", value: attempts.into() });
    }
    Ok(())
}
