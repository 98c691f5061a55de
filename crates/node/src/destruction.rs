//! Destruction of keys: the node waits its own running time, then erases its shares for good.
//!
//! A wall clock can be set, so none is asked. The node adds up how long it has run while keys waited,
//! as the shell measures it by a clock that only goes forward and stands still while the machine is
//! off, and keeps the sum in its store. A key is due when the sum has grown by the time that its
//! document asks for, counted from when this node stored exactly the head that asks for it. Another
//! head, several, or none, and the waiting is over or begins again.
//!
//! What is left of a destroyed key is a row that says so. It is never deleted, and no share, session or
//! evaluation of that key passes it, whatever documents say from then on.

use prost::Message;
use quorate_documents::{Destruction, Heads, Key, Roster};
use quorate_types::limits::MIN_DESTRUCTION_SECONDS;
use quorate_types::{Digest, DocumentId, KeyId, TenantId, UnixSeconds};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::{AuditRow, DestructionRow, TenantCountsRow};
use rand_core::CryptoRng;

use crate::access;
use crate::core::{NodeCore, salt};
use crate::handlers::documents::places;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{DUE_PREFIX, RowKey, Table};
use crate::rows;
use crate::rules::{self, OwnedRung};
use crate::step::{Batch, Step, Write};
use crate::view::{Read, ReadSet, View};

/// The row with the sum of the time that this node has run while keys waited, in milliseconds.
const RUNNING: &str = "running";

/// Milliseconds that one sweep adds at most. A machine that was stopped and carried to another host may
/// find its clock moved; so it can win no more than this. And a head that arrives between two sweeps is
/// given that much more time, since the next sweep adds also what passed before it came.
pub(crate) const MAX_STEP_MS: u64 = 5 * 60 * 1000;

/// Shares of one key that are erased in one transaction. A key has at most 1024 versions, with as a
/// rule one generation each; where there are more, nothing is called destroyed before the last is gone.
const MAX_SHARES: usize = 4096;

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// No key is due.
    Waiting,
    /// The shares of this key are gone, or its waiting began again: there may be another one.
    Handled {
        /// The key.
        key: KeyId,
        /// Whether its shares are gone.
        destroyed: bool,
    },
}

/// What a node has to say of the destruction of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits until the running clock shows this.
    Waits { due: u64 },
    /// Its shares were erased then.
    Destroyed { at: UnixSeconds },
}

/// How a row says it.
pub(crate) fn fate(row: Option<&DestructionRow>) -> Option<Fate> {
    row.map(|row| match row.destroyed_at {
        0 => Fate::Waits { due: row.due },
        at => Fate::Destroyed { at: UnixSeconds(at) },
    })
}

/// The running clock, in milliseconds.
pub(crate) fn running(reads: &Reads<'_>) -> Result<u64, Stop> {
    let entry = reads.row(&RowKey::cluster(RUNNING))?;
    match entry.bytes() {
        None => Ok(0),
        Some(bytes) => {
            let bytes = bytes.try_into().map_err(|_| rows::damaged(entry))?;
            Ok(u64::from_be_bytes(bytes))
        }
    }
}

/// Why nothing of a destroyed key is served.
pub(crate) fn gone(at: UnixSeconds) -> Refused {
    let message = format!(
        "this node has erased its shares of the key for good, at {} seconds since 1970; no document brings them back",
        at.0
    );
    Refused::new(RefusalCode::KeyState, message)
}

/// The head that asks for destruction, where there is exactly one head and it does.
pub(crate) fn asked(heads: &Heads<Key>) -> Option<(Digest, Destruction)> {
    heads.destruction().zip(heads.single()).map(|(asked, head)| (head.digest(), asked))
}

fn wait_ms(asked: Destruction) -> u64 {
    // Documents say no less; no defence rests on it twice.
    asked.wait_seconds.max(MIN_DESTRUCTION_SECONDS).saturating_mul(1000)
}

/// What the rows were before documents changed.
pub(crate) struct Before {
    row: Option<DestructionRow>,
    running: u64,
}

impl Before {
    /// Reads what [`Before::follow`] needs.
    pub(crate) fn gather(reads: &Reads<'_>, key: KeyId) -> Result<Self, Stop> {
        let row = reads.row(&RowKey::destruction(key));
        let running = running(reads);
        Ok(Self { row: rows::message(row?)?, running: running? })
    }

    /// Whether the key's shares are gone, for ever.
    pub(crate) fn is_over(&self) -> bool {
        matches!(fate(self.row.as_ref()), Some(Fate::Destroyed { .. }))
    }

