//! Rows of open sessions: finding them, bounding them, and pruning those that have expired.

use prost::Message;
use quorate_secret::Secret;
use quorate_types::limits::{
    MAX_SESSION_BYTES, MAX_SESSION_BYTES_PER_TENANT, MAX_SESSIONS, MAX_SESSIONS_PER_PRINCIPAL,
    MAX_SESSIONS_PER_TENANT, SESSION_PLACE_SECONDS, SESSION_SECONDS, SESSIONS_OF_EVERY_TENANT,
};
use quorate_types::{PrincipalId, SessionId, TenantId, UnixSeconds};
use quorate_wire::proto::store::v1::{OpenSession, OpenSessionsRow, SessionRow, SignedRow};
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, strict};
use rand_core::CryptoRng;

use super::ceremony::{Prf, key_of};
use crate::core::NodeCore;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table};
use crate::step::Write;
use crate::view::Read;
use crate::{rows, sealing};

/// The secrets of one session at one node: the receive key's seed and round 1's. They are sealed in
/// the session's row and die with it.
pub(crate) struct Seeds {
    receive: Secret<32>,
    pub(crate) round1: Secret<32>,
}

impl Seeds {
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        Self { receive: Secret::random(rng), round1: Secret::random(rng) }
    }

    /// `(d_i, P_i)`.
    pub(crate) fn receive_key(&self) -> quorate_schemes::dkg::ReceiveKey<Prf> {
        quorate_schemes::dkg::ReceiveKey::from_seed(&self.receive)
    }

    pub(super) fn seal(
        &self,
        core: &NodeCore,
        session: SessionId,
        rng: &mut dyn CryptoRng,
    ) -> quorate_wire::proto::store::v1::Sealed {
        self.seal_at(core, &RowKey::session(session), rng)
    }

    /// The same for a session whose row stands elsewhere.
    pub(crate) fn seal_at(
        &self,
        core: &NodeCore,
        place: &RowKey,
        rng: &mut dyn CryptoRng,
    ) -> quorate_wire::proto::store::v1::Sealed {
        let both = Secret::<64>::from_fn(|bytes| {
            let (one, two) = bytes.split_at_mut(32);
            one.copy_from_slice(self.receive.reveal());
            two.copy_from_slice(self.round1.reveal());
        });
        sealing::seal(&core.root, place, both.reveal(), rng)
    }

    pub(super) fn open(
        core: &NodeCore,
        session: SessionId,
        row: &SessionRow,
    ) -> Result<Self, Refused> {
        Self::open_at(core, &RowKey::session(session), row)
    }

    /// The same for a session whose row stands elsewhere.
    pub(crate) fn open_at(
        core: &NodeCore,
        place: &RowKey,
        row: &SessionRow,
    ) -> Result<Self, Refused> {
        let failed =
            || Refused::new(RefusalCode::StorageFailed, "the session's secrets cannot be unsealed");
        let sealed = row.seeds.as_ref().ok_or_else(failed)?;
        let opened = sealing::open(&core.root, place, sealed).map_err(|_| failed())?;
        let (one, two) = opened.reveal().split_at_checked(32).ok_or_else(failed)?;
        Ok(Self {
            receive: Secret::from_slice(one).ok_or_else(failed)?,
            round1: Secret::from_slice(two).ok_or_else(failed)?,
        })
    }
}

/// An open session's row, taken apart.
pub(super) struct Open {
    pub(super) row: SessionRow,
    pub(super) session: v1::Session,
}

/// What a request that names a session id finds.
pub(super) enum Found {
    /// Nothing: never opened here, expired and pruned, or signed long ago under another name.
    Nothing,
    /// An open session, expired or not.
    Open(Box<Open>),
    /// The session was signed; its secrets are gone.
    Signed { key: quorate_types::KeyId, version: quorate_types::KeyVersion, row: Box<SignedRow> },
}

pub(super) fn session_id(bytes: &[u8]) -> Result<SessionId, Refused> {
    SessionId::from_slice(bytes)
        .map_err(|_| Refused::new(RefusalCode::Malformed, "the session's id is malformed"))
}

