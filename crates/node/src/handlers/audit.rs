//! `GetAudit`, `GetProof` and `PutMarks`: the node's audit log, and what it knows of the logs of others.
//! See `spec/audit.md`.

use quorate_audit::{
    Checkpoint, Hash, LogId, LogSigner, Note, SignedCheckpoint, verify_consistency,
};
use quorate_authz::Caller;
use quorate_documents::KeyPurpose;
use quorate_types::UnixSeconds;
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::{MarkRow, RolledBackRow};
use quorate_wire::proto::v1::{self, MarkResult};
use quorate_wire::strict;

use crate::access::{Account, denied};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::log::{LogAnswer, LogRead};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::step::Write;

fn hashes(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}

fn signer(core: &NodeCore) -> Result<&LogSigner, Refused> {
    core.log.as_deref().ok_or_else(|| {
        Refused::new(
            RefusalCode::NoRoster,
            "this node has joined no cluster, and its log has no name",
        )
    })
}

/// How long the log is.
fn tail(reads: &Reads<'_>) -> Result<(u64, u64), Stop> {
    match reads.log(LogRead::Tail)? {
        LogAnswer::Tail { size, records_from } => Ok((*size, *records_from)),
        _ => Ok((0, 0)),
    }
}

fn root(reads: &Reads<'_>, size: u64) -> Result<Option<Hash>, Stop> {
    match reads.log(LogRead::Root { size })? {
        LogAnswer::Root(root) => Ok(Some(*root)),
        _ => Ok(None),
    }
}

/// The log is shorter than what was asked for.
fn no_such(what: &str) -> Refused {
    Refused::new(RefusalCode::Malformed, format!("the log has no {what}"))
}

/// Records of the caller's tenant.
pub(crate) mod get {
    use super::{
        Account, Caller, Deciding, Decision, LogAnswer, LogRead, NodeCore, Reads, Refused, Reply,
        Stop, denied, hashes, no_such, root, signer, tail, v1,
    };
    use crate::log::MAX_PAGE_LEAVES;

    pub(crate) struct Ready {
        account: Account,
        reply: v1::GetAuditReply,
    }

    pub(crate) fn prepare(
        core: &NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        request: &v1::GetAuditRequest,
    ) -> Result<Ready, Stop> {
        let account = Account::gather(core, reads, caller, &request.node)?;
        let none = |account| Ok(Ready { account, reply: v1::GetAuditReply::default() });
        // Whoever may not read causes no reading; deciding says why.
        let Some(tenant) = account.tenant_to_audit() else { return none(account) };
        let (size, records_from) = tail(reads)?;
        let Some(root) = root(reads, size)? else { return none(account) };
        if request.first > size {
            return Err(no_such("record of that index").into());
        }
        let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
            0 => MAX_PAGE_LEAVES,
            limit => limit,
        };
        let (first, with_hashes) = (request.first, request.hashes);
        let page = LogRead::Page { tenant, first, size, limit, hashes: with_hashes };
        let mut reply = v1::GetAuditReply {
            checkpoint: signer(core)?.sign(size, root).to_bytes(),
            records_from,
            ..v1::GetAuditReply::default()
        };
        if let LogAnswer::Page { before, leaves, next } = reads.log(page)? {
            reply.before = hashes(before);
            reply.next = next.unwrap_or_default();
            let leaf = |(index, leaf): &(u64, Result<Vec<u8>, super::Hash>)| match leaf {
                Ok(record) => {
                    v1::AuditLeaf { index: *index, record: record.clone(), hash: Vec::new() }
                }
                Err(hash) => v1::AuditLeaf {
                    index: *index,
                    record: Vec::new(),
                    hash: hash.as_bytes().to_vec(),
                },
            };
            reply.leaves = leaves.iter().map(leaf).collect();
        }
        Ok(Ready { account, reply })
    }

    impl Ready {
        pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
            let standing = self.account.standing(deciding)?;
            let _authorized =
                quorate_authz::read_audit(&standing, standing.tenant()).map_err(denied)?;
            Ok(Decision::reply(Reply::GetAudit(self.reply)))
        }
    }
}

