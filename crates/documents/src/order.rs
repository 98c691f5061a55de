//! Orders: who holds the shares of a key version. The first stands in the key document, later ones are
//! documents of their own ([`crate::KeyOrder`]).

use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, MAX_COMMITTEE};
use quorate_types::{Digest, KeyId, KeyVersion, NodeId, ParticipantIndex, Threshold};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, digests};

use crate::fields::{BodyError, count, distinct, fixed, public_key, sorted};

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
    number: u32,
    threshold: Threshold,
    members: Vec<Member>,
    max_attempts: u32,
    refresh_seconds: u64,
    entering: Vec<ParticipantIndex>,
    /// Who makes the key, where this is order 1: those that are not away, with indices of their own.
    founding: Threshold,
    founders: Vec<Member>,
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
        Self::numbered(1, t, nodes, &[])
    }

    /// An order with another number than the first, for a [`crate::KeyOrder`]. `entering` are those of the
    /// nodes that come in without a share of the generation before: new ones, and those that lost theirs.
    ///
    /// # Errors
    /// [`BodyError`] as for [`Order::new`]; where the number is 0; or where one that enters is no member.
    pub fn numbered(
        number: u32,
        t: u16,
        nodes: impl IntoIterator<Item = (NodeId, PublicKey)>,
        entering: &[NodeId],
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
        let mut indices = Vec::with_capacity(entering.len());
        for node in entering {
            let index = members.iter().find(|member| member.node == node.as_bytes());
            indices.push(index.ok_or(BodyError::Missing("order.members"))?.index);
        }
        indices.sort_unstable();
        Self::from_proto(&v1::Order {
            number,
            threshold: t.into(),
            members,
            max_attempts: MAX_ATTEMPTS_PER_ORDER,
            refresh_seconds: 0,
            entering: indices,
        })
    }

    /// The same order, with these members away when the key is made: they come in by the first reshare.
    ///
    /// # Errors
    /// [`BodyError`] where one is no member, or fewer than T are left.
    pub fn with_entering(self, entering: &[NodeId]) -> Result<Self, BodyError> {
        let nodes = self.members.iter().map(|m| (m.node, m.identity_key));
        let order = Self::numbered(self.number, self.threshold.t(), nodes, entering)?;
        let Self { max_attempts, refresh_seconds, .. } = self;
        Ok(Self { max_attempts, refresh_seconds, ..order })
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

    /// The order's number: 1 for the order in the key document, more for those that follow it.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Members that come in without a share of the parent generation.
    #[must_use]
    pub fn entering(&self) -> &[ParticipantIndex] {
        &self.entering
    }

    /// Whether the order lets this node in without a share of the parent generation.
    #[must_use]
    pub fn enters(&self, node: &NodeId) -> bool {
        self.member(node).is_some_and(|member| self.entering.contains(&member.index))
    }

    /// Who makes the key under order 1: the members that are not away, with the indices `1..` of the
    /// ceremony that makes it.
    #[must_use]
    pub fn founders(&self) -> &[Member] {
        &self.founders
    }

    /// The founder that this node is.
    #[must_use]
    pub fn founder(&self, node: &NodeId) -> Option<&Member> {
        self.founders.iter().find(|m| m.node == *node)
    }

    /// T of those who make the key.
    #[must_use]
    pub const fn founding(&self) -> Threshold {
        self.founding
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
        let number = |field, value: u32| BodyError::Number { field, value: value.into() };
        if proto.number == 0 {
            return Err(number("order.number", 0));
        }
        let (threshold, members) = Member::committee(proto.threshold, &proto.members)?;
        check_attempts(proto.max_attempts)?;
        sorted("order.entering", &proto.entering)?;
        let entering: Vec<ParticipantIndex> = proto
            .entering
            .iter()
            .map(|index| ParticipantIndex::new(*index, threshold))
            .collect::<Result<_, _>>()
            .map_err(|_| BodyError::Missing("order.members"))?;
        // A ceremony numbers its participants without gaps.
        let mut founders = Vec::with_capacity(members.len());
        let here = members.iter().filter(|member| !entering.contains(&member.index));
        for (member, index) in here.zip(threshold.indices()) {
            founders.push(Member { index, ..*member });
        }
        let few = |_| number("order.entering", u32::try_from(entering.len()).unwrap_or(u32::MAX));
        let count = u16::try_from(founders.len()).unwrap_or(u16::MAX);
        // Of an order beyond the first nobody makes a key: those who hold it deal.
        let founding =
            if proto.number == 1 { Threshold::new(threshold.t(), count) } else { Ok(threshold) };
        Ok(Self {
            number: proto.number,
            threshold,
            members,
            max_attempts: proto.max_attempts,
            refresh_seconds: proto.refresh_seconds,
            founding: founding.map_err(few)?,
            entering,
            founders,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Order {
        v1::Order {
            number: self.number,
            threshold: self.threshold.t().into(),
            members: self.members.iter().map(|m| m.to_proto()).collect(),
            max_attempts: self.max_attempts,
            refresh_seconds: self.refresh_seconds,
            entering: self.entering.iter().map(|index| index.get().into()).collect(),
        }
    }
}

fn check_attempts(attempts: u32) -> Result<(), BodyError> {
    if attempts == 0 || attempts > MAX_ATTEMPTS_PER_ORDER {
        return Err(BodyError::Number { field: "max_attempts", value: attempts.into() });
    }
    Ok(())
}
