//! Keys, their versions, and the orders to make them.

use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, MAX_COMMITTEE};
use quorate_types::{
    Digest, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, ParticipantIndex, TenantId,
    Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, digests};

use crate::fields::{BodyError, Jurisdiction, count, distinct, fixed, name, public_key, sorted};

/// Versions of one key: with a committee of three, a document of 256 KiB holds this many.
const MAX_VERSIONS: usize = 1024;
/// Jurisdictions of one key; there are about 250 in the world.
const MAX_JURISDICTIONS: usize = 256;
/// The only origin so far: made by distributed key generation, never whole anywhere.
const ORIGIN_DKG: u32 = 1;

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

/// One version of a key and the order to make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersionEntry {
    /// Its number.
    pub number: KeyVersion,
    /// When it was ordered.
    pub created_at: UnixSeconds,
    /// Who holds its shares.
    pub order: Order,
}

/// A key: its rules and its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Who owns it; no version changes it.
    pub tenant: TenantId,
    /// What people call it.
    pub alias: String,
    /// What kind of key it is; no version changes it.
    pub spec: KeySpec,
    /// What it may be used for; no version changes it.
    pub usage: KeyUsage,
    /// Its state.
    pub state: KeyState,
    /// No order may name fewer members.
    pub minimum_committee: u32,
    /// Whether one may encrypt to a committee with N = T > 1.
    pub allow_fragile: bool,
    /// Where shares may be, sorted; empty for anywhere.
    pub jurisdictions: Vec<Jurisdiction>,
    /// Whether every object must be bound to a customer fragment.
    pub fragment_required: bool,
    /// Its versions, numbered from 1 without gaps. There is always one.
    pub versions: Vec<KeyVersionEntry>,
}

/// Whether a key may go from one state to another without allowing more: whoever suspended, deactivated
/// or reported it compromised is not to be overruled by anybody who may make keys. One not yet active
/// may become so; that is what it waits for.
fn restricts_no_less(from: KeyState, to: KeyState) -> bool {
    use KeyState::{Active, Compromised, Deactivated, PreActivation, Suspended};
    match from {
        Active | PreActivation => true,
        Deactivated => matches!(to, Deactivated | Compromised | Suspended),
        Suspended | Compromised | KeyState::Destroyed => to == from,
    }
}

impl Key {
    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: KeyVersion) -> Option<&KeyVersionEntry> {
        self.versions.iter().find(|v| v.number == number)
    }

    /// Whether shares may be held under this law.
    #[must_use]
    pub fn allows_jurisdiction(&self, jurisdiction: Jurisdiction) -> bool {
        self.jurisdictions.is_empty() || self.jurisdictions.contains(&jurisdiction)
    }

    /// Whether this version of the document weakens a protection that `before` gave: a smaller
    /// committee, a fragile one, more jurisdictions, no fragment, a state that allows what the one
    /// before did not, or a newer version with a smaller T or N.
    #[must_use]
    pub fn weakens(&self, before: &Self) -> bool {
        !restricts_no_less(before.state, self.state)
            || self.shrinks(before)
            || self.minimum_committee < before.minimum_committee
            || (self.allow_fragile && !before.allow_fragile)
            || (before.fragment_required && !self.fragment_required)
            || (!before.jurisdictions.is_empty()
                && (self.jurisdictions.is_empty()
                    || self.jurisdictions.iter().any(|j| !before.jurisdictions.contains(j))))
    }

    /// Whether a version that `before` lacks, or the newest, has a smaller T or N than the one it follows.
    fn shrinks(&self, before: &Self) -> bool {
        let added = self.versions.get(before.versions.len()..).unwrap_or_default();
        let newest = before.versions.last().into_iter().chain(added).chain(self.versions.last());
        let sizes: Vec<Threshold> = newest.map(|version| version.order.threshold()).collect();
        sizes.array_windows().any(|[old, new]| new.t() < old.t() || new.n() < old.n())
    }

    /// A checked key.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Key) -> Result<Self, BodyError> {
        let unknown = |field, value: u32| BodyError::Number { field, value: value.into() };
        if proto.origin != ORIGIN_DKG {
            return Err(unknown("origin", proto.origin));
        }
        if proto.minimum_committee == 0 || proto.minimum_committee > MAX_COMMITTEE.into() {
            return Err(unknown("minimum_committee", proto.minimum_committee));
        }
        if proto.jurisdictions.len() > MAX_JURISDICTIONS {
            count("jurisdictions", proto.jurisdictions.len(), MAX_JURISDICTIONS)?;
        }
        let jurisdictions: Vec<Jurisdiction> =
            proto.jurisdictions.iter().map(|j| j.parse()).collect::<Result<_, _>>()?;
        sorted("jurisdictions", &jurisdictions)?;
        count("versions", proto.versions.len(), MAX_VERSIONS)?;
        let mut versions = Vec::with_capacity(proto.versions.len());
        for (version, expected) in proto.versions.iter().zip(1u32..) {
            let number = KeyVersion::new(version.number)
                .filter(|n| n.get() == expected)
                .ok_or(unknown("versions.number", version.number))?;
            let order = version.order.as_ref().ok_or(BodyError::Missing("versions.order"))?;
            let order = Order::from_proto(order)?;
            versions.push(KeyVersionEntry {
                number,
                created_at: UnixSeconds(version.created_at),
                order,
            });
        }
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            alias: name("alias", &proto.alias)?,
            spec: KeySpec::from_number(proto.spec).ok_or(unknown("spec", proto.spec))?,
            usage: KeyUsage::from_number(proto.usage).ok_or(unknown("usage", proto.usage))?,
            state: KeyState::from_number(proto.state).ok_or(unknown("state", proto.state))?,
            minimum_committee: proto.minimum_committee,
            allow_fragile: proto.allow_fragile,
            jurisdictions,
            fragment_required: proto.fragment_required,
            versions,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Key {
        v1::Key {
            tenant: self.tenant.as_bytes().to_vec(),
            alias: self.alias.clone(),
            spec: self.spec.number().into(),
            usage: self.usage.number(),
            state: self.state.number(),
            minimum_committee: self.minimum_committee,
            allow_fragile: self.allow_fragile,
            jurisdictions: self.jurisdictions.iter().map(Jurisdiction::to_string).collect(),
            fragment_required: self.fragment_required,
            origin: ORIGIN_DKG,
            versions: self
                .versions
                .iter()
                .map(|v| v1::KeyVersion {
                    number: v.number.get(),
                    created_at: v.created_at.0,
                    order: Some(v.order.to_proto()),
                })
                .collect(),
        }
    }
}
