//! What a session is about, and its envelopes: round 0 and round 1, checked against the order.
//!
//! Who is blamed: what is not validly signed, or signed for something else, was changed or
//! transplanted by whoever relayed it, and nobody is named. What a participant signed for exactly
//! this session and is wrong in itself is that participant's fault, and the envelopes prove it.

use quorate_authz::{Caller, Standing};
use quorate_documents::{Key, Order};
use quorate_schemes::dkg::possession::{self, PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    self, Delivery, Round1Message, SessionBinding, Suite, cocktail::Round1Broadcast,
};
use quorate_types::{Digest, KeyId, KeyVersion, ParticipantIndex, SessionId};
use quorate_wire::proto::store::v1::SignedRow;
use quorate_wire::proto::v1::{self, Envelope, Evidence, Round0, Round1};
use quorate_wire::{PayloadType, RefusalCode, SigningKey, Verified, digests, strict};

use super::sessions::{self, Found, Open};
use crate::access::Account;
use crate::core::{Deciding, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::{KeyRules, reasons};

/// Length of the coordinator's nonce in a session.
const NONCE_BYTES: usize = 32;

/// The suite of `PRF_RISTRETTO255_SHA512`.
pub(crate) type Prf = dkg::Ristretto255;

/// A session and the order that it carries out.
pub(super) struct Ceremony {
    pub(super) id: SessionId,
    pub(super) session: v1::Session,
    pub(super) key: KeyId,
    pub(super) version: KeyVersion,
    pub(super) binding: SessionBinding,
    pub(super) order: Order,
}

/// One participant's fault, provable by envelopes alone.
pub(super) struct Fault {
    pub(super) index: ParticipantIndex,
    pub(super) what: String,
}

fn mismatch(what: &str) -> Refused {
    Refused::new(RefusalCode::OrderMismatch, format!("the session {what}"))
}

/// The key version that a session names, for finding its rows.
pub(crate) fn key_of(session: &v1::Session) -> Result<(KeyId, KeyVersion), Refused> {
    let malformed = |what: &str| {
        Refused::new(RefusalCode::Malformed, format!("the session's {what} is malformed"))
    };
    let key = KeyId::from_slice(&session.key).map_err(|_| malformed("key"))?;
    let version = KeyVersion::new(session.key_version).ok_or_else(|| malformed("key version"))?;
    Ok((key, version))
}

fn digest(what: &str, bytes: &[u8]) -> Result<Digest, Refused> {
    Digest::from_slice(bytes).map_err(|_| {
        Refused::new(RefusalCode::Malformed, format!("the session's {what} is malformed"))
    })
}

/// The ceremony of a session, if this caller may take part in it now.
pub(super) fn authorize(
    standing: &Standing<'_>,
    rules: &KeyRules,
    session: v1::Session,
    deciding: &mut Deciding<'_>,
) -> Result<Ceremony, Refused> {
    let (_, version) = key_of(&session)?;
    let order = digest("order", &session.order)?;
    Ceremony::new(session, may_open(standing, rules, version, order, deciding)?)
}

/// Whether the caller may take part in ceremonies of this order; what allowed it goes into the record.
pub(super) fn may_open(
    standing: &Standing<'_>,
    rules: &KeyRules,
    version: KeyVersion,
    order: Digest,
    deciding: &mut Deciding<'_>,
) -> Result<quorate_authz::Ceremony, Refused> {
    let now = deciding.now;
    let authorized = rules.ask(deciding.audit, |access| {
        quorate_authz::open_ceremony(standing, access, version, order, now)
    })?;
    deciding.audit.reasons = reasons(&authorized);
    rules.exists()?;
    Ok(authorized.into_operation())
}

/// Whether the caller may have what this node has signed for the order already.
pub(super) fn may_finish(
    standing: &Standing<'_>,
    rules: &KeyRules,
    version: KeyVersion,
    order: Digest,
    deciding: &mut Deciding<'_>,
) -> Result<(), Refused> {
    let now = deciding.now;
    let authorized = rules.ask(deciding.audit, |access| {
        quorate_authz::finish_ceremony(standing, access, version, order, now)
    })?;
    deciding.audit.reasons = reasons(&authorized);
    rules.exists()
}

/// This node's index and the identity key that it signs with, if it is a member with one that it has.
/// That the roster accepts that key was asked when the ceremony was authorised.
pub(super) fn own_place<'a>(
    core: &'a NodeCore,
    ceremony: &Ceremony,
) -> Result<(ParticipantIndex, &'a SigningKey), Refused> {
    let member = ceremony.order.founder(&core.id());
    let place = member.and_then(|m| Some((m.index, core.identity(&m.identity_key)?)));
    place.ok_or_else(|| {
        let message = "the order does not name this node with an identity key that it has";
        Refused::new(RefusalCode::OrderMismatch, message)
    })
}

