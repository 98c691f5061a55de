//! Evaluating the PRF: which labels this caller may have, and under which key version.

use std::collections::BTreeSet;

use quorate_documents::{Heads, Key};
use quorate_types::limits::{CLOCK_TOLERANCE_SECONDS, MAX_BATCH};
use quorate_types::{
    Action, Digest, KeyId, KeyVersion, PrincipalId, Purpose, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1::{self, EvaluateRequest};
use quorate_wire::{EncryptionContext, Label};

use crate::access::{Item, KeyAccess};
use crate::policy::PolicyItem;
use crate::{Authorized, Denied, Standing};

/// Labels that may be evaluated, made by the node from what it authorised.
#[derive(Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The key.
    pub key: KeyId,
    /// The version to evaluate under, which is also the version in the labels.
    pub version: KeyVersion,
    /// What for: encrypt, decrypt or rewrap.
    pub action: Action,
    /// One for each item, in order.
    pub labels: Vec<Label>,
    /// Since when the key should have had a newer version, where it should and is protecting data. A node
    /// allows it all the same: refusing would stop a customer's work because a coordinator did not run.
    pub rotation_due: Option<UnixSeconds>,
}

/// How far the versions of a key are made at a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// The newest version of the key that has a complete certificate here.
    pub newest: Option<KeyVersion>,
    /// T-of-N of the version that is asked for, where its shares were dealt anew; none where they are those of its
    /// making.
    pub dealt: Option<Threshold>,
}

/// Authorizes a batch of evaluations: all of it or nothing.
///
/// `access` is about the key that the request names, and so is `made`. That the node holds the generation asked for
/// is for the node to check.
///
/// # Errors
/// [`Denied`], with the first item at fault. A key of another tenant, of which the caller was never
/// granted anything, is denied exactly as one that does not exist.
///
/// # Security
/// Allowed is what the caller's own document permits, or a grant, or a policy of the key's tenant, and
/// what no policy of that tenant forbids; a principal of another tenant needs a grant. The label is
/// built here and never taken from the client. To encrypt, the creator must be the
/// caller and the creation time now, within 60 s: so who may only encrypt can derive keys for its
/// own new objects and for no others. To rewrap takes the right to decrypt as well, and
/// changes nothing in the label but the key version, to a newer one.
pub fn evaluate(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    made: Made,
    request: &EvaluateRequest,
    now: UnixSeconds,
) -> Result<Authorized<Evaluation>, Denied> {
    let named = access.key.filter(|key| key.key_id().as_bytes()[..] == request.key);
    let found = KeyAccess { key: named, ..*access }.find(standing)?;
    let key = found.key;
    let action = Action::from_number(request.action)
        .filter(|a| matches!(a, Action::Encrypt | Action::Decrypt | Action::Rewrap))
        .ok_or(Denied::Malformed { field: "action" })?;
    let id = key.key_id();
    let needed: &[Action] = match action {
        Action::Rewrap => &[Action::Decrypt, Action::Rewrap],
        _ => &[action],
    };
    let mut asks = Vec::with_capacity(needed.len());
    for action in needed {
        asks.push(found.ask(standing, *action, now)?);
    }
    if !key.state_allows(action) {
        return Err(Denied::KeyState { key: id, state: key.state(), action });
    }
    let version = version(key, action, made, request)?;
    check_sizes(request)?;
    let contexts = contexts(&request.contexts)?;
    let hashes: Vec<Digest> = contexts.iter().map(EncryptionContext::hash).collect();
    for ask in &mut asks {
        ask.prepare(standing, &contexts, now);
    }
    let caller = standing.principal();
    let mut labels = Vec::with_capacity(request.items.len());
    for (position, item) in request.items.iter().enumerate() {
        let (creator, created_at) = origin(action, caller, position, item, now)?;
        let missing = Denied::ContextMissing { item: position, number: item.context };
        let context = usize::try_from(item.context).map_err(|_| missing.clone())?;
        let context_hash = hashes.get(context).copied().ok_or(missing)?;
        let asked = Item { position, policy: PolicyItem { context, creator, created_at } };
        for ask in &mut asks {
            ask.item(Some(asked), &contexts)?;
        }
        labels.push(Label {
            purpose: Purpose::ObjectKey,
            spec: key.spec(),
            tenant: key.tenant(),
            key: id,
            version,
            creator,
            created_at,
            nonce: item
                .nonce
                .as_slice()
                .try_into()
                .map_err(|_| Denied::Malformed { field: "items.nonce" })?,
            context_hash,
        });
    }
    let mut reasons = BTreeSet::new();
    for ask in asks {
        reasons.append(&mut ask.into_reasons());
    }
    let protects = action != Action::Decrypt;
    let rotation_due = key.rotation_due().filter(|due| protects && *due <= now);
    let evaluation = Evaluation { key: id, version, action, labels, rotation_due };
    let reasons = reasons.into_iter().collect();
    Ok(standing.authorize_for(evaluation, reasons, found.policies()))
}