    /// Brings the rows of one key in line with what its heads say now.
    pub(crate) fn follow(self, key: KeyId, heads: Option<&Heads<Key>>, writes: &mut Vec<Write>) {
        let asked = heads.and_then(asked);
        match (&self.row, asked) {
            // For ever.
            (Some(row), _) if row.destroyed_at != 0 => {}
            (Some(row), Some((head, _))) if row.head == head.as_bytes() => {}
            (before, asked) => {
                if let Some(row) = before {
                    writes.push(Write::Delete(RowKey::due(row.due, key)));
                    writes.push(Write::Delete(RowKey::destruction(key)));
                }
                if let Some((head, asked)) = asked {
                    // After the deletions: of two writes of one row the last counts.
                    wait(key, head, self.running.saturating_add(MAX_STEP_MS), asked, writes);
                }
            }
        }
    }
}

fn wait(key: KeyId, head: Digest, from: u64, asked: Destruction, writes: &mut Vec<Write>) {
    let due = from.saturating_add(wait_ms(asked));
    let row = DestructionRow { head: head.as_bytes().to_vec(), due, destroyed_at: 0 };
    writes.push(Write::Put(RowKey::destruction(key), row.encode_to_vec()));
    writes.push(Write::Put(RowKey::due(due, key), Vec::new()));
}

/// A key whose waiting is over, and all that is looked at once more before its shares are erased.
struct Due {
    key: KeyId,
    due: u64,
    row: Option<DestructionRow>,
    heads: Option<std::sync::Arc<Heads<Key>>>,
    settled: bool,
    shares: Vec<RowKey>,
    /// How many documents its tenant has.
    counts: TenantCountsRow,
}

/// The running clock as it will be, whether any key waits, and the first that is due.
struct Ready {
    running: u64,
    waiting: bool,
    due: Option<Due>,
}

/// The first key in the order in which they are due.
fn first(reads: &Reads<'_>) -> Result<Option<(u64, KeyId)>, Stop> {
    let read = Read::Range {
        table: Table::Destructions,
        prefix: DUE_PREFIX.to_vec(),
        after: None,
        limit: 1,
    };
    let Some(entry) = reads.range(read)?.first() else { return Ok(None) };
    let place =
        entry.key().key.get(DUE_PREFIX.len()..).and_then(|key| key.split_first_chunk::<8>());
    let (due, key) = place.ok_or_else(|| rows::damaged(entry))?;
    let key = KeyId::from_slice(key).map_err(|_| rows::damaged(entry))?;
    Ok(Some((u64::from_be_bytes(*due), key)))
}

/// Whether nothing above the key is contested: two who contend for a tenant must settle it before a key
/// of it is destroyed.
fn settled(reads: &Reads<'_>, tenant: TenantId) -> Result<bool, Stop> {
    let cluster = access::cluster(reads)?;
    let roster = reads.row(&RowKey::heads(cluster.into()));
    let way: Vec<OwnedRung> = rules::way_up(reads, tenant)?;
    let roster = rows::heads::<Roster>(roster?)?;
    let tenants = rules::borrowed(&way);
    let whole = tenants.last().is_some_and(|rung| rung.tenant.parent().is_none());
    Ok(whole
        && tenants.iter().all(|rung| !rung.tenant.contested())
        && roster.is_some_and(|roster| !roster.contested()))
}

fn gather(reads: &Reads<'_>, elapsed_ms: u64) -> Result<Ready, Stop> {
    let before = running(reads);
    let first = first(reads)?;
    let running = before?.saturating_add(elapsed_ms.min(MAX_STEP_MS));
    let waiting = first.is_some();
    let Some((due, key)) = first.filter(|(due, _)| *due <= running) else {
        return Ok(Ready { running, waiting, due: None });
    };
    let row = reads.row(&RowKey::destruction(key));
    let heads = reads.row(&RowKey::heads(DocumentId::from(key)));
    let shares = reads.range(Read::Range {
        table: Table::Shares,
        prefix: key.as_bytes().to_vec(),
        after: None,
        limit: MAX_SHARES,
    });
    // A dealer's seed in a session of a reshare, with its recorded messages, is the share that it dealt.
    let sessions = reads.range(Read::Range {
        table: Table::Sessions,
        prefix: key.as_bytes().to_vec(),
        after: None,
        limit: MAX_SHARES,
    });
    let heads = rows::heads::<Key>(heads?)?;
    let (settled, counts) = match &heads {
        Some(heads) => {
            let counts = reads.row(&RowKey::tenant_counts(heads.tenant()));
            let settled = settled(reads, heads.tenant());
            (settled?, rows::message(counts?)?.unwrap_or_default())
        }
        None => (false, TenantCountsRow::default()),
    };
    let (shares, sessions) = (shares?, sessions?);
    let shares = shares.iter().chain(sessions).map(|entry| entry.key().clone()).collect();
    let row = rows::message(row?)?;
    let due = Due { key, due, row, heads, settled, shares, counts };
    Ok(Ready { running, waiting, due: Some(due) })
}

