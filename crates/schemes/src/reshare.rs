//! Resharing: old participants deal the key that they share, and nobody ever holds it, to a new committee.
//!
//! Any set I of at least T old participants deals polynomials `f_i` of degree `T' - 1` with
//! `f_i(0) = lambda_i * k_i`, where `lambda_i` are the Lagrange coefficients of I at 0. Their sum has
//! degree `T' - 1` and the key at 0, so its values are shares of the same key, of which T' are needed, and
//! which do not add up with those of any other generation. With the same committee it is a *refresh*, with
//! a member that lost its share a *repair*, with another committee a *reshare*.
//!
//! The rest is a DKG as in [`crate::dkg`], with other dealers than recipients: encrypted shares for receive
//! keys of one session, a transcript, evidence against dealers that cheat. The order of calls:
//!
//! 1. [`ReceiveKey::from_seed`](crate::dkg::ReceiveKey::from_seed), a proof of it, and [`prove_share`]:
//!    send round 0.
//! 2. [`session`] over everybody's round 0; who deals: [`Session::redeal`]; send round 1.
//! 3. [`Session::round2`] over all dealers' round 1; sign the generation that
//!    [`Session::transcript_digest`] names.
//!
//! Written down in `spec/reshare.md`.

use quorate_secret::Secret;
use quorate_types::{Generation, NodeId, ParticipantIndex, Threshold};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::dkg::cocktail::{self, DealerKey, Setup};
use crate::dkg::possession::{self, PossessionKind, PossessionStatement};
use crate::dkg::suite::SCALAR_BYTES;
use crate::dkg::{Member, Redealer, Resharing, Session, SessionBinding, Suite};

/// The public face of the generation that is reshared.
#[derive(Debug, Clone)]
pub struct Parent<S: Suite> {
    generation: Generation,
    threshold: Threshold,
    commitments: Vec<S::Point>,
}

