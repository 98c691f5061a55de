//! The node's audit log as decisions see it: what can be read of it, and where a record came to stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_audit::{Frontier, Hash, MemoryNodes};
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::{AuditRow, UsageRow};
use quorate_wire::strict;

use crate::step::Batch;
use crate::usage::{self, Counted};

/// Where an audit record is, once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// Its index, from 0.
    pub index: u64,
    /// Its hash.
    pub leaf: Hash,
    /// What the log is with it.
    pub head: LogHead,
}

/// A log at one size, durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// How many records it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// That, signed as a checkpoint, where the store was given the log's key.
    pub checkpoint: Option<Arc<[u8]>>,
}

/// What must be read of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogRead {
    /// How many records there are.
    Tail,
    /// The root over the first `size` records.
    Root {
        /// How many.
        size: u64,
    },
    /// The proof that the log of `size` records begins with that of `from`.
    Consistency {
        /// The smaller size.
        from: u64,
        /// The larger size.
        size: u64,
    },
    /// The record's hash, and the proof that it is in the log of `size` records.
    Inclusion {
        /// Which record.
        index: u64,
        /// The log's size.
        size: u64,
    },
    /// What a tenant's principals used.
    Usage {
        /// Whose.
        tenant: TenantId,
    },
    /// Records that a tenant may read.
    Page {
        /// Whose.
        tenant: TenantId,
        /// The index to begin at.
        first: u64,
        /// The size to end at.
        size: u64,
        /// Leaves at most.
        limit: usize,
        /// Also the hashes of the records in between.
        hashes: bool,
    },
}

/// What was read of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum LogAnswer {
    /// To [`LogRead::Tail`].
    Tail {
        /// How many records there are.
        size: u64,
        /// Below this index only the hashes are kept.
        records_from: u64,
    },
    /// To [`LogRead::Root`].
    Root(Hash),
    /// To [`LogRead::Consistency`].
    Consistency(Vec<Hash>),
    /// To [`LogRead::Inclusion`].
    Inclusion(Hash, Vec<Hash>),
    /// To [`LogRead::Page`].
    Page {
        /// The hashes of the complete subtrees before the first leaf, where hashes were asked for.
        before: Vec<Hash>,
        /// The leaves, by index: the record where the tenant may read it and it is kept, else the hash.
        leaves: Vec<(u64, Result<Vec<u8>, Hash>)>,
        /// Where to go on, unless the page reached the end.
        next: Option<u64>,
    },
    /// To [`LogRead::Usage`].
    Usage(UsageRow),
    /// There is no such record or size.
    Nothing,
}

/// Bytes of records in one page, besides the first. Half of a reply.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Leaves in one page: with their indices and hashes they are under 1 MiB.
pub const MAX_PAGE_LEAVES: usize = 16_384;

/// The tenants that may read a record.
#[must_use]
pub fn readers(record: &AuditRow) -> Vec<TenantId> {
    let tenants = [&record.tenant, &record.owner];
    let mut tenants: Vec<TenantId> =
        tenants.into_iter().filter_map(|tenant| TenantId::from_slice(tenant).ok()).collect();
    tenants.dedup();
    tenants
}

/// A log in memory: what a store that forgets keeps, and tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    records: Vec<(Vec<u8>, Vec<TenantId>)>,
    nodes: MemoryNodes,
    usage: BTreeMap<TenantId, UsageRow>,
}

impl MemoryLog {
    /// A log without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a batch fits in what its tenant may use in a day.
    #[must_use]
    pub fn admits(&self, batch: &Batch) -> bool {
        let none = UsageRow::default();
        batch.audit.first().and_then(Counted::of).is_none_or(|counted| {
            let used = self.usage.get(&counted.tenant).unwrap_or(&none);
            batch.bound.admits(used, &counted).is_ok()
        })
    }

