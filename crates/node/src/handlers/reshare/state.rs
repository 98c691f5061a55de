//! `ReshareState`: the generations of a key version at this node, where every coordinator begins.

use quorate_authz::Caller;
use quorate_documents::{Key, Orders};
use quorate_types::{KeyId, KeyVersion};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;

use super::generations::{Generations, order_documents};
use super::session::refresh_due_in;
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::{KeyRules, reasons};

pub(crate) struct Ready {
    account: Account,
    rules: KeyRules,
    key: Vec<u8>,
    version: u32,
    known: Option<(Generations, Option<Orders>)>,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::ReshareStateRequest,
) -> Result<Ready, Stop> {
    let place = KeyId::from_slice(&request.key).ok().zip(KeyVersion::new(request.key_version));
    let heads = place.map(|(id, _)| reads.row(&RowKey::heads(id.into())));
    let account = Account::gather(core, reads, caller, &request.node)?;
    let heads = heads.transpose()?.map(|entry| rows::heads::<Key>(entry)).transpose()?.flatten();
    let rules = KeyRules::gather(core, reads, &account, place.map(|(id, _)| id), heads)?;
    let known = match (place, rules.key().filter(|_| rules.known_to(&account))) {
        (Some((id, version)), Some(heads)) => {
            let generations = Generations::gather(reads, id, version);
            let orders = order_documents(reads, id);
            Some((generations?, orders?.of(heads, version)))
        }
        _ => None,
    };
    let key = request.key.get(..KeyId::LEN).unwrap_or_default().to_vec();
    Ok(Ready { account, rules, key, version: request.key_version, known })
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        deciding.audit.key = self.key;
        deciding.audit.key_version = self.version;
        let standing = self.account.standing(deciding)?;
        let now = deciding.now;
        let authorized = self
            .rules
            .ask(deciding.audit, |access| quorate_authz::coordinate(&standing, access, now))?;
        deciding.audit.reasons = reasons(&authorized);
        self.rules.exists()?;
        let known = self.known.and_then(|(generations, orders)| Some((generations, orders?)));
        let (generations, orders) = known.ok_or_else(|| {
            let message = format!("the key has no version {}", self.version);
            Refused::new(RefusalCode::KeyVersionUnknown, message)
        })?;
        let highest = generations.highest();
        let due = orders
            .newest()
            .ok()
            .and_then(|order| refresh_due_in(order, generations.taken_at(), now));
        let reply = v1::ReshareStateReply {
            certificate: highest.map(|highest| highest.envelope().clone()),
            root: generations.root_beside(),
            holds: highest.is_some_and(|it| generations.holds(it.statement().generation())),
            promised: generations
                .promises
                .iter()
                // No certificate may rest on a share that a backup does not have.
                .filter(|promise| !promise.row.lost)
                .filter_map(|promise| promise.row.statement.clone())
                .collect(),
            refresh_due_in: due.unwrap_or_default(),
            copied: generations.copied(),
            ancestor_copied: generations.ancestor_copied(),
            restored: generations.restored(),
            lost_order: generations.lost_order(),
            erasing: deciding.facts.erasing,
        };
        Ok(Decision::reply(Reply::ReshareState(reply)))
    }
}