impl<S: Suite> Parent<S> {
    /// From its certificate: T commitments, of which the first is the verifying key.
    ///
    /// Returns `None` unless there are T of them and all are valid points.
    #[must_use]
    pub fn new(
        generation: Generation,
        threshold: Threshold,
        commitments: &[S::PointBytes],
    ) -> Option<Self> {
        let points = commitments.iter().map(S::decode_point).collect::<Option<Vec<_>>>()?;
        (points.len() == usize::from(threshold.t())).then_some(Self {
            generation,
            threshold,
            commitments: points,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Its T-of-N.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// `K_i`.
    fn verifying_share(&self, index: ParticipantIndex) -> S::Point {
        cocktail::evaluate::<S>(&self.commitments, index)
    }
}

/// The Lagrange coefficients at 0 of these indices, which are all different.
fn lagrange<S: Suite>(indices: &[ParticipantIndex]) -> Vec<S::Scalar> {
    let scalar = |index: ParticipantIndex| S::Scalar::from(u64::from(index.get()));
    indices
        .iter()
        .map(|i| {
            let (mut over, mut under) = (S::Scalar::from(1), S::Scalar::from(1));
            for j in indices.iter().filter(|j| *j != i) {
                over = over * scalar(*j);
                under = under * (scalar(*j) - scalar(*i));
            }
            over * S::invert_vartime(&under)
        })
        .collect()
}

/// What one participant of a reshare said in round 0, and what it is by order and parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant<S: Suite> {
    /// Who it is.
    pub node: NodeId,
    /// Its index in the new committee, if it is a member of it.
    pub index: Option<ParticipantIndex>,
    /// Its index in the parent's committee, if it was a participant of it.
    pub parent_index: Option<ParticipantIndex>,
    /// Whether it deals.
    pub deals: bool,
    /// Whether the order lets it in without a share of the parent.
    pub enters: bool,
    /// Its receive key; of a dealer that is no member of the new committee, its key for this session.
    pub receive_key: S::PointBytes,
    /// The proof of knowledge of that key's logarithm.
    pub proof: S::SignatureBytes,
    /// The proof of knowledge of its share of the parent, against its verifying share there.
    pub share_proof: Option<S::SignatureBytes>,
}

impl<S: Suite> Participant<S> {
    /// What [`Participant::proof`] proves. None for one that is neither member nor dealer.
    #[must_use]
    pub fn key_statement(&self, binding: &SessionBinding) -> Option<PossessionStatement<S>> {
        let (kind, index) = match (self.index, self.parent_index) {
            (Some(index), _) => (PossessionKind::ReshareReceiveKey, index),
            (None, Some(index)) => (PossessionKind::ReshareDealerKey, index),
            (None, None) => return None,
        };
        Some(statement(binding, kind, self.node, index, self.receive_key))
    }

    /// What [`Participant::share_proof`] proves. None for one that was no participant of the parent.
    #[must_use]
    pub fn share_statement(
        &self,
        binding: &SessionBinding,
        parent: &Parent<S>,
    ) -> Option<PossessionStatement<S>> {
        let index = self.parent_index?;
        let point = S::encode_point(&parent.verifying_share(index));
        Some(statement(binding, PossessionKind::ReshareShare, self.node, index, point))
    }

    /// Whether it proves by itself all that it must prove; otherwise what it does not.
    ///
    /// # Errors
    /// [`ReshareError::Possession`] or [`ReshareError::Share`].
    pub fn check(&self, binding: &SessionBinding, parent: &Parent<S>) -> Result<(), ReshareError> {
        let node = self.node;
        let statement = self.key_statement(binding).ok_or(ReshareError::Places)?;
        if !possession::verify(&statement, &self.proof) {
            return Err(ReshareError::Possession { node });
        }
        match (&self.share_proof, self.share_statement(binding, parent)) {
            (Some(proof), Some(statement)) if possession::verify(&statement, proof) => Ok(()),
            // Whoever deals must hold its share, and whoever is not let in by the order must have been in.
            (None, _) if self.enters && !self.deals => Ok(()),
            _ => Err(ReshareError::Share { node }),
        }
    }
}

fn statement<S: Suite>(
    binding: &SessionBinding,
    kind: PossessionKind,
    node: NodeId,
    index: ParticipantIndex,
    point: S::PointBytes,
) -> PossessionStatement<S> {
    let SessionBinding { session, order, .. } = *binding;
    PossessionStatement { kind, session, order, node, index, point }
}

/// Proves knowledge of a share: the statement is [`Participant::share_statement`].
///
/// Returns `None` unless the share is a scalar, and the one of the statement's verifying share: a node never
/// signs a proof that fails.
#[must_use]
pub fn prove_share<S: Suite>(
    share: &Secret<SCALAR_BYTES>,
    statement: &PossessionStatement<S>,
    rng: &mut dyn CryptoRng,
) -> Option<S::SignatureBytes> {
    let share = S::decode_scalar(share.reveal()).map(Zeroizing::new)?;
    if S::encode_point(&S::mul_base(&share)) != statement.point {
        return None;
    }
    let mut extra = [0; 32];
    rng.fill_bytes(&mut extra);
    Some(possession::prove::<S>(&*share, statement, &extra))
}

/// Why round 0 makes no reshare. Suspects are named by their node ids: provably so, if the identity
/// signatures over round 0 were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReshareError {
    /// The participants are not the members of the new committee in the order of their indices, and
    /// behind them the other dealers in the order of theirs; or a node stands twice.
    #[error("the participants are not those of the session, in order")]
    Places,
    /// The dealers' parts do not make up the parent's key: there are fewer than T.
    #[error("the dealers' parts do not make up the parent's key")]
    Dealers,
    /// A participant did not prove that it knows its key.
    #[error("{node} does not prove that it knows its key")]
    Possession {
        /// Who.
        node: NodeId,
    },
    /// A participant did not prove that it holds its share of the parent, and no order lets it in
    /// without.
    #[error("{node} does not prove that it holds its share of the parent generation")]
    Share {
        /// Who.
        node: NodeId,
    },
    /// Two participants have the same key. Both have proved that they know it.
    #[error("{first} and {second} have the same receive key")]
    Duplicate {
        /// The one before.
        first: NodeId,
        /// The one behind.
        second: NodeId,
    },
}

/// The verified outcome of a reshare's round 0: who receives, who deals, and with which keys.
///
/// `threshold` is the new committee's. `said` holds the members of the new committee in the order of their
/// indices, and behind them the dealers that are no members of it, in the order of their indices in the
/// parent.
///
/// # Errors
/// [`ReshareError`].
///
/// # Security
/// The caller has checked parent and order, that the indices of `said` are theirs, and the identity
/// signature over every message.
pub fn session<S: Suite>(
    binding: SessionBinding,
    threshold: Threshold,
    parent: &Parent<S>,
    said: &[Participant<S>],
) -> Result<Session<S>, ReshareError> {
    let places = threshold.indices().map(Some).chain(core::iter::repeat(None));
    let members = usize::from(threshold.n());
    if said.len() < members || said.iter().zip(places).any(|(said, place)| said.index != place) {
        return Err(ReshareError::Places);
    }
    let mut keys = std::collections::BTreeMap::new();
    let mut nodes = std::collections::BTreeSet::new();
    for participant in said {
        participant.check(&binding, parent)?;
        if !nodes.insert(*participant.node.as_bytes()) {
            return Err(ReshareError::Places);
        }
        if let Some(first) = keys.insert(participant.receive_key, participant.node) {
            return Err(ReshareError::Duplicate { first, second: participant.node });
        }
    }
    let (receivers, outside) = said.split_at_checked(members).ok_or(ReshareError::Places)?;
    let outside_ordered = outside.is_sorted_by_key(|dealer| dealer.parent_index);
    if !outside_ordered || !outside.iter().all(|dealer| dealer.deals) {
        return Err(ReshareError::Places);
    }
    let (dealers, senders) = dealers(parent, said)?;
    let all: Vec<S::PointBytes> = said.iter().map(|said| said.receive_key).collect();
    let context = cocktail::context::<S>(binding.session.as_bytes(), &all);
    let receive_keys: Vec<S::PointBytes> = receivers.iter().map(|said| said.receive_key).collect();
    // Every key was decoded when its proof was checked, and they are all different.
    let setup = Setup::with_context(context, threshold, &receive_keys)
        .map_err(|_| ReshareError::Places)?
        .with_dealers(senders);
    let members = receivers
        .iter()
        .zip(threshold.indices())
        .map(|(said, index)| Member {
            index: index.get().into(),
            node: said.node,
            receive_key: said.receive_key,
            proof: said.proof,
        })
        .collect();
    let resharing = Resharing { parent: parent.generation, dealers };
    Ok(Session::reshare(binding, setup, members, resharing))
}

/// Who deals and what each must deal, and the keys that they deal with.
type Dealers<S> = (Vec<Redealer<S>>, Vec<DealerKey<S>>);

/// The dealers, in the order of their indices in the parent.
fn dealers<S: Suite>(
    parent: &Parent<S>,
    said: &[Participant<S>],
) -> Result<Dealers<S>, ReshareError> {
    let mut dealing: Vec<(ParticipantIndex, &Participant<S>)> = said
        .iter()
        .filter(|said| said.deals)
        .map(|said| said.parent_index.map(|index| (index, said)).ok_or(ReshareError::Places))
        .collect::<Result<_, _>>()?;
    dealing.sort_by_key(|(index, _)| *index);
    if dealing.array_windows().any(|[(one, _), (two, _)]| one == two) {
        return Err(ReshareError::Places);
    }
    let indices: Vec<ParticipantIndex> = dealing.iter().map(|(index, _)| *index).collect();
    let mut sum = S::identity();
    let (mut dealers, mut senders) = (Vec::new(), Vec::new());
    for ((index, said), lambda) in dealing.into_iter().zip(lagrange::<S>(&indices)) {
        let constant = parent.verifying_share(index) * lambda;
        sum = sum + constant;
        dealers.push(Redealer { index, node: said.node, lambda, constant });
        let point = S::decode_point(&said.receive_key).ok_or(ReshareError::Places)?;
        senders.push(DealerKey { index, key: said.receive_key, point });
    }
    // Fewer than T interpolate something else. As every dealer must deal its part, what they deal adds up to
    // the parent's key.
    if parent.commitments.first() != Some(&sum) {
        return Err(ReshareError::Dealers);
    }
    Ok((dealers, senders))
}

#[cfg(test)]
mod tests;