/// A request about a session that was opened here, and all rows that it takes.
pub(super) struct Member<'a> {
    pub(super) core: &'a NodeCore,
    account: Account,
    id: SessionId,
    rules: KeyRules,
    found: Found,
    /// What was signed for the key version under another session.
    signed: bool,
}

/// What a session is found to be.
pub(super) enum Taken {
    /// Open, in time, and the caller may go on with it.
    Open { ceremony: Box<Ceremony>, index: ParticipantIndex, open: Box<Open> },
    /// Signed.
    Signed(Box<SignedRow>),
}

impl<'a> Member<'a> {
    pub(super) fn gather(
        core: &'a NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        node: &[u8],
        session: &[u8],
    ) -> Result<Self, Stop> {
        let id = sessions::session_id(session)?;
        let found = sessions::find(reads, id);
        let account = Account::gather(core, reads, caller, node)?;
        let found = found?;
        // Where there is no session, the same reads for no key: as many as for a foreign one's.
        let (named, version) = match &found {
            Found::Nothing => (KeyId::from_bytes([0; KeyId::LEN]), KeyVersion::FIRST),
            Found::Open(open) => key_of(&open.session)?,
            Found::Signed { key, version, .. } => (*key, *version),
        };
        let signed = reads.row(&RowKey::signed(named, version))?.bytes().is_some();
        let key = rows::heads::<Key>(reads.row(&RowKey::heads(named.into()))?)?;
        let rules = KeyRules::gather(core, reads, &account, Some(named), key)?;
        Ok(Self { core, account, id, rules, found, signed })
    }

    /// What the session id names.
    pub(super) const fn found(&self) -> &Found {
        &self.found
    }

    /// The session, if the caller may go on with it. A session of a foreign key is answered as one
    /// that does not exist.
    pub(super) fn take(self, deciding: &mut Deciding<'_>) -> Result<Taken, Refused> {
        deciding.audit.subject = self.id.as_bytes().to_vec();
        let standing = self.account.standing(deciding)?;
        let Some(key) = self.rules.key() else { return Err(sessions::unknown()) };
        // A session of a foreign key is unknown to all but the key's coordinator.
        if key.tenant() != standing.tenant() && key.coordinator() != Some(standing.principal()) {
            return Err(sessions::unknown());
        }
        deciding.audit.key = key.id().as_bytes().to_vec();
        match self.found {
            Found::Nothing => Err(sessions::unknown()),
            Found::Signed { version, row, .. } => {
                deciding.audit.key_version = version.get();
                let order = key.version(version).map(|e| e.order.digest(key.key_id(), version));
                let order = order.ok_or_else(sessions::unknown)?;
                may_finish(&standing, &self.rules, version, order, deciding)?;
                Ok(Taken::Signed(row))
            }
            Found::Open(open) => {
                open.in_time(deciding.now)?;
                let ceremony = authorize(&standing, &self.rules, open.session.clone(), deciding)?;
                deciding.audit.key_version = ceremony.version.get();
                let (index, _) = own_place(self.core, &ceremony)?;
                if self.signed {
                    let message = format!(
                        "this node has signed another session for version {}",
                        ceremony.version
                    );
                    return Err(Refused::new(RefusalCode::AlreadySigned, message));
                }
                Ok(Taken::Open { ceremony: Box::new(ceremony), index, open })
            }
        }
    }
}