    /// Appends a record.
    pub fn append(&mut self, record: &AuditRow) -> AuditPlace {
        let bytes = strict::encode(record);
        let leaf = Hash::of_leaf(&bytes);
        let index = self.nodes.size();
        self.records.push((bytes, readers(record)));
        if let Some(counted) = Counted::of(record) {
            usage::count(self.usage.entry(counted.tenant).or_default(), &counted);
        }
        self.nodes.push(leaf);
        let head = LogHead { size: self.nodes.size(), root: self.nodes.root(), checkpoint: None };
        AuditPlace { index, leaf, head }
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|(bytes, _)| bytes.as_slice())
    }

    /// Loses the newest records, as a node does whose disk is put back to an earlier state.
    pub fn roll_back(&mut self, size: usize) {
        self.records.truncate(size);
        self.nodes = MemoryNodes::new();
        for (bytes, _) in &self.records {
            self.nodes.push(Hash::of_leaf(bytes));
        }
    }

    /// Answers a read.
    #[must_use]
    pub fn read(&self, read: &LogRead) -> LogAnswer {
        let answer = match read {
            LogRead::Tail => Some(LogAnswer::Tail { size: self.nodes.size(), records_from: 0 }),
            LogRead::Root { size } => {
                quorate_audit::root(&self.nodes, *size).ok().map(LogAnswer::Root)
            }
            LogRead::Consistency { from, size } => {
                quorate_audit::consistency(&self.nodes, *from, *size)
                    .ok()
                    .map(LogAnswer::Consistency)
            }
            LogRead::Inclusion { index, size } => {
                let path = quorate_audit::inclusion(&self.nodes, *index, *size).ok();
                let leaf = quorate_audit::Nodes::node(&self.nodes, 0, *index).ok();
                leaf.zip(path).map(|(leaf, path)| LogAnswer::Inclusion(leaf, path))
            }
            LogRead::Usage { tenant } => {
                Some(LogAnswer::Usage(self.usage.get(tenant).cloned().unwrap_or_default()))
            }
            LogRead::Page { tenant, first, size, limit, hashes } => {
                self.page(*tenant, *first, *size, *limit, *hashes)
            }
        };
        answer.unwrap_or(LogAnswer::Nothing)
    }

    fn page(
        &self,
        tenant: TenantId,
        first: u64,
        size: u64,
        limit: usize,
        hashes: bool,
    ) -> Option<LogAnswer> {
        let before = if hashes {
            quorate_audit::frontier(&self.nodes, first).ok()?.hashes().to_vec()
        } else {
            Frontier::new().hashes().to_vec()
        };
        let mut page = PageBuilder::new(size, limit);
        for index in first..size {
            let (bytes, readers) = self.records.get(usize::try_from(index).ok()?)?;
            let leaf = if readers.contains(&tenant) {
                Ok(bytes.clone())
            } else if hashes {
                Err(quorate_audit::Nodes::node(&self.nodes, 0, index).ok()?)
            } else {
                continue;
            };
            if !page.add(index, leaf) {
                break;
            }
        }
        Some(page.finish(before))
    }
}

/// Puts leaves into a page until it is full.
#[derive(Debug)]
pub struct PageBuilder {
    size: u64,
    limit: usize,
    bytes: usize,
    leaves: Vec<(u64, Result<Vec<u8>, Hash>)>,
    next: Option<u64>,
}

impl PageBuilder {
    /// A page of a log of `size` records.
    #[must_use]
    pub const fn new(size: u64, limit: usize) -> Self {
        Self { size, limit, bytes: 0, leaves: Vec::new(), next: None }
    }

    /// Adds a leaf; false where it begins the next page.
    pub fn add(&mut self, index: u64, leaf: Result<Vec<u8>, Hash>) -> bool {
        let bytes = leaf.as_ref().map_or(Hash::LEN, Vec::len);
        let full = self.leaves.len() >= self.limit.min(MAX_PAGE_LEAVES)
            || (!self.leaves.is_empty() && self.bytes.saturating_add(bytes) > MAX_PAGE_BYTES);
        if full || index >= self.size {
            self.next = (index < self.size).then_some(index);
            return false;
        }
        self.bytes += bytes;
        self.leaves.push((index, leaf));
        true
    }

    /// The page.
    #[must_use]
    pub fn finish(self, before: Vec<Hash>) -> LogAnswer {
        LogAnswer::Page { before, leaves: self.leaves, next: self.next }
    }
}
