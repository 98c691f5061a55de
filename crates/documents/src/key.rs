//! Keys: their rules, their versions and their states.

use quorate_types::limits::{
    CLOCK_TOLERANCE_SECONDS, MAX_COMMITTEE, MAX_DESTRUCTION_SECONDS, MAX_STATE_CHANGES,
    MIN_DESTRUCTION_SECONDS, MIN_ROTATION_SECONDS,
};
use quorate_types::{
    Action, KeySpec, KeyState, KeyUsage, KeyVersion, PrincipalId, TenantId, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;

use crate::fields::{
    BodyError, Jurisdiction, attributes, attributes_to_proto, count, fixed, name, optional, sorted,
};
use crate::order::Order;

/// Tags of one key.
const MAX_TAGS: usize = 64;
/// Versions of one key: with a committee of three, a document of 256 KiB holds this many.
const MAX_VERSIONS: usize = 1024;
/// The number of the last version that a principal adds: the rest is for administrators, whatever principals have added.
pub(crate) const MAX_VERSIONS_BY_PRINCIPALS: usize = MAX_VERSIONS - 64;
/// Jurisdictions of one key; there are about 250 in the world.
const MAX_JURISDICTIONS: usize = 256;
/// Changes of state past which no principal adds another: the rest is for administrators, who may also forget
/// all but the newest.
pub(crate) const MAX_STATE_CHANGES_BY_PRINCIPALS: usize = MAX_STATE_CHANGES - 64;
/// The only origin so far: made by distributed key generation, never whole anywhere.
const ORIGIN_DKG: u32 = 1;

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

/// When a key came into a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateChange {
    /// When, by its signer's clock.
    pub at: UnixSeconds,
    /// The state.
    pub state: KeyState,
}

impl StateChange {
    const fn place(&self) -> (UnixSeconds, u32) {
        (self.at, self.state.number())
    }
}