impl Ceremony {
    /// A session of an order that the caller may carry out. The session names everything; nothing is
    /// filled in.
    fn new(session: v1::Session, authorized: quorate_authz::Ceremony) -> Result<Self, Refused> {
        let quorate_authz::Ceremony { key, version, order } = authorized;
        let binding = SessionBinding {
            session: digests::session_id(&session),
            order: order.digest(key, version),
            roster: digest("roster", &session.roster)?,
        };
        if !session.parent.is_empty() || !session.dealers.is_empty() {
            return Err(mismatch("names a parent generation or dealers, and a DKG has none"));
        }
        let most = order.max_attempts();
        if session.attempt == 0 || session.attempt > most {
            return Err(mismatch(&format!("names an attempt outside 1 to {most}")));
        }
        if session.nonce.len() != NONCE_BYTES {
            return Err(mismatch("has no nonce of 32 bytes"));
        }
        Ok(Self { id: binding.session, session, key, version, binding, order })
    }

    fn n(&self) -> usize {
        self.order.founders().len()
    }

    fn relay(what: impl Into<String>) -> Refused {
        Refused::new(RefusalCode::RelayFault, what)
    }

    /// Opens one participant's envelope: signed by its identity key in the order, and by it alone.
    fn payload<M: prost::Message + Default>(
        &self,
        kind: PayloadType,
        name: &'static str,
        index: ParticipantIndex,
        envelope: &Envelope,
    ) -> Result<M, Refused> {
        let member = self.order.founders().get(index.position());
        let signed = Verified::new(kind, envelope.clone()).ok().filter(|verified| {
            member.is_some_and(|member| verified.signers() == [member.identity_key])
        });
        let signed = signed.ok_or_else(|| {
            Self::relay(format!("the {name} of participant {index} is not signed by its node"))
        })?;
        strict::decode(name, signed.payload())
            .map_err(|error| Self::relay(format!("participant {index}: {error}")))
    }

    fn about(&self, name: &str, index: ParticipantIndex, holds: bool) -> Result<(), Refused> {
        if holds {
            return Ok(());
        }
        Err(Self::relay(format!(
            "the {name} at the place of participant {index} belongs to another session, order, \
             suite or index"
        )))
    }

