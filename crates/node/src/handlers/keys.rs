//! `GetKey` and `ListKeys`: all that a client needs to verify a key from its pinned roster on.

use quorate_authz::Caller;
use quorate_documents::{Key, Kind, Lookup};
use quorate_types::limits::{MAX_KEYS_PER_ALIAS, MAX_REPLY_BYTES};
use quorate_types::{DocumentId, KeyId};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::LineageRow;
use quorate_wire::proto::v1::{self, KeyView};

use crate::access::Account;
use crate::core::NodeCore;
use crate::destruction::{self, Fate};
use crate::handlers::documents::{Loader, kind_byte};
use crate::handlers::evaluate::certificate;
use crate::handlers::reshare::order_documents;
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, alias_prefix};
use crate::rows;
use crate::rules::KeyRules;
use crate::view::Read;

/// Keys of one page of a list; with all their documents and certificates they fit a reply.
const KEYS_PER_PAGE: usize = 64;

/// Bytes of keys in one reply. What one key is shown with has bounds of its own.
const REPLY_BYTES: usize = MAX_REPLY_BYTES * 3 / 4;

fn size(view: &KeyView) -> usize {
    prost::Message::encoded_len(view)
}

/// A key and what is shown of it.
struct Shown {
    rules: KeyRules,
    view: KeyView,
}

/// Views of those keys among `ids` that count.
fn views(
    core: &NodeCore,
    reads: &Reads<'_>,
    account: &Account,
    ids: &[KeyId],
) -> Result<Vec<Shown>, Stop> {
    let mut unread = false;
    let mut found = Vec::new();
    for id in ids {
        let Ok(entry) = reads.row(&RowKey::heads((*id).into())) else {
            unread = true;
            continue;
        };
        let heads = rows::heads::<Key>(entry)?;
        match KeyRules::gather(core, reads, account, Some(*id), heads) {
            // A foreign key costs no more reads than one that does not exist.
            Ok(rules) if rules.known_to(account) => found.push(rules),
            Ok(_) => {}
            Err(Stop::Unread) => unread = true,
            Err(stop) => return Err(stop),
        }
    }
    if unread {
        return Err(Stop::Unread);
    }
    let mut shown = Vec::with_capacity(found.len());
    for rules in found {
        let Some(heads) = rules.key() else { continue };
        let (destruction_in, destroyed_at) = match rules.fate() {
            None => (0, 0),
            Some(Fate::Destroyed { at }) => (0, at.0),
            Some(Fate::Waits { due }) => match destruction::running(reads) {
                // What is due is erased by the next sweep.
                Ok(running) => (due.saturating_sub(running).div_ceil(1000).max(1), 0),
                Err(Stop::Unread) => {
                    unread = true;
                    continue;
                }
                Err(stop) => return Err(stop),
            },
        };
        let certificates = certificates(reads, heads.key_id());
        let roots = roots(reads, heads.key_id());
        let orders = match order_documents(reads, heads.key_id()) {
            Ok(orders) => orders,
            Err(Stop::Unread) => {
                unread = true;
                continue;
            }
            Err(stop) => return Err(stop),
        };
        let mut loader = Loader::of_tenant(reads, heads.tenant());
        let said = [&[heads.id()], orders.ids()].concat();
        for id in &said {
            loader.want(*id);
        }
        loader.run()?;
        unread |= loader.unread;
        let (Ok(certificates), Ok(roots)) = (certificates, roots) else {
            unread = true;
            continue;
        };
        let mut certificates = certificates?;
        certificates.extend(roots?);
        let view = KeyView {
            id: heads.id().as_bytes().to_vec(),
            documents: said.iter().flat_map(|id| envelopes(&loader, *id)).collect(),
            authority: loader
                .loaded
                .documents_of(&[Kind::Tenant, Kind::Principal])
                .into_iter()
                .flat_map(|id| envelopes(&loader, id))
                .collect(),
            certificates,
            destruction_in,
            destroyed_at,
        };
        shown.push(Shown { rules, view });
    }
    if unread { Err(Stop::Unread) } else { Ok(shown) }
}

fn envelopes(loader: &Loader<'_, '_>, id: DocumentId) -> Vec<v1::Envelope> {
    let mut versions = loader.loaded.versions(&id);
    versions.sort_by_key(|version| (version.version(), version.digest()));
    versions.into_iter().map(|version| version.envelope().clone()).collect()
}

/// The certificates of all versions of a key.
fn certificates(
    reads: &Reads<'_>,
    key: KeyId,
) -> Result<Result<Vec<v1::Envelope>, Refused>, Unread> {
    let entries = reads.range(Read::Range {
        table: Table::Certificates,
        prefix: key.as_bytes().to_vec(),
        after: None,
        limit: 1024,
    })?;
    let envelope = |entry: &std::sync::Arc<crate::Entry>| {
        let certificate = certificate(entry)?.ok_or_else(|| rows::damaged(entry))?;
        Ok(certificate.envelope().clone())
    };
    Ok(entries.iter().map(envelope).collect())
}

/// The certificates of the DKGs of those versions that were reshared since.
fn roots(reads: &Reads<'_>, key: KeyId) -> Result<Result<Vec<v1::Envelope>, Refused>, Unread> {
    let entries = reads.range(Read::Range {
        table: Table::Lineages,
        prefix: key.as_bytes().to_vec(),
        after: None,
        limit: 1024,
    })?;
    let root = |entry: &std::sync::Arc<crate::Entry>| {
        let row: LineageRow = rows::message(entry)?.ok_or_else(|| rows::damaged(entry))?;
        Ok(row.root)
    };
    let rows: Result<Vec<_>, Refused> = entries.iter().map(root).collect();
    Ok(rows.map(|rows| rows.into_iter().flatten().collect()))
}