/// That a key is to be destroyed once every node has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destruction {
    /// When it was asked for, by its signers' clocks.
    pub requested_at: UnixSeconds,
    /// How long each node waits by its own running time, from when it first stored this.
    pub wait_seconds: u64,
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
    /// Names and values for people and policies, in any order; documents hold them sorted.
    pub tags: Vec<(String, String)>,
    /// A new version is due so many seconds after the newest; 0 for never.
    pub rotation_seconds: u64,
    /// When it came into which state, sorted by time. See [`Key::enter_state`].
    pub state_history: Vec<StateChange>,
    /// A principal of any tenant that may run this key's ceremonies and nothing else.
    pub coordinator: Option<PrincipalId>,
    /// It is to be destroyed, and used for nothing until then.
    pub destruction: Option<Destruction>,
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
    /// Whether it takes the key's use away, and so counts even where an authority version left it out.
    pub(crate) const fn restricts(&self) -> bool {
        use KeyState::{Compromised, Deactivated, Destroyed, Suspended};
        matches!(self.state, Suspended | Deactivated | Compromised | Destroyed)
            || self.destruction.is_some()
    }

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
            || (before.destruction.is_some() && self.destruction.is_none())
            || self.shrinks(before)
            || self.minimum_committee < before.minimum_committee
            || (self.allow_fragile && !before.allow_fragile)
            || (before.fragment_required && !self.fragment_required)
            || (!before.jurisdictions.is_empty()
                && (self.jurisdictions.is_empty()
                    || self.jurisdictions.iter().any(|j| !before.jurisdictions.contains(j))))
    }

    /// Puts the key into a state, and notes when. Where its history knows a later time, that one is
    /// noted, since the newest entry is the state. The oldest go where there are too many, which takes
    /// administrators.
    pub fn enter_state(&mut self, state: KeyState, at: UnixSeconds) {
        let newest = self.state_history.iter().map(|change| change.at).max();
        let at = newest.map_or(at, |newest| at.max(newest));
        self.state = state;
        self.state_history.push(StateChange { at, state });
        self.state_history.sort_unstable_by_key(StateChange::place);
        self.state_history.dedup();
        let oldest = self.state_history.len().saturating_sub(MAX_STATE_CHANGES);
        self.state_history.drain(..oldest);
    }

    /// Takes over the changes of state that another head knows, and notes the state of this one anew
    /// where the other changed later: what a merge of both must contain.
    pub fn remember(&mut self, other: &Self, at: UnixSeconds) {
        let state = self.state;
        self.state_history.extend(&other.state_history);
        self.state_history.sort_unstable_by_key(StateChange::place);
        self.state_history.dedup();
        let newest = self.state_history.last().map(|change| change.at);
        if newest.is_some_and(|at| !self.state_history.contains(&StateChange { at, state })) {
            self.enter_state(state, at);
        }
    }

    /// When it came into its present state, where that was noted.
    #[must_use]
    pub fn state_since(&self) -> Option<UnixSeconds> {
        let newest = self.state_history.iter().map(|change| change.at).max()?;
        // The same state may have been entered twice in a row, by two who did not know of each other.
        let other = self.state_history.iter().rfind(|c| c.state != self.state && c.at < newest);
        let after = other.map(|change| change.at);
        let entered = self.state_history.iter().filter(|c| c.state == self.state);
        entered.map(|c| c.at).find(|at| after.is_none_or(|after| *at > after)).or(Some(newest))
    }

    /// When the next version is due, by its rotation period.
    #[must_use]
    pub fn rotation_due(&self) -> Option<UnixSeconds> {
        let newest = self.versions.last()?;
        (self.rotation_seconds > 0).then(|| newest.created_at.plus(self.rotation_seconds))
    }

    /// What it takes to make this version of the document out of those: `create` where key versions
    /// were added, `change` where anything else is different.
    pub(crate) fn takes(&self, before: &[&Self]) -> Vec<Action> {
        let most = before.iter().map(|key| key.versions.len()).max().unwrap_or(0);
        let mut actions = Vec::new();
        if before.is_empty() || self.versions.len() > most {
            actions.push(Action::Create);
        }
        let changed = |before: &&&Self| {
            Self { versions: before.versions.clone(), ..self.clone() } != ***before
        };
        if before.iter().any(|before| changed(&before)) {
            actions.push(Action::Change);
        }
        actions
    }

    /// Whether this version of the document forgets a change of state that `before` knows.
    pub(crate) fn forgets(&self, before: &Self) -> bool {
        before.state_history.iter().any(|change| !self.state_history.contains(change))
    }

    /// Whether this version of the document, of that time, notes changes of state as one may, whoever signs: it
    /// adds one at most, of its own time, and keeps the newest of each before it.
    pub(crate) fn notes_its_own(&self, before: &[&Self], created_at: UnixSeconds) -> bool {
        let known = |change: &StateChange| before.iter().any(|b| b.state_history.contains(change));
        let mut added = self.state_history.iter().filter(|change| !known(change));
        let own = added.next().is_none_or(|c| c.at.plus(CLOCK_TOLERANCE_SECONDS) >= created_at);
        let newest =
            |b: &&Self| b.state_history.last().is_none_or(|c| self.state_history.contains(c));
        own && added.next().is_none() && before.iter().all(newest)
    }

    /// Whether this version of the document adds to a history that is only administrators' to add to.
    pub(crate) fn fills_history(&self, before: &[&Self]) -> bool {
        let most = before.iter().map(|b| b.state_history.len()).max().unwrap_or(0);
        self.state_history.len() > most.max(MAX_STATE_CHANGES_BY_PRINCIPALS)
    }

    /// The versions that those before it lack.
    pub(crate) fn added(&self, before: &[&Self]) -> &[KeyVersionEntry] {
        let most = before.iter().map(|key| key.versions.len()).max().unwrap_or(0);
        self.versions.get(most..).unwrap_or_default()
    }

    /// Whether a version that those before it lack takes all its nodes, where the version before that does not and the
    /// key does not allow it.
    pub(crate) fn adds_fragile(&self, before: &[&Self]) -> bool {
        let kept = self.versions.len() - self.added(before).len();
        let from = self.versions.get(kept.saturating_sub(1)..).unwrap_or_default();
        let mut pairs = from.array_windows();
        !self.allow_fragile && pairs.any(|[old, new]| new.order.fragile() && !old.order.fragile())
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
            // Later orders are documents of their own.
            if order.number() != 1 {
                return Err(unknown("order.number", order.number()));
            }
            versions.push(KeyVersionEntry {
                number,
                created_at: UnixSeconds(version.created_at),
                order,
            });
        }
        let state = |number: u32| KeyState::from_number(number).ok_or(unknown("state", number));
        let rotation = proto.rotation_seconds;
        if rotation != 0 && rotation < MIN_ROTATION_SECONDS {
            return Err(BodyError::Number { field: "rotation_seconds", value: rotation });
        }
        let key = Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            alias: name("alias", &proto.alias)?,
            spec: KeySpec::from_number(proto.spec).ok_or(unknown("spec", proto.spec))?,
            usage: KeyUsage::from_number(proto.usage).ok_or(unknown("usage", proto.usage))?,
            state: state(proto.state)?,
            minimum_committee: proto.minimum_committee,
            allow_fragile: proto.allow_fragile,
            jurisdictions,
            fragment_required: proto.fragment_required,
            versions,
            tags: attributes("tags", &proto.tags, MAX_TAGS)?,
            rotation_seconds: rotation,
            state_history: history(&proto.state_history)?,
            coordinator: optional(&proto.coordinator, "coordinator")?.map(PrincipalId::from_bytes),
            destruction: proto.destruction.as_ref().map(Destruction::from_proto).transpose()?,
        };
        // Two who did not know of each other may have changed it in the same second.
        if let Some(newest) = key.state_history.last()
            && !key.state_history.contains(&StateChange { at: newest.at, state: key.state })
        {
            return Err(unknown("state", proto.state));
        }
        Ok(key)
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
            tags: attributes_to_proto(&self.tags),
            rotation_seconds: self.rotation_seconds,
            state_history: self
                .state_history
                .iter()
                .map(|c| v1::StateChange { state: c.state.number(), at: c.at.0 })
                .collect(),
            coordinator: self.coordinator.map(|c| c.as_bytes().to_vec()).unwrap_or_default(),
            destruction: self.destruction.map(|d| v1::Destruction {
                requested_at: d.requested_at.0,
                wait_seconds: d.wait_seconds,
            }),
        }
    }
}

fn history(proto: &[v1::StateChange]) -> Result<Vec<StateChange>, BodyError> {
    if proto.len() > MAX_STATE_CHANGES {
        count("state_history", proto.len(), MAX_STATE_CHANGES)?;
    }
    let change = |change: &v1::StateChange| {
        let state = KeyState::from_number(change.state)
            .ok_or(BodyError::Number { field: "state_history", value: change.state.into() })?;
        Ok(StateChange { at: UnixSeconds(change.at), state })
    };
    let changes: Vec<StateChange> = proto.iter().map(change).collect::<Result<_, BodyError>>()?;
    let places: Vec<_> = changes.iter().map(StateChange::place).collect();
    sorted("state_history", &places)?;
    Ok(changes)
}

impl Destruction {
    fn from_proto(proto: &v1::Destruction) -> Result<Self, BodyError> {
        if !(MIN_DESTRUCTION_SECONDS..=MAX_DESTRUCTION_SECONDS).contains(&proto.wait_seconds) {
            let (field, value) = ("destruction.wait_seconds", proto.wait_seconds);
            return Err(BodyError::Number { field, value });
        }
        let requested_at = UnixSeconds(proto.requested_at);
        Ok(Self { requested_at, wait_seconds: proto.wait_seconds })
    }
}
