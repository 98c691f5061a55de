//! A reshare's session at this node: what a request names, what it rests on, and who takes part.

use quorate_authz::Caller;
use quorate_documents::{Heads, Key, KeyPurpose, Order, Orders, Seat, Seats, Statement};
use quorate_schemes::dkg::SessionBinding;
use quorate_types::limits::MAX_PROMISES_PER_PARENT;
use quorate_types::{Digest, Generation, KeyId, KeyVersion, SessionId, UnixSeconds};
use quorate_wire::proto::store::v1::SessionRow;
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, SigningKey, digests};

use super::generations::{Generations, order_documents};
use crate::access::Account;
use crate::core::{Deciding, NodeCore};
use crate::handlers::dkg::key_of;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, version_prefix};
use crate::rows;
use crate::rules::{KeyRules, reasons};

/// Length of the coordinator's nonce in a session.
const NONCE_BYTES: usize = 32;

/// Where the row of a session stands: with those of its key version, so that they end with the shares.
pub(super) fn place(key: KeyId, version: KeyVersion, session: SessionId) -> RowKey {
    let key = [version_prefix(key, version).as_slice(), session.as_bytes()].concat();
    RowKey { table: Table::Sessions, key }
}

/// What a request about a session rests on.
pub(super) struct Gathered<'a> {
    pub(super) core: &'a NodeCore,
    pub(super) account: Account,
    pub(super) id: SessionId,
    pub(super) place: RowKey,
    session: v1::Session,
    key: KeyId,
    version: KeyVersion,
    rules: KeyRules,
    /// Nothing of a key that the caller may not know of is read.
    known: Option<Known>,
}

struct Known {
    generations: Generations,
    orders: Option<Orders>,
    row: Option<SessionRow>,
}

/// A session that the caller may go on with, now.
pub(super) struct Reshare<'a> {
    pub(super) core: &'a NodeCore,
    pub(super) id: SessionId,
    pub(super) place: RowKey,
    pub(super) session: v1::Session,
    pub(super) key: KeyId,
    pub(super) version: KeyVersion,
    pub(super) binding: SessionBinding,
    pub(super) order: Order,
    pub(super) parent: Statement,
    pub(super) seats: Seats,
    pub(super) own: Seat,
    pub(super) identity: &'a SigningKey,
    pub(super) generations: Generations,
    pub(super) row: Option<SessionRow>,
}

fn mismatch(what: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::OrderMismatch, what)
}

fn malformed(what: &str) -> Refused {
    Refused::new(RefusalCode::Malformed, format!("the session's {what} is malformed"))
}

impl<'a> Gathered<'a> {
    pub(super) fn gather(
        core: &'a NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        node: &[u8],
        session: Option<&v1::Session>,
    ) -> Result<Self, Stop> {
        let account = Account::gather(core, reads, caller, node);
        let session = session
            .cloned()
            .ok_or_else(|| Refused::new(RefusalCode::Malformed, "the request has no session"))?;
        let (key, version) = key_of(&session)?;
        let heads = reads.row(&RowKey::heads(key.into()));
        let account = account?;
        let heads = rows::heads::<Key>(heads?)?;
        let rules = KeyRules::gather(core, reads, &account, Some(key), heads)?;
        let id = digests::session_id(&session);
        let place = place(key, version, id);
        let known = match rules.key().filter(|_| rules.known_to(&account)) {
            None => None,
            Some(heads) => Some(Known::gather(reads, heads, version, &place)?),
        };
        Ok(Self { core, account, id, place, session, key, version, rules, known })
    }

    /// The roster under which the session was begun.
    pub(super) fn roster(&self) -> &[u8] {
        &self.session.roster
    }

    /// The list of open sessions in which the session stands, where it was opened here.
    pub(super) fn list(&self) -> Option<RowKey> {
        self.known.as_ref()?.row.as_ref().and_then(crate::handlers::dkg::sessions::list_of)
    }