/// A checkpoint, and proofs for it.
pub(crate) mod proof {
    use super::{
        Account, Caller, Deciding, Decision, LogAnswer, LogRead, NodeCore, Reads, Refused, Reply,
        Stop, hashes, no_such, root, signer, tail, v1,
    };
    use quorate_types::limits::MAX_PROOFS_PER_REQUEST;
    use quorate_wire::RefusalCode;

    pub(crate) struct Ready {
        account: Account,
        reply: v1::GetProofReply,
    }

    pub(crate) fn prepare(
        core: &NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        request: &v1::GetProofRequest,
    ) -> Result<Ready, Stop> {
        let account = Account::gather(core, reads, caller, &request.node)?;
        if account.tenant().is_none() {
            return Ok(Ready { account, reply: v1::GetProofReply::default() });
        }
        if request.indices.len() > MAX_PROOFS_PER_REQUEST {
            let message =
                format!("a request asks for at most {MAX_PROOFS_PER_REQUEST} inclusion proofs");
            return Err(Refused::new(RefusalCode::TooLarge, message).into());
        }
        let size = match request.size {
            0 => tail(reads)?.0,
            size => size,
        };
        let root = root(reads, size);
        let consistency = (request.from > 0)
            .then(|| reads.log(LogRead::Consistency { from: request.from, size }));
        // All are asked for before any is awaited.
        let paths: Vec<_> = request
            .indices
            .iter()
            .map(|index| (*index, reads.log(LogRead::Inclusion { index: *index, size })))
            .collect();
        let root = root?.ok_or_else(|| no_such("such size"))?;
        let mut reply = v1::GetProofReply {
            checkpoint: signer(core)?.sign(size, root).to_bytes(),
            ..v1::GetProofReply::default()
        };
        if let Some(consistency) = consistency {
            match consistency? {
                LogAnswer::Consistency(path) => reply.consistency = hashes(path),
                _ => return Err(no_such("such earlier size").into()),
            }
        }
        for (index, path) in paths {
            match path? {
                LogAnswer::Inclusion(leaf, path) => reply.inclusion.push(v1::InclusionProof {
                    index,
                    leaf_hash: leaf.as_bytes().to_vec(),
                    path: hashes(path),
                }),
                _ => return Err(no_such("record of that index").into()),
            }
        }
        Ok(Ready { account, reply })
    }

    impl Ready {
        pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
            let _authorized = quorate_authz::read_proofs(&self.account.standing(deciding)?);
            Ok(Decision::reply(Reply::GetProof(self.reply)))
        }
    }
}

/// What is wrong with a mark.
fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::MarkInvalid, message)
}

/// Checkpoints that others have seen.
pub(crate) mod marks {
    use super::{
        Account, Caller, Checkpoint, Deciding, Decision, Hash, KeyPurpose, LogId, LogSigner,
        MarkResult, MarkRow, NodeCore, Note, Reads, RefusalCode, Refused, Reply, RolledBackRow,
        RowKey, SignedCheckpoint, Stop, UnixSeconds, Write, invalid, root, rows, signer, strict,
        v1, verify_consistency,
    };
    use crate::row::{MARK_PREFIX, Table};
    use crate::view::Read;
    use quorate_types::limits::MAX_MARKS_PER_REQUEST;

    /// Rows of marks that are read: more than a roster has nodes.
    const MAX_MARK_ROWS: usize = 1024;

    /// A checkpoint, and up to when the key that signed it is accepted.
    struct Signed {
        log: LogId,
        checkpoint: SignedCheckpoint,
        until: UnixSeconds,
    }

    /// A key that another one has taken the place of is accepted no longer than this.
    const FOR_EVER: UnixSeconds = UnixSeconds(u64::MAX);

