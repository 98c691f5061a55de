//! `GetDocuments`: the documents that the caller may see.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_authz::Caller;
use quorate_documents::{Kind, SignedDocument};
use quorate_types::limits::MAX_REPLY_BYTES;
use quorate_types::{DocumentId, TenantId};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;

use super::derived::SAID_BELOW;
use super::kind_byte;
use super::loaded::{all_versions, version};
use crate::access::{Account, cluster};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::Table;
use crate::view::Read;

/// Documents of one page, as the protocol says.
const DOCUMENTS_PER_PAGE: usize = 256;

pub(crate) struct Ready {
    account: Account,
    /// Every document's versions, sorted by id.
    documents: Vec<(DocumentId, Vec<Arc<SignedDocument>>)>,
    /// Tenants above the caller's, and what it says of those below; for the cluster's administrators root
    /// tenants, and what the cluster says of them.
    around: BTreeSet<DocumentId>,
    more: bool,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::GetDocumentsRequest,
) -> Result<Ready, Stop> {
    let account = Account::gather(core, reads, caller, &request.node)?;
    let malformed =
        |what: &str| Refused::new(RefusalCode::Malformed, format!("{what} is malformed"));
    if request.ids.len() > DOCUMENTS_PER_PAGE {
        let message = format!("at most {DOCUMENTS_PER_PAGE} documents are asked for at once");
        return Err(Refused::new(RefusalCode::TooLarge, message).into());
    }
    let after = match request.after.as_slice() {
        [] => None,
        bytes => Some(DocumentId::from_slice(bytes).map_err(|_| malformed("\"after\""))?),
    };
    let mut ids = BTreeSet::new();
    for id in &request.ids {
        ids.insert(DocumentId::from_slice(id).map_err(|_| malformed("a document's id"))?);
    }
    let mut unread = false;
    // What only the place in the tree lets the caller see.
    let mut around = BTreeSet::new();
    if let Some(tenant) = account.tenant() {
        let roots = request.below && account.sees_roots();
        let cluster_slot = TenantId::from_bytes([0; 32]);
        let mut lists = Vec::new();
        for number in &request.kinds {
            let kind = Kind::from_number(*number).ok_or_else(|| malformed("a kind"))?;
            match kind {
                Kind::Roster => {
                    ids.insert(cluster(reads)?.into());
                }
                Kind::Tenant => {
                    // Its own stands on all above it.
                    around.extend(account.way_up().map(DocumentId::from));
                    ids.extend(around.iter().copied());
                    ids.insert(tenant.into());
                    lists.extend(request.below.then_some((kind_byte(kind), tenant, false)));
                    lists.extend(roots.then_some((kind_byte(kind), cluster_slot, true)));
                }
                Kind::Terms => {
                    lists.push((kind_byte(kind), tenant, false));
                    lists.extend(request.below.then_some((SAID_BELOW, tenant, true)));
                    lists.extend(roots.then_some((SAID_BELOW, cluster_slot, true)));
                }
                _ => lists.push((kind_byte(kind), tenant, false)),
            }
        }
        for (list, slot, shown) in lists {
            let prefix = [&[list], slot.as_bytes().as_slice()].concat();
            let start = prefix.len();
            let after = after.map(|id| [prefix.as_slice(), id.as_bytes()].concat());
            let limit = DOCUMENTS_PER_PAGE + 1;
            let read = Read::Range { table: Table::Kinds, prefix, after, limit };
            let Ok(entries) = reads.range(read) else {
                unread = true;
                continue;
            };
            let id = |entry: &Arc<crate::Entry>| {
                entry.key().key.get(start..).and_then(|id| DocumentId::from_slice(id).ok())
            };
            let listed: Vec<DocumentId> = entries.iter().filter_map(id).collect();
            around.extend(listed.iter().copied().filter(|_| shown));
            ids.extend(listed);
        }
    }
    if unread {
        return Err(Stop::Unread);
    }
    let mut ids: Vec<DocumentId> =
        ids.into_iter().filter(|id| after.is_none_or(|after| *id > after)).collect();
    let more = ids.len() > DOCUMENTS_PER_PAGE;
    ids.truncate(DOCUMENTS_PER_PAGE);
    let mut documents = Vec::with_capacity(ids.len());
    for id in ids {
        match reads.range(all_versions(id)) {
            Ok(entries) => {
                let versions: Result<Vec<_>, _> = entries.iter().map(|e| version(e)).collect();
                documents.push((id, versions?.into_iter().flatten().collect()));
            }
            Err(_) => unread = true,
        }
    }
    if unread { Err(Stop::Unread) } else { Ok(Ready { account, documents, around, more }) }
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let restored = self.account.shows_its_backup();
        let standing = match restored {
            false => self.account.standing(deciding)?,
            true => self.account.standing_with_a_restored_node(deciding)?,
        };
        let authorized = quorate_authz::read_documents(&standing);
        let mut documents = Vec::new();
        let (mut bytes, mut next) = (0usize, Vec::new());
        let mut last = None;
        let mut more = self.more;
        for (id, versions) in self.documents {
            let around = self.around.contains(&id);
            let seen: Vec<_> = versions
                .into_iter()
                .filter(|version| around || authorized.operation().may_see(version.document()))
                .collect();
            bytes += seen.iter().map(|version| version.payload().len() + 1024).sum::<usize>();
            // Half of a reply leaves room for signatures. The first document is always sent.
            let full =
                documents.len() + seen.len() > DOCUMENTS_PER_PAGE || bytes > MAX_REPLY_BYTES / 2;
            if full && last.is_some() {
                more = true;
                break;
            }
            documents.extend(seen.iter().map(|version| version.envelope().clone()));
            last = Some(id);
        }
        if let (true, Some(last)) = (more, last) {
            next = last.as_bytes().to_vec();
        }
        let reply = v1::GetDocumentsReply { documents, next, restored };
        Ok(Decision::reply(Reply::GetDocuments(reply)))
    }
}