    /// The session, if the caller may go on with it now and this node takes part.
    pub(super) fn take(self, deciding: &mut Deciding<'_>) -> Result<Reshare<'a>, Refused> {
        let Self { core, account, id, place, session, key, version, rules, known } = self;
        deciding.audit.subject = id.as_bytes().to_vec();
        deciding.audit.key = key.as_bytes().to_vec();
        deciding.audit.key_version = version.get();
        let standing = account.standing(deciding)?;
        let now = deciding.now;
        let order = Digest::from_slice(&session.order).map_err(|_| malformed("order"))?;
        let orders = known.as_ref().and_then(|known| known.orders.as_ref());
        let authorized = rules.ask(deciding.audit, |access| {
            quorate_authz::open_reshare(&standing, access, version, orders, order, now)
        })?;
        deciding.audit.reasons = reasons(&authorized);
        rules.exists()?;
        let order = authorized.into_operation().order;
        // What may not be known of was refused by the line before the last.
        let known = known.ok_or_else(|| malformed("key"))?;
        let Known { generations, row, .. } = known;

        let parent = parent(&generations, &session, version)?;
        let seats = Seats::new(&order, &parent, &session.dealers)
            .map_err(|error| mismatch(error.to_string()))?;
        let most = order.max_attempts();
        if session.attempt == 0 || session.attempt > most {
            return Err(mismatch(format!("the session names an attempt outside 1 to {most}")));
        }
        if session.nonce.len() != NONCE_BYTES {
            return Err(mismatch("the session has no nonce of 32 bytes"));
        }
        // Members were asked for with the order. A dealer that is none signs with the key by which it took
        // part in the parent.
        for seat in seats.all().iter().filter(|seat| seat.index.is_none()) {
            let accepts = account
                .entry_of(&seat.node)
                .is_some_and(|entry| entry.accepts(KeyPurpose::Identity, &seat.identity_key, now));
            if !accepts {
                let message = format!(
                    "{} deals, and the roster does not name it with its identity key of the parent \
                     generation; choose other dealers",
                    seat.node
                );
                return Err(mismatch(message));
            }
        }
        let own = seats.of(&core.id()).copied();
        let own = own.and_then(|seat| Some((seat, core.identity(&seat.identity_key)?)));
        let (own, identity) = own.ok_or_else(|| {
            mismatch("the session does not name this node with an identity key that it has")
        })?;
        let binding = SessionBinding {
            session: id,
            order: order.digest(key, version),
            roster: Digest::from_slice(&session.roster).map_err(|_| malformed("roster"))?,
        };
        Ok(Reshare {
            core,
            id,
            place,
            session,
            key,
            version,
            binding,
            order,
            parent,
            seats,
            own,
            identity,
            generations,
            row,
        })
    }
}

impl Known {
    fn gather(
        reads: &Reads<'_>,
        key: &Heads<Key>,
        version: KeyVersion,
        place: &RowKey,
    ) -> Result<Self, Stop> {
        let generations = Generations::gather(reads, key.key_id(), version);
        let orders = order_documents(reads, key.key_id());
        let row = reads.row(place);
        let (generations, orders) = (generations?, orders?);
        Ok(Self { generations, orders: orders.of(key, version), row: rows::message(row?)? })
    }
}

/// The parent that a session names: this node's highest certificate, or there is nothing to deal from.
fn parent(
    generations: &Generations,
    session: &v1::Session,
    version: KeyVersion,
) -> Result<Statement, Refused> {
    let named = Generation::from_slice(&session.parent).map_err(|_| malformed("parent"))?;
    let highest = generations.highest().ok_or_else(|| {
        let message = format!("this node has no certificate of version {version}; bring it first");
        Refused::new(RefusalCode::KeyNotReady, message)
    })?;
    if highest.statement().generation() != named {
        let message = "the session's parent is another generation than that of this node's highest \
                       certificate; bring the higher of both to all";
        return Err(Refused::new(RefusalCode::GenerationNotHeld, message)
            .with_certificate(Some(highest.envelope().clone())));
    }
    Ok(highest.statement().clone())
}

impl Reshare<'_> {
    /// Refuses a refresh that the standing order does not allow yet.
    pub(super) fn due(&self, now: UnixSeconds) -> Result<(), Refused> {
        match due_in(&self.order, &self.seats, self.generations.taken_at(), now) {
            Some(0) => Ok(()),
            Some(seconds) => Err(Refused::new(
                RefusalCode::RefreshNotDue,
                format!("the next refresh by the standing order is due in {seconds} seconds"),
            )),
            None => Err(Refused::new(
                RefusalCode::RefreshNotDue,
                "the order of the key version allows no refresh without another order",
            )),
        }
    }

    /// Refuses one more promise than a parent may have under one order.
    pub(super) fn bounded(&self) -> Result<(), Refused> {
        let same = |statement: &Statement| {
            statement.parent() == Some(self.parent.generation())
                && statement.order() == self.binding.order
        };
        let promises =
            self.generations.promises.iter().filter(|promise| same(&promise.statement)).count();
        if promises < MAX_PROMISES_PER_PARENT {
            return Ok(());
        }
        let message = format!(
            "this node has signed {promises} reshares of this generation that never came to a \
             certificate, the most that it keeps shares for; sign another order"
        );
        Err(Refused::new(RefusalCode::AttemptsExhausted, message))
    }

    /// The session's row, if it was opened here and its time is not over.
    pub(super) fn opened(&self, now: UnixSeconds) -> Result<&SessionRow, Refused> {
        let row = self.row.as_ref().filter(|row| now.0 < row.expires_at);
        row.ok_or_else(crate::handlers::dkg::unknown)
    }
}

/// Seconds until the order allows this reshare; none where it never does.
fn due_in(order: &Order, seats: &Seats, taken_at: UnixSeconds, now: UnixSeconds) -> Option<u64> {
    if !seats.refresh() {
        return Some(0);
    }
    refresh_due_in(order, taken_at, now)
}

/// Seconds until a refresh by the standing order is due; none where there is none.
pub(super) fn refresh_due_in(
    order: &Order,
    taken_at: UnixSeconds,
    now: UnixSeconds,
) -> Option<u64> {
    let every = order.refresh_seconds();
    (every > 0).then(|| taken_at.plus(every).0.saturating_sub(now.0))
}
