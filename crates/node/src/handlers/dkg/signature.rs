//! `DkgSignature`: what this node has signed for a key version, so that any coordinator can finish.

use quorate_authz::Caller;
use quorate_documents::Key;
use quorate_types::{KeyId, KeyVersion};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::SignedRow;
use quorate_wire::proto::v1;

use crate::access::Account;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::KeyRules;

pub(crate) struct Ready {
    account: Account,
    rules: KeyRules,
    version: u32,
    id: Vec<u8>,
    row: Option<SignedRow>,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::DkgSignatureRequest,
) -> Result<Ready, Stop> {
    let place = KeyId::from_slice(&request.key).ok().zip(KeyVersion::new(request.key_version));
    let found = place.map(|(id, version)| {
        (reads.row(&RowKey::heads(id.into())), reads.row(&RowKey::signed(id, version)))
    });
    let account = Account::gather(core, reads, caller, &request.node)?;
    let (mut key, mut row) = (None, None);
    if let Some((heads, signed)) = found {
        key = rows::heads::<Key>(heads?)?;
        row = rows::message::<SignedRow>(signed?)?;
    }
    let id = request.key.get(..KeyId::LEN).unwrap_or_default().to_vec();
    let named = place.map(|(id, _)| id);
    let rules = KeyRules::gather(core, reads, &account, named, key)?;
    Ok(Ready { account, rules, version: request.key_version, id, row })
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        deciding.audit.key = self.id;
        deciding.audit.key_version = self.version;
        let standing = self.account.standing(deciding)?;
        let unmade = || {
            let message = format!("the key has no version {}", self.version);
            Refused::new(RefusalCode::KeyVersionUnknown, message)
        };
        let known = self.rules.key().filter(|key| {
            key.tenant() == standing.tenant() || key.coordinator() == Some(standing.principal())
        });
        let place = known.zip(KeyVersion::new(self.version));
        let order = match place {
            Some((key, version)) => {
                let entry = key.version(version).ok_or_else(unmade)?;
                entry.order.digest(key.key_id(), version)
            }
            // Answered by the same words for a foreign key as for one that does not exist.
            None => quorate_types::Digest::from_bytes([0; 32]),
        };
        let version = KeyVersion::new(self.version).unwrap_or(KeyVersion::FIRST);
        super::ceremony::may_finish(&standing, &self.rules, version, order, deciding)?;
        let row = self.row.ok_or_else(|| {
            Refused::new(RefusalCode::KeyNotReady, "this node has signed nothing for this version")
        })?;
        Ok(Decision::reply(super::sign::signed(row)?))
    }
}
