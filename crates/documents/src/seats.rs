//! Who takes part in a reshare, and as what: what order, parent and dealers say together.

use quorate_types::{NodeId, ParticipantIndex};
use quorate_wire::PublicKey;

use crate::certificate::Statement;
use crate::order::Order;

/// One node's part in a reshare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// The identity key that it signs with: the order's, or the parent's for a dealer that is no member.
    pub identity_key: PublicKey,
    /// Its index in the new committee, if it is a member of it.
    pub index: Option<ParticipantIndex>,
    /// Its index among the parent's participants, if it was one.
    pub parent_index: Option<ParticipantIndex>,
    /// Whether it deals.
    pub deals: bool,
    /// Whether the order lets it in without a share of the parent.
    pub enters: bool,
}

/// Why order, parent and dealers make no reshare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeatsError {
    /// The order is older than the parent's, or another one of the same number.
    #[error(
        "the generation was made under a higher order, or under another one of the same number"
    )]
    Order,
    /// The dealers are not at least T participants of the parent, sorted, each once.
    #[error(
        "the dealers are not at least {t} of the participants of the parent, sorted, each once"
    )]
    Dealers {
        /// The parent's T.
        t: u16,
    },
}

/// Everybody who takes part in a reshare: the members of the new committee in the order of their indices,
/// then the other dealers in the order of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seats {
    all: Vec<Seat>,
    members: usize,
    refresh: bool,
}

impl Seats {
    /// The seats of a reshare of `parent` under `order` by these dealers, which are indices among the
    /// parent's participants.
    ///
    /// # Errors
    /// [`SeatsError`].
    pub fn new(order: &Order, parent: &Statement, dealers: &[u32]) -> Result<Self, SeatsError> {
        let same = parent.order() == order.digest(parent.key(), parent.version());
        if parent.order_number() > order.number()
            || (parent.order_number() == order.number() && !same)
        {
            return Err(SeatsError::Order);
        }
        // Once: by the first generation of the order, or where members were away when the key was made.
        let first = parent.order_number() < order.number() || parent.height() == 1;
        let admits = first && !order.entering().is_empty();
        let t = parent.threshold().t();
        let known = |index: &u32| ParticipantIndex::new(*index, parent.threshold()).is_ok();
        if dealers.len() < usize::from(t)
            || !dealers.is_sorted_by(|one, two| one < two)
            || !dealers.iter().all(known)
        {
            return Err(SeatsError::Dealers { t });
        }
        let deals = |index: Option<ParticipantIndex>| {
            index.is_some_and(|index| dealers.contains(&u32::from(index.get())))
        };
        let mut all: Vec<Seat> = order
            .members()
            .iter()
            .map(|member| {
                let parent_index = parent.participant(&member.node).map(|old| old.index);
                Seat {
                    node: member.node,
                    identity_key: member.identity_key,
                    index: Some(member.index),
                    parent_index,
                    deals: deals(parent_index),
                    enters: admits && order.enters(&member.node),
                }
            })
            .collect();
        let members = all.len();
        for old in parent.participants() {
            if deals(Some(old.index)) && order.member(&old.node).is_none() {
                all.push(Seat {
                    node: old.node,
                    identity_key: old.identity_key,
                    index: None,
                    parent_index: Some(old.index),
                    deals: true,
                    enters: false,
                });
            }
        }
        Ok(Self { all, members, refresh: same && !admits })
    }

    /// Everybody, in the order in which round 0 is.
    #[must_use]
    pub fn all(&self) -> &[Seat] {
        &self.all
    }

    /// The members of the new committee, in the order of their indices.
    #[must_use]
    pub fn members(&self) -> &[Seat] {
        self.all.get(..self.members).unwrap_or_default()
    }

    /// Who deals, in the order of their indices among the parent's participants.
    #[must_use]
    pub fn dealers(&self) -> Vec<Seat> {
        let mut dealers: Vec<Seat> = self.all.iter().filter(|seat| seat.deals).copied().collect();
        dealers.sort_by_key(|seat| seat.parent_index);
        dealers
    }

    /// The seat of a node.
    #[must_use]
    pub fn of(&self, node: &NodeId) -> Option<&Seat> {
        self.all.iter().find(|seat| seat.node == *node)
    }

    /// Whether it is a plain refresh: the order was carried out already, and nobody comes in. The order says
    /// how often that may be.
    #[must_use]
    pub const fn refresh(&self) -> bool {
        self.refresh
    }
}