    /// One mark, as far as it can be judged without the time.
    enum Judged {
        /// It changes nothing.
        Refused(Refused, u64),
        /// Of this node's own log, which extends it: with the cosignatures of others, if there are any.
        Extended(SignedCheckpoint, usize),
        /// Of this node's own log, which does not extend it.
        RolledBack(SignedCheckpoint),
        /// Of another log: the same as the one that is held.
        Held(MarkRow),
        /// Of another log, newer than what was held and extending it.
        Newer(LogId, SignedCheckpoint),
        /// Of another log, which has said something else of the same size.
        Forked(LogId, u64),
    }

    pub(crate) struct Ready<'a> {
        core: &'a NodeCore,
        account: Account,
        /// Each mark, and up to when the key that signed it is accepted.
        judged: Vec<(Judged, UnixSeconds)>,
        /// The row of the newest own checkpoint that others cosigned.
        cosigned: Option<MarkRow>,
        held: Vec<MarkRow>,
    }

    pub(crate) fn prepare<'a>(
        core: &'a NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        request: &v1::PutMarksRequest,
    ) -> Result<Ready<'a>, Stop> {
        let account = Account::gather(core, reads, caller, &request.node)?;
        if account.tenant().is_none() {
            let (judged, held) = (Vec::new(), Vec::new());
            return Ok(Ready { core, account, judged, cosigned: None, held });
        }
        if request.marks.len() > MAX_MARKS_PER_REQUEST {
            let message = format!("a request has at most {MAX_MARKS_PER_REQUEST} marks");
            return Err(Refused::new(RefusalCode::TooLarge, message).into());
        }
        let signer = signer(core)?;
        let cosigned = RowKey::cluster(COSIGNED);
        let cosigned = reads.row(&cosigned);
        let entries = reads.range(Read::Range {
            table: Table::Cluster,
            prefix: MARK_PREFIX.to_vec(),
            after: None,
            limit: MAX_MARK_ROWS,
        });
        let mut held = Vec::new();
        for entry in entries? {
            let id = entry.key().key.get(MARK_PREFIX.len()..).unwrap_or_default();
            let node = quorate_types::NodeId::from_slice(id).map_err(|_| rows::damaged(entry))?;
            let row: MarkRow = rows::message(entry)?.unwrap_or_default();
            held.push((node, row));
        }
        let mut judged = Vec::with_capacity(request.marks.len());
        let mut seen = Vec::with_capacity(request.marks.len());
        for mark in &request.marks {
            let Signed { log, checkpoint, until } = match read(&account, signer, &mark.checkpoint) {
                Ok(read) => read,
                Err(refused) => {
                    judged.push((Judged::Refused(refused, 0), FOR_EVER));
                    continue;
                }
            };
            if log.node == core.id() {
                judged.push((own(&account, signer, reads, checkpoint)?, until));
                continue;
            }
            if seen.contains(&log.node) {
                let refused = invalid("one mark of each log at a time");
                judged.push((Judged::Refused(refused, 0), FOR_EVER));
                continue;
            }
            seen.push(log.node);
            let held = held.iter().find(|(node, _)| *node == log.node).map(|(_, row)| row);
            let held = held.filter(|row| row.incarnation == log.incarnation);
            judged.push((other(log, checkpoint, &mark.consistency, held), until));
        }
        let cosigned = rows::message(cosigned?)?;
        // Of logs that the roster names; others are of nodes that left or began another log.
        let held = held
            .into_iter()
            .filter(|(node, row)| {
                account.entry_of(node).is_some_and(|entry| entry.log_incarnation == row.incarnation)
            })
            .map(|(_, row)| row)
            .collect();
        Ok(Ready { core, account, judged, cosigned, held })
    }

    /// The row of this node's own newest checkpoint that others have cosigned.
    pub(crate) const COSIGNED: &str = "cosigned";
    /// The row that says that this node was rolled back.
    pub(crate) const ROLLED_BACK: &str = "rolled-back";

    /// A checkpoint of a log that the roster names, with its log's signature.
    fn read(account: &Account, signer: &LogSigner, bytes: &[u8]) -> Result<Signed, Refused> {
        let wrong = |error: &dyn core::fmt::Display| invalid(error.to_string());
        let note = Note::parse(bytes).map_err(|error| wrong(&error))?;
        let origin = Checkpoint::from_text(note.text()).map_err(|error| wrong(&error))?.origin;
        let log: LogId = origin.parse().map_err(|error| wrong(&error))?;
        // Each with the time up to which it is accepted: of this node's own log, the keys that it signs with.
        let (keys, incarnation): (Vec<_>, _) = if log.node == signer.log().node {
            let keys = signer.publics().into_iter().map(|key| (key, FOR_EVER));
            (keys.collect(), signer.log().incarnation)
        } else {
            let entry = account.entry_of(&log.node);
            let entry = entry.ok_or_else(|| invalid("the roster has no such node"))?;
            let former = entry.former(KeyPurpose::Log).map(|former| (former.key, former.until));
            let keys = core::iter::once((entry.log_key, FOR_EVER)).chain(former);
            (keys.collect(), entry.log_incarnation)
        };
        if log.cluster != signer.log().cluster || log.incarnation != incarnation {
            return Err(invalid("the roster names another log of that node"));
        }
        let mut refused = invalid("the roster names no log key of that node");
        for (key, until) in keys {
            match SignedCheckpoint::verify(bytes, &log, &key) {
                Ok(checkpoint) => return Ok(Signed { log, checkpoint, until }),
                Err(error) => refused = wrong(&error),
            }
        }
        Err(refused)
    }

    fn own(
        account: &Account,
        signer: &LogSigner,
        reads: &Reads<'_>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Judged, Stop> {
        let said = checkpoint.checkpoint();
        if root(reads, said.size)? != Some(said.root) {
            return Ok(Judged::RolledBack(checkpoint));
        }
        let mut cosigners = Vec::new();
        let note = Note::parse(&checkpoint.to_bytes());
        for signature in note.iter().flat_map(|note| note.signatures()) {
            let Ok(log) = signature.name.parse::<LogId>() else { continue };
            let named = account.entry_of(&log.node);
            if let Some(entry) = named.filter(|entry| entry.log_incarnation == log.incarnation)
                && log.node != signer.log().node
                && log.cluster == signer.log().cluster
            {
                cosigners.push((signature.name.clone(), entry.log_key));
            }
        }
        cosigners.dedup_by(|a, b| a.0 == b.0);
        let (kept, counted) = checkpoint.with_cosignatures_of(&signer.publics(), &cosigners);
        Ok(Judged::Extended(kept, counted.len()))
    }

    fn other(
        log: LogId,
        checkpoint: SignedCheckpoint,
        proof: &[Vec<u8>],
        held: Option<&MarkRow>,
    ) -> Judged {
        let said = checkpoint.checkpoint();
        let Some(held) = held else { return Judged::Newer(log, checkpoint) };
        let Some(root) = Hash::from_slice(&held.root) else {
            return Judged::Newer(log, checkpoint);
        };
        if said.size == held.size {
            if said.root == root {
                return Judged::Held(held.clone());
            }
            return Judged::Forked(log, held.size);
        }
        if said.size < held.size {
            return Judged::Refused(
                invalid("a newer checkpoint of that log is held here"),
                held.size,
            );
        }
        let path: Option<Vec<Hash>> = proof.iter().map(|hash| Hash::from_slice(hash)).collect();
        let Some(path) = path else {
            return Judged::Refused(invalid("a hash has 32 bytes"), held.size);
        };
        match verify_consistency(held.size, said.size, &path, &root, &said.root) {
            Ok(()) => Judged::Newer(log, checkpoint),
            Err(error) => Judged::Refused(invalid(error.to_string()), held.size),
        }
    }

    fn row(log: &LogId, checkpoint: &SignedCheckpoint) -> MarkRow {
        let said = checkpoint.checkpoint();
        MarkRow {
            incarnation: log.incarnation,
            size: said.size,
            root: said.root.as_bytes().to_vec(),
            checkpoint: checkpoint.to_bytes(),
        }
    }

    impl Ready<'_> {
        pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
            let _authorized = quorate_authz::read_proofs(&self.account.standing(deciding)?);
            let signer = signer(self.core)?;
            let now: UnixSeconds = deciding.now;
            let mut writes = Vec::new();
            let mut results = Vec::with_capacity(self.judged.len());
            let mut known: Vec<Vec<u8>> =
                self.held.iter().map(|row| row.checkpoint.clone()).collect();
            let own = self.cosigned.filter(|row| row.incarnation == signer.log().incarnation);
            let mut own_size = own.as_ref().map_or(0, |row| row.size);
            known.extend(own.map(|row| row.checkpoint));
            let mut best = None;
            for (judged, until) in self.judged {
                if until <= now {
                    // Whoever signed has a key that the node gave up.
                    "alarm: credential_retired".clone_into(&mut deciding.audit.decision);
                    let message = "the checkpoint is signed with a log key that is retired";
                    let refused = Refused::new(RefusalCode::CredentialRetired, message);
                    let refusal = Some(refused.into_message(now));
                    results.push(MarkResult { checkpoint: Vec::new(), size: 0, refusal });
                    continue;
                }
                results.push(match judged {
                    Judged::Refused(refused, size) => {
                        let refusal = Some(refused.into_message(now));
                        MarkResult { checkpoint: Vec::new(), size, refusal }
                    }
                    Judged::Extended(checkpoint, cosigners) => {
                        let size = checkpoint.checkpoint().size;
                        if cosigners > 0 && size > own_size {
                            own_size = size;
                            best = Some(row(signer.log(), &checkpoint));
                        }
                        MarkResult { checkpoint: Vec::new(), size, refusal: None }
                    }
                    Judged::RolledBack(checkpoint) => {
                        "alarm: rolled_back".clone_into(&mut deciding.audit.decision);
                        let row = RolledBackRow {
                            incarnation: signer.log().incarnation,
                            seen_at: now.0,
                            checkpoint: checkpoint.to_bytes(),
                        };
                        writes.retain(|write: &Write| *write.key() != RowKey::cluster(ROLLED_BACK));
                        writes.push(Write::Put(RowKey::cluster(ROLLED_BACK), strict::encode(&row)));
                        let message = "this node's log does not extend the checkpoint: it was put back to an earlier state";
                        let refused = Refused::new(RefusalCode::RolledBack, message);
                        let refusal = Some(refused.into_message(now));
                        MarkResult { checkpoint: Vec::new(), size: 0, refusal }
                    }
                    Judged::Held(row) => {
                        MarkResult { checkpoint: row.checkpoint, size: row.size, refusal: None }
                    }
                    Judged::Newer(log, mut checkpoint) => {
                        signer.cosign(&mut checkpoint, now);
                        let row = row(&log, &checkpoint);
                        writes.push(Write::Put(RowKey::mark(log.node), strict::encode(&row)));
                        MarkResult { checkpoint: row.checkpoint, size: row.size, refusal: None }
                    }
                    Judged::Forked(log, size) => {
                        "alarm: log_forked".clone_into(&mut deciding.audit.decision);
                        deciding.audit.subject = log.node.as_bytes().to_vec();
                        let message = "that log has signed something else of the same size";
                        let refusal = Some(invalid(message).into_message(now));
                        MarkResult { checkpoint: Vec::new(), size, refusal }
                    }
                });
            }
            if let Some(row) = best {
                writes.push(Write::Put(RowKey::cluster(COSIGNED), strict::encode(&row)));
            }
            let reply = Reply::PutMarks(v1::PutMarksReply { results, known });
            Ok(Decision { reply, writes })
        }
    }
}