impl Due {
    /// Erases, or has the key wait again. Says whether the shares are gone, and leaves a record if so.
    fn decide(
        self,
        running: u64,
        now: UnixSeconds,
        writes: &mut Vec<Write>,
    ) -> (bool, Option<AuditRow>) {
        let Self { key, due, row, heads, settled, shares, mut counts } = self;
        let asked = heads.as_deref().and_then(asked);
        let stands = |head: &Digest| {
            let row = row.as_ref().filter(|row| row.destroyed_at == 0 && row.due == due);
            row.is_some_and(|row| row.head == head.as_bytes())
        };
        let tenant = heads.as_deref().map(Heads::<Key>::tenant);
        match asked.filter(|(head, _)| stands(head)).zip(tenant) {
            Some(((head, _), tenant)) if settled => {
                let whole = shares.len() < MAX_SHARES;
                writes.extend(shares.into_iter().map(Write::Delete));
                if !whole {
                    return (false, None);
                }
                let row = DestructionRow {
                    head: head.as_bytes().to_vec(),
                    due,
                    destroyed_at: now.0.max(1),
                };
                writes.push(Write::Delete(RowKey::due(due, key)));
                writes.push(Write::Put(RowKey::destruction(key), row.encode_to_vec()));
                // Its place among the tenant's keys is free.
                places::destroyed(&mut counts);
                writes.push(Write::Put(RowKey::tenant_counts(tenant), counts.encode_to_vec()));
                let record = AuditRow {
                    time: now.0,
                    method: "Destroy".to_owned(),
                    decision: "ok".to_owned(),
                    key: key.as_bytes().to_vec(),
                    subject: head.as_bytes().to_vec(),
                    owner: tenant.as_bytes().to_vec(),
                    ..AuditRow::default()
                };
                (true, Some(record))
            }
            // Contested: what two disagree about waits, and from the beginning.
            Some(((head, asked), _)) => {
                writes.push(Write::Delete(RowKey::due(due, key)));
                wait(key, head, running, asked, writes);
                (false, None)
            }
            // Documents say something else; their rows were written with them.
            None => {
                writes.push(Write::Delete(RowKey::due(due, key)));
                (false, None)
            }
        }
    }
}

impl NodeCore {
    /// What must be read before [`NodeCore::decide_destruction`].
    #[must_use]
    pub fn plan_destruction(&self, elapsed_ms: u64, view: &View) -> ReadSet {
        let reads = Reads::new(view);
        match gather(&reads, elapsed_ms) {
            Err(Stop::Unread) => reads.missing(),
            Ok(_) | Err(Stop::Refused(_)) => ReadSet::new(),
        }
    }

    /// Adds to the node's running time, and erases the shares of the first key whose waiting is over. The
    /// shell calls this about once a minute with the milliseconds since the last time that this was
    /// committed, or since the process began, by a clock that only goes forward; and again with 0 as
    /// long as something was handled.
    ///
    /// `now` is for the record alone: no wall clock decides anything here.
    ///
    /// # Security
    /// The erasure is as real as the store's: rows of shares are overwritten and its log is emptied
    /// before the commit is answered. Copies of the disk that were made before are out of reach.
    pub fn decide_destruction(
        &self,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
        elapsed_ms: u64,
        view: &View,
    ) -> Step<Swept> {
        let reads = Reads::new(view);
        // Where rows are damaged or were not read nothing is counted, and nothing erased.
        let Ok(Ready { running, waiting, due }) = gather(&reads, elapsed_ms) else {
            return Step::new(Batch::default(), Swept::Waiting);
        };
        let mut writes = Vec::new();
        let mut audit = None;
        let mut swept = Swept::Waiting;
        if let Some(due) = due {
            let key = due.key;
            let (destroyed, record) = due.decide(running, now, &mut writes);
            audit = record.map(|record| AuditRow { salt: salt(rng), ..record });
            swept = Swept::Handled { key, destroyed };
        }
        if waiting && elapsed_ms > 0 {
            let bytes = running.to_be_bytes().to_vec();
            writes.push(Write::Put(RowKey::cluster(RUNNING), bytes));
        }
        let expects = if writes.is_empty() { Vec::new() } else { reads.used() };
        let audit = audit.into_iter().collect();
        Step::new(Batch { expects, writes, audit, ..Batch::default() }, swept)
    }
}