/// Finds a session by its id.
pub(super) fn find(reads: &Reads<'_>, id: SessionId) -> Result<Found, Stop> {
    let open = reads.row(&RowKey::session(id));
    let signed = reads.row(&RowKey::signed_session(id));
    let (open, signed) = (open?, signed?);
    if let Some(place) = rows::message::<quorate_wire::proto::store::v1::SignedSessionRow>(signed)?
    {
        let key =
            quorate_types::KeyId::from_slice(&place.key).map_err(|_| rows::damaged(signed))?;
        let version = quorate_types::KeyVersion::new(place.key_version)
            .ok_or_else(|| rows::damaged(signed))?;
        let entry = reads.row(&RowKey::signed(key, version))?;
        let row = rows::message::<SignedRow>(entry)?.ok_or_else(|| rows::damaged(entry))?;
        return Ok(Found::Signed { key, version, row: Box::new(row) });
    }
    let Some(row) = rows::message::<SessionRow>(open)? else { return Ok(Found::Nothing) };
    let session: v1::Session =
        strict::decode("Session", &row.session).map_err(|_| rows::damaged(open))?;
    let _ = key_of(&session)?;
    Ok(Found::Open(Box::new(Open { row, session })))
}

pub(crate) fn unknown() -> Refused {
    Refused::new(RefusalCode::SessionUnknown, "there is no such session, or it has expired")
}

impl Open {
    /// Refuses a session whose time is over, also before it has been pruned.
    pub(super) fn in_time(&self, now: UnixSeconds) -> Result<(), Refused> {
        if now.0 < self.row.expires_at { Ok(()) } else { Err(unknown()) }
    }
}

/// The sessions of one tenant that are still in time, and the writes that remove the others.
pub(crate) fn prune(row: OpenSessionsRow, now: UnixSeconds) -> (OpenSessionsRow, Vec<Write>) {
    let (open, expired): (Vec<_>, Vec<_>) =
        row.sessions.into_iter().partition(|session| now.0 < session.expires_at);
    let writes = expired
        .iter()
        .filter_map(|session| match session.place.as_slice() {
            [] => SessionId::from_slice(&session.session).ok().map(RowKey::session),
            place => Some(RowKey { table: Table::Sessions, key: place.to_vec() }),
        })
        .map(Write::Delete)
        .collect();
    (OpenSessionsRow { sessions: open }, writes)
}

/// The list that a session stands in.
pub(crate) fn list_of(row: &SessionRow) -> Option<RowKey> {
    // Before sessions were counted by tenants, a list was the opener's.
    let whose = if row.tenant.is_empty() { &row.opener } else { &row.tenant };
    TenantId::from_slice(whose).ok().map(RowKey::open_sessions)
}

/// The write of a list: gone when it is empty, so that the table stays bounded.
pub(crate) fn write(key: RowKey, row: &OpenSessionsRow) -> Write {
    if row.sessions.is_empty() { Write::Delete(key) } else { Write::Put(key, row.encode_to_vec()) }
}

fn everything() -> Read {
    let limit = MAX_SESSIONS * 2;
    Read::Range { table: Table::OpenSessions, prefix: Vec::new(), after: None, limit }
}

/// How much is open at this node, in time: a sum over every tenant's list.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    sessions: usize,
    bytes: usize,
}

impl Load {
    fn of<'a>(sessions: impl IntoIterator<Item = &'a OpenSession>, now: UnixSeconds) -> Self {
        let mut load = Self::default();
        for session in sessions.into_iter().filter(|session| now.0 < session.expires_at) {
            load.sessions += 1;
            load.bytes += usize::try_from(session.bytes).unwrap_or(usize::MAX);
        }
        load
    }
}

/// Every list, as it is read before a session is opened.
pub(crate) fn lists(reads: &Reads<'_>) -> Result<Vec<OpenSession>, Stop> {
    let mut all = Vec::new();
    for entry in reads.glance(everything())? {
        all.extend(rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default().sessions);
    }
    Ok(all)
}

/// Refuses one more session of `bytes` past what its opener, the opener's tenant and the node may have.
///
/// `own` is the tenant's list, on which the decision rests exactly; `all` is about right.
pub(crate) fn admit(
    own: &OpenSessionsRow,
    all: &[OpenSession],
    opener: PrincipalId,
    bytes: usize,
    now: UnixSeconds,
) -> Result<(), Refused> {
    let limit = |message: String| Err(Refused::new(RefusalCode::SessionLimit, message));
    let tenant = Load::of(&own.sessions, now);
    let of_opener = own.sessions.iter().filter(|session| session.opener == opener.as_bytes());
    if Load::of(of_opener, now).sessions >= MAX_SESSIONS_PER_PRINCIPAL {
        return limit(format!(
            "{opener} has {MAX_SESSIONS_PER_PRINCIPAL} open sessions at this node, the most allowed"
        ));
    }
    if tenant.sessions >= MAX_SESSIONS_PER_TENANT {
        return limit(format!(
            "the tenant has {MAX_SESSIONS_PER_TENANT} open sessions at this node, the most allowed"
        ));
    }
    if tenant.bytes.saturating_add(bytes) > MAX_SESSION_BYTES_PER_TENANT {
        return limit(format!(
            "the tenant's open sessions hold {} bytes at this node, and {MAX_SESSION_BYTES_PER_TENANT} are the most allowed",
            tenant.bytes
        ));
    }
    let node = Load::of(all, now);
    // The last quarter is kept for tenants that have few.
    let (sessions, most_bytes) = if tenant.sessions < SESSIONS_OF_EVERY_TENANT {
        (MAX_SESSIONS, MAX_SESSION_BYTES)
    } else {
        (MAX_SESSIONS / 4 * 3, MAX_SESSION_BYTES / 4 * 3)
    };
    if node.sessions >= sessions || node.bytes.saturating_add(bytes) > most_bytes {
        return limit(format!(
            "{} sessions are open at this node, the most allowed to a tenant that has {}",
            node.sessions, tenant.sessions
        ));
    }
    Ok(())
}