fn version(
    key: &Heads<Key>,
    action: Action,
    made: Made,
    request: &EvaluateRequest,
) -> Result<KeyVersion, Denied> {
    let id = key.key_id();
    // Also one that heads have differently: which of them was made is in the node's certificate.
    let known = |number: u32| {
        KeyVersion::new(number)
            .filter(|number| key.has_version(*number))
            .ok_or(Denied::KeyVersionUnknown { key: id, version: number })
    };
    let version = known(request.key_version)?;
    let newest = made
        .newest
        .filter(|newest| version <= *newest)
        .ok_or(Denied::KeyNotReady { key: id, version })?;
    match action {
        Action::Rewrap => {
            let from = known(request.from_version)?;
            if from >= version {
                return Err(Denied::RewrapNotNewer { from, to: version });
            }
        }
        _ if request.from_version != 0 => {
            return Err(Denied::Malformed { field: "from_version" });
        }
        Action::Encrypt if version != newest => {
            return Err(Denied::OldVersion { key: id, version, newest });
        }
        _ => {}
    }
    let protects = action != Action::Decrypt;
    // Of the committee that has the shares, and not of the one that made the key.
    let fragile =
        made.dealt.map_or_else(|| key.may_be_fragile(version), |of| of.n() > 1 && of.spare() == 0);
    if protects && fragile && !key.allow_fragile() {
        return Err(Denied::Fragile { key: id });
    }
    Ok(version)
}

fn check_sizes(request: &EvaluateRequest) -> Result<(), Denied> {
    let (items, contexts) = (request.items.len(), request.contexts.len());
    if items == 0 {
        return Err(Denied::Malformed { field: "items" });
    }
    if items > MAX_BATCH {
        return Err(Denied::TooLarge { what: "items", found: items });
    }
    if contexts > MAX_BATCH {
        return Err(Denied::TooLarge { what: "encryption contexts", found: contexts });
    }
    Ok(())
}

/// The contexts, each checked once; position 0 is the empty context.
fn contexts(contexts: &[v1::Context]) -> Result<Vec<EncryptionContext>, Denied> {
    let mut checked = Vec::with_capacity(contexts.len() + 1);
    checked.push(EncryptionContext::default());
    for context in contexts {
        let pairs = context.pairs.iter().map(|p| (p.name.clone(), p.value.clone())).collect();
        let number = checked.len();
        let context = EncryptionContext::from_canonical(pairs)
            .map_err(|source| Denied::Context { number, source })?;
        checked.push(context);
    }
    Ok(checked)
}

/// Creator and creation time of one item: the caller's and now, when it encrypts.
fn origin(
    action: Action,
    caller: PrincipalId,
    position: usize,
    item: &v1::Item,
    now: UnixSeconds,
) -> Result<(PrincipalId, UnixSeconds), Denied> {
    let creator = match item.creator.as_slice() {
        [] => caller,
        bytes => PrincipalId::from_slice(bytes)
            .map_err(|_| Denied::Malformed { field: "items.creator" })?,
    };
    let created_at = UnixSeconds(item.created_at);
    if action == Action::Encrypt {
        if creator != caller {
            return Err(Denied::CreatorMismatch { principal: caller, creator, item: position });
        }
        if created_at.abs_diff(now) > CLOCK_TOLERANCE_SECONDS {
            return Err(Denied::ClockSkew { item: position, created_at, now });
        }
    }
    Ok((creator, created_at))
}