    /// Everybody's round 0, in the order of indices: signatures, session, order, index, suite.
    /// `own` is the payload that this node sent.
    pub(super) fn round0(
        &self,
        envelopes: &[Envelope],
        own: ParticipantIndex,
        own_payload: &[u8],
    ) -> Result<Vec<Round0>, Refused> {
        if envelopes.len() != self.n() {
            return Err(Self::relay(format!(
                "{} round-0 messages of {} participants",
                envelopes.len(),
                self.n()
            )));
        }
        let mut messages = Vec::with_capacity(envelopes.len());
        for (index, envelope) in self.order.founding().indices().zip(envelopes) {
            let message: Round0 = self.payload(PayloadType::Round0, "Round0", index, envelope)?;
            let fits = message.session == self.id.as_bytes()
                && message.order == self.binding.order.as_bytes()
                && message.index == u32::from(index.get())
                && message.suite == Prf::ID;
            self.about("round 0", index, fits)?;
            if index == own && envelope.payload != own_payload {
                return Err(Self::relay("this node's own round 0 is not the one that it sent"));
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// The digest of all round 0, which every round 1 names.
    pub(super) fn round0_digest(envelopes: &[Envelope]) -> Digest {
        digests::round0_digest(envelopes.iter().map(|e| e.payload.as_slice()))
    }

    /// The verified outcome of round 0, or who is provably at fault.
    pub(super) fn members(
        &self,
        messages: &[Round0],
    ) -> Result<dkg::Session<Prf>, Result<Fault, Refused>> {
        let mut members = Vec::with_capacity(messages.len());
        for (member, message) in self.order.founders().iter().zip(messages) {
            let fault = |what: &str| Ok(Fault { index: member.index, what: what.to_owned() });
            let receive_key = message
                .receive_key
                .as_slice()
                .try_into()
                .map_err(|_| fault("its receive key is not 32 bytes"))?;
            let proof = message
                .proof
                .as_slice()
                .try_into()
                .map_err(|_| fault("its proof of possession is not 64 bytes"))?;
            // Before the receive keys are compared with one another: who copied another's key
            // fails here, and the one whose key was copied is not blamed.
            let statement = self.possession(member.node, member.index, receive_key);
            if !possession::verify(&statement, &proof) {
                return Err(fault("it does not prove that it knows its receive key"));
            }
            let index = member.index.get().into();
            members.push(dkg::Member { index, node: member.node, receive_key, proof });
        }
        dkg::Session::new(self.binding, self.order.founding(), members)
            .map_err(|error| Err(Self::relay(error.to_string())))
    }

    /// What a round 0 proves.
    pub(super) fn possession(
        &self,
        node: quorate_types::NodeId,
        index: ParticipantIndex,
        point: [u8; 32],
    ) -> PossessionStatement<Prf> {
        PossessionStatement {
            kind: PossessionKind::ReceiveKey,
            session: self.id,
            order: self.binding.order,
            node,
            index,
            point,
        }
    }

    /// Everybody's round 1, in the order of indices: signatures, session, order, index, suite, and
    /// that each dealer saw the same round 0 as this node.
    pub(super) fn round1(
        &self,
        envelopes: &[Envelope],
        round0: Digest,
        own: ParticipantIndex,
        own_digest: &[u8],
    ) -> Result<Vec<Round1>, Refused> {
        if envelopes.len() != self.n() {
            return Err(Self::relay(format!(
                "{} round-1 messages of {} participants",
                envelopes.len(),
                self.n()
            )));
        }
        let mut messages = Vec::with_capacity(envelopes.len());
        for (index, envelope) in self.order.founding().indices().zip(envelopes) {
            let message: Round1 = self.payload(PayloadType::Round1, "Round1", index, envelope)?;
            let fits = message.session == self.id.as_bytes()
                && message.order == self.binding.order.as_bytes()
                && message.index == u32::from(index.get())
                && message.suite == Prf::ID;
            self.about("round 1", index, fits)?;
            if message.round0 != round0.as_bytes() {
                return Err(Self::relay(format!(
                    "participant {index} was shown another round 0 than this node"
                )));
            }
            if index == own && payload_digest(&envelope.payload).as_bytes() != own_digest {
                return Err(Self::relay("this node's own round 1 is not the one that it sent"));
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// Evidence that envelopes alone are: no share is in dispute.
    pub(super) fn evidence(
        &self,
        recipient: ParticipantIndex,
        dealer: ParticipantIndex,
        round0: &[Envelope],
        round1: Option<&Envelope>,
    ) -> Evidence {
        Evidence {
            session: Some(self.session.clone()),
            recipient: recipient.get().into(),
            dealer: dealer.get().into(),
            round0: round0.to_vec(),
            round1: round1.cloned(),
            ..Evidence::default()
        }
    }
}

/// What a session row remembers of the own round 1.
pub(crate) fn payload_digest(payload: &[u8]) -> Digest {
    quorate_wire::Transcript::new("dkg-round1-payload").field(payload).digest()
}

/// A round-1 message with its points and signatures cut to length.
pub(crate) fn round1_message(message: &Round1) -> Result<Round1Message<Prf>, &'static str> {
    let mut commitments = Vec::with_capacity(message.commitments.len());
    for commitment in &message.commitments {
        commitments.push(commitment.as_slice().try_into().map_err(|_| "commitments")?);
    }
    Ok(Round1Message {
        dealer: message.index,
        broadcast: Round1Broadcast {
            commitments,
            pop: message
                .proof_of_possession
                .as_slice()
                .try_into()
                .map_err(|_| "proof of possession")?,
            ephemeral: message.ephemeral_key.as_slice().try_into().map_err(|_| "ephemeral key")?,
        },
        ephemeral_proof: message
            .ephemeral_proof
            .as_slice()
            .try_into()
            .map_err(|_| "ephemeral proof")?,
        root: Digest::from_slice(&message.ciphertexts_root).map_err(|_| "ciphertexts root")?,
    })
}

/// What the coordinator relayed of the dealers' ciphertexts.
pub(crate) fn deliveries(relayed: &[v1::Delivery]) -> Result<Vec<Delivery>, Refused> {
    relayed
        .iter()
        .map(|delivery| {
            let path = delivery
                .path
                .iter()
                .map(|digest| Digest::from_slice(digest))
                .collect::<Result<_, _>>()
                .map_err(|_| Ceremony::relay("a Merkle path is malformed"))?;
            Ok(Delivery { ciphertext: delivery.ciphertext.clone(), path })
        })
        .collect()
}