/// The same where the session is a reshare's, which may take the places of its opener's own: as long as the bounds are
/// reached, the oldest reshare of the opener ends that is [`SESSION_PLACE_SECONDS`] old. A session that was not signed may
/// vanish, and nobody else's does; a DKG's stays, because others may have signed what it still has to sign. Returns the
/// writes that end them; they are out of `own`.
pub(crate) fn admit_reshare(
    own: &mut OpenSessionsRow,
    mut all: Vec<OpenSession>,
    opener: PrincipalId,
    bytes: usize,
    now: UnixSeconds,
) -> Result<Vec<Write>, Refused> {
    let mut writes = Vec::new();
    loop {
        let Err(refused) = admit(own, &all, opener, bytes, now) else { return Ok(writes) };
        let ends = |session: &OpenSession| {
            let opened_at = session.expires_at.saturating_sub(SESSION_SECONDS);
            !session.place.is_empty()
                && session.opener == opener.as_bytes()
                && now.0 >= opened_at.saturating_add(SESSION_PLACE_SECONDS)
        };
        let oldest = own
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, session)| ends(session))
            .min_by_key(|(_, session)| session.expires_at)
            .map(|(at, _)| at);
        let Some(at) = oldest else { return Err(refused) };
        let ended = own.sessions.remove(at);
        all.retain(|session| session.session != ended.session);
        writes.push(Write::Delete(RowKey { table: Table::Sessions, key: ended.place }));
    }
}

/// What a sweep reads: the list of every tenant, of which each has an open session.
pub(crate) fn plan_sweep(reads: &Reads<'_>) -> Result<(), Stop> {
    reads.range(everything())?;
    Ok(())
}

/// Removes every session whose time is over. Says how many there were.
pub(crate) fn sweep(reads: &Reads<'_>, now: UnixSeconds) -> Result<(usize, Vec<Write>), Stop> {
    let mut writes = Vec::new();
    let mut pruned = 0;
    for entry in reads.range(everything())? {
        let row = rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default();
        let (left, deletes) = prune(row, now);
        if deletes.is_empty() {
            continue;
        }
        pruned += deletes.len();
        writes.extend(deletes);
        writes.push(write(entry.key().clone(), &left));
    }
    Ok((pruned, writes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(opener: u8, reshares: bool, number: usize) -> Vec<OpenSession> {
        let session = |at: usize| OpenSession {
            session: vec![opener, at as u8],
            expires_at: SESSION_SECONDS + at as u64,
            opener: vec![opener; PrincipalId::LEN],
            bytes: 1,
            place: if reshares { vec![opener, at as u8] } else { Vec::new() },
        };
        (0..number).map(session).collect()
    }

    /// Whoever has all places loses no DKG, which others may have signed, and nobody else a thing.
    #[test]
    fn only_the_openers_own_reshares_make_room() {
        let opener = |byte: u8| PrincipalId::from_bytes([byte; PrincipalId::LEN]);
        let now = UnixSeconds(SESSION_SECONDS - 1);
        let admitted = |sessions: &[OpenSession], by: u8| {
            let mut own = OpenSessionsRow { sessions: sessions.to_vec() };
            let writes = admit_reshare(&mut own, sessions.to_vec(), opener(by), 1, now);
            (writes.map(|writes| writes.len()).ok(), own.sessions.len())
        };
        let all = MAX_SESSIONS_PER_PRINCIPAL;
        assert_eq!(admitted(&list(1, true, all), 1), (Some(1), all - 1));
        assert_eq!(admitted(&list(1, true, all - 1), 1), (Some(0), all - 1));
        assert_eq!(admitted(&list(1, false, all), 1), (None, all));
        // The tenant is full of others' sessions.
        let both = [list(1, true, all), list(2, true, all)].concat();
        assert_eq!(admitted(&both, 3), (None, 2 * all));
    }
}
