//! Rewrapping: the same object under a newer version of its key. The payload stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_object::{ParsedHeader, StanzaPlan};
use quorate_types::{Action, KeyId, KeyVersion};
use quorate_wire::EncryptionContext;

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::evaluate::Item;
use crate::keys::Key;
use crate::objects::{OpeningKey, header_error, spread};
use crate::rng::os_rng;

impl Client {
    /// New headers for objects, under the newest version of the key that they are sealed under; creator
    /// and time stay as they were. Each of `headers` begins with a header; what follows it is not looked
    /// at, and stays as it is: the object is the new header and then the old payload. A header that is
    /// under the newest version already comes back unchanged.
    ///
    /// This takes nothing from somebody who saw the object's data key, and an older header can be put back
    /// while its key version lives.
    pub async fn rewrap(
        &self,
        headers: &[&[u8]],
        contexts: &[EncryptionContext],
    ) -> Vec<Result<Vec<u8>, Error>> {
        let spread_contexts = match spread(contexts, headers.len()) {
            Ok(contexts) => contexts,
            Err(error) => return headers.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let parsed: Vec<Result<ParsedHeader, Error>> = headers
            .iter()
            .map(|bytes| ParsedHeader::parse(bytes).map_err(|e| header_error(&e).into()))
            .collect();
        let good: Vec<ParsedHeader> =
            parsed.iter().filter_map(|p| p.as_ref().ok()).cloned().collect();
        let good_contexts: Vec<EncryptionContext> = parsed
            .iter()
            .zip(&spread_contexts)
            .filter(|(parsed, _)| parsed.is_ok())
            .map(|(_, context)| EncryptionContext::clone(context))
            .collect();
        let mut opened = self.open_headers(&good, &good_contexts).await.into_iter();
        let mut open: Vec<Result<OpeningKey, Error>> = parsed
            .into_iter()
            .map(|parsed| {
                parsed.and_then(|_| opened.next().unwrap_or(Err(ObjectError::WrongContext.into())))
            })
            .collect();

        let newest = self.newest_keys(&open).await;
        let mut groups: BTreeMap<Group, Vec<Planned>> = BTreeMap::new();
        for (position, slot) in open.iter_mut().enumerate() {
            let planned = match slot {
                Ok(key) => plan(position, key, spread_contexts.get(position), &newest),
                Err(_) => Ok(None),
            };
            match planned {
                Ok(Some((group, planned))) => groups.entry(group).or_default().push(planned),
                Ok(None) => {}
                Err(error) => *slot = Err(error),
            }
        }
        for ((id, from), group) in groups {
            if let Err((error, positions)) =
                self.rewrap_group(id, from, group, &newest, &mut open).await
            {
                for position in positions {
                    if let Some(slot) = open.get_mut(position) {
                        *slot = Err(error.clone());
                    }
                }
            }
        }
        open.into_iter().map(|key| key.map(|key| key.header.bytes().to_vec())).collect()
    }

    /// The keys of opened objects, asked for anew, so that the newest version is known.
    async fn newest_keys(
        &self,
        open: &[Result<OpeningKey, Error>],
    ) -> BTreeMap<KeyId, Result<Key, Error>> {
        let mut keys = BTreeMap::new();
        for key in open.iter().filter_map(|key| key.as_ref().ok()) {
            if let Some(stanza) = key.header.stanzas().get(key.stanza) {
                let id = stanza.facts().key;
                if let std::collections::btree_map::Entry::Vacant(slot) = keys.entry(id) {
                    slot.insert(self.fetch_key(id).await);
                }
            }
        }
        keys
    }

    async fn rewrap_group(
        &self,
        id: KeyId,
        from: KeyVersion,
        group: Vec<Planned>,
        newest: &BTreeMap<KeyId, Result<Key, Error>>,
        open: &mut [Result<OpeningKey, Error>],
    ) -> Result<(), (Error, Vec<usize>)> {
        let positions: Vec<usize> = group.iter().map(|p| p.position).collect();
        let Some(Ok(key)) = newest.get(&id) else { return Ok(()) };
        let fail = |error: Error| (error, positions.clone());
        let to = key.sealing_version().map_err(|e| fail(e.into()))?;
        let items: Vec<Item> = group.iter().map(|p| p.item.clone()).collect();
        let outputs = self
            .evaluate_batches(key, to, Action::Rewrap, Some(from), &items)
            .await
            .map_err(&fail)?;
        for (planned, prf) in group.into_iter().zip(&outputs) {
            let Some(slot) = open.get_mut(planned.position) else { continue };
            if let Ok(key) = slot
                && let Err(error) = key.header.rewrap(key.stanza, planned.plan, prf, None)
            {
                *slot = Err(ObjectError::Seal(error.to_string()).into());
            }
        }
        Ok(())
    }
}

/// A key, and the version that its objects are under now.
type Group = (KeyId, KeyVersion);

struct Planned {
    position: usize,
    plan: StanzaPlan,
    item: Item,
}

/// What to ask for, or nothing where the header is under the newest version already.
fn plan(
    position: usize,
    opened: &OpeningKey,
    context: Option<&Arc<EncryptionContext>>,
    newest: &BTreeMap<KeyId, Result<Key, Error>>,
) -> Result<Option<(Group, Planned)>, Error> {
    let Some(stanza) = opened.header.stanzas().get(opened.stanza) else { return Ok(None) };
    let facts = stanza.facts();
    let key = match newest.get(&facts.key) {
        Some(Ok(key)) => key,
        Some(Err(error)) => return Err(error.clone()),
        None => return Ok(None),
    };
    let to = key.sealing_version()?;
    if to <= facts.version {
        return Ok(None);
    }
    let context = match (stanza.stored_context(), context) {
        (Some(stored), _) => Arc::new(stored.clone()),
        (None, Some(given)) => Arc::clone(given),
        (None, None) => return Err(ObjectError::WrongContext.into()),
    };
    let plan = stanza
        .plan_rewrap(Some(&context), to, None, &mut os_rng())
        .map_err(|e| ObjectError::Seal(e.to_string()))?;
    let item = Item { label: plan.label().clone(), context };
    Ok(Some(((facts.key, facts.version), Planned { position, plan, item })))
}