fn none() -> Refused {
    Refused::new(RefusalCode::KeyUnknown, "there is no such key for this principal")
}

/// One key, by its id or its alias.
pub(crate) mod get {
    use super::{
        Account, Caller, KeyId, MAX_KEYS_PER_ALIAS, REPLY_BYTES, Read, Reads, Refused, Shown, Stop,
        Table, alias_prefix, none, rows, size, v1, views,
    };
    use crate::call::Reply;
    use crate::core::{Deciding, Decision, NodeCore};
    use quorate_wire::RefusalCode;
    use quorate_wire::proto::v1::get_key_request::Which;

    pub(crate) struct Ready {
        account: Account,
        key: Vec<u8>,
        shown: Vec<Shown>,
    }

    pub(crate) fn prepare(
        core: &NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        request: &v1::GetKeyRequest,
    ) -> Result<Ready, Stop> {
        let account = Account::gather(core, reads, caller, &request.node)?;
        let mut key = Vec::new();
        let ids: Vec<KeyId> = match (&request.which, account.tenant()) {
            (Some(Which::Id(id)), _) => {
                key = id.get(..KeyId::LEN).unwrap_or_default().to_vec();
                KeyId::from_slice(id).into_iter().collect()
            }
            (Some(Which::Alias(alias)), Some(tenant)) => {
                let prefix = alias_prefix(tenant, alias);
                let length = prefix.len();
                let entries = reads.range(Read::Range {
                    table: Table::Aliases,
                    prefix,
                    after: None,
                    limit: MAX_KEYS_PER_ALIAS + 1,
                })?;
                // Whose ids are chosen by those who make them, and come first in order.
                if entries.len() > MAX_KEYS_PER_ALIAS {
                    let message = format!("more than {MAX_KEYS_PER_ALIAS} keys have this alias");
                    return Err(Refused::new(RefusalCode::AliasShared, message).into());
                }
                let id = |entry: &std::sync::Arc<crate::Entry>| {
                    let id = entry.key().key.get(length..).map(KeyId::from_slice);
                    id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))
                };
                entries.iter().map(id).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        let shown = views(core, reads, &account, &ids)?;
        Ok(Ready { account, key, shown })
    }

    impl Ready {
        pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
            deciding.audit.key = self.key;
            let standing = self.account.standing(deciding)?;
            let mut keys = Vec::with_capacity(self.shown.len());
            let bytes = self.shown.iter().map(|shown| size(&shown.view)).sum::<usize>();
            // Some of the keys of an alias would be a wrong answer.
            if self.shown.len() > 1 && bytes > REPLY_BYTES {
                let message = "the keys of this alias are too large together for one answer";
                return Err(Refused::new(RefusalCode::AliasShared, message));
            }
            let now = deciding.now;
            for Shown { rules, view } in self.shown {
                let _authorized = rules.ask(deciding.audit, |access| {
                    quorate_authz::read_key(&standing, access, now)
                })?;
                keys.push(view);
            }
            if keys.is_empty() {
                return Err(none());
            }
            Ok(Decision::reply(Reply::GetKey(v1::GetKeyReply { keys })))
        }
    }
}

/// The keys of the caller's tenant, in pages.
pub(crate) mod list {
    use super::{
        Account, Caller, KEYS_PER_PAGE, KeyId, Kind, REPLY_BYTES, Read, Reads, Refused, Shown,
        Stop, Table, kind_byte, rows, size, v1, views,
    };
    use crate::call::Reply;
    use crate::core::{Deciding, Decision, NodeCore};
    use quorate_wire::RefusalCode;

    pub(crate) struct Ready {
        account: Account,
        shown: Vec<Shown>,
        next: Vec<u8>,
    }

    pub(crate) fn prepare(
        core: &NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        request: &v1::ListKeysRequest,
    ) -> Result<Ready, Stop> {
        let account = Account::gather(core, reads, caller, &request.node)?;
        let Some(tenant) = account.tenant() else {
            return Ok(Ready { account, shown: Vec::new(), next: Vec::new() });
        };
        if !request.after.is_empty() && request.after.len() != KeyId::LEN {
            return Err(Refused::new(RefusalCode::Malformed, "\"after\" is not a key's id").into());
        }
        let prefix = [&[kind_byte(Kind::Key)], tenant.as_bytes().as_slice()].concat();
        let after = (!request.after.is_empty())
            .then(|| [prefix.as_slice(), request.after.as_slice()].concat());
        let length = prefix.len();
        let entries = reads.range(Read::Range {
            table: Table::Kinds,
            prefix,
            after,
            limit: KEYS_PER_PAGE,
        })?;
        let mut ids = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.key().key.get(length..).map(KeyId::from_slice);
            ids.push(id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))?);
        }
        let next = match ids.last() {
            Some(last) if ids.len() == KEYS_PER_PAGE => last.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let shown = views(core, reads, &account, &ids)?;
        Ok(Ready { account, shown, next })
    }

    impl Ready {
        pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
            let _authorized = quorate_authz::list_keys(&self.account.standing(deciding)?);
            let (mut keys, mut next, mut bytes) = (Vec::new(), self.next, 0);
            for Shown { view, .. } in self.shown {
                bytes += size(&view);
                if let Some(last) = keys.last()
                    && bytes > REPLY_BYTES
                {
                    let last: &v1::KeyView = last;
                    next.clone_from(&last.id);
                    break;
                }
                keys.push(view);
            }
            let reply = v1::ListKeysReply { keys, next };
            Ok(Decision::reply(Reply::ListKeys(reply)))
        }
    }
}
