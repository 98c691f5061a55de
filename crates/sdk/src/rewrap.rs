//! Rewrapping: the same object under a newer version of its key, or with another customer fragment. The
//! payload stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_object::kek::FragmentId;
use quorate_object::{ParsedHeader, Stanza, StanzaPlan};
use quorate_secret::CustomerTerm;
use quorate_types::{Action, KeyId, KeyVersion};
use quorate_wire::EncryptionContext;

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::evaluate::Item;
use crate::keys::Key;
use crate::objects::{OpeningKey, PlannedStanza, header_error, spread};
use crate::rng::os_rng;

impl Client {
    /// New headers for objects, under the newest version of the key that they are sealed under, and with the
    /// customer fragment that this client seals with, or else the same as before; creator and time stay as
    /// they were. Each of `headers` begins with a header; what follows it is not looked at, and stays as it
    /// is: the object is the new header and then the old payload. A header that is so already comes back
    /// unchanged.
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

        let stanzas = open
            .iter()
            .zip(&spread_contexts)
            .enumerate()
            .filter_map(|(position, (opened, context))| {
                let opened = opened.as_ref().ok()?;
                let stanza = opened.header.stanzas().get(opened.stanza)?;
                Some((position, stanza.clone(), Arc::clone(context)))
            })
            .collect();
        for (position, planned) in self.rewrap_stanzas(stanzas).await {
            let Some(slot) = open.get_mut(position) else { continue };
            let rewrapped = planned.and_then(|PlannedStanza { plan, prf, term }| {
                let Ok(opened) = slot else { return Ok(()) };
                opened
                    .header
                    .rewrap(opened.stanza, plan, &prf, term.as_ref())
                    .map_err(|e| ObjectError::Seal(e.to_string()).into())
            });
            if let Err(error) = rewrapped {
                *slot = Err(error);
            }
        }
        open.into_iter().map(|key| key.map(|key| key.header.bytes().to_vec())).collect()
    }

    /// Plans stanzas anew, each under the newest version of its key, and with the fragment that this client
    /// seals with or else its own; and asks the nodes for their PRF outputs, proved. What is so already is left
    /// out of the answer.
    pub(crate) async fn rewrap_stanzas(
        &self,
        stanzas: Vec<(usize, Stanza, Arc<EncryptionContext>)>,
    ) -> BTreeMap<usize, Result<PlannedStanza, Error>> {
        let mut results = BTreeMap::new();
        let mut newest: BTreeMap<KeyId, Result<Key, Error>> = BTreeMap::new();
        let mut groups: BTreeMap<Group, Vec<Planned>> = BTreeMap::new();
        for (position, stanza, context) in stanzas {
            let id = stanza.facts().key;
            if let std::collections::btree_map::Entry::Vacant(slot) = newest.entry(id) {
                // Asked for anew, so that the newest version is known.
                slot.insert(self.fetch_key(id).await);
            }
            let planned = match newest.get(&id) {
                Some(Ok(key)) => self.plan_again(position, key, &stanza, context).await,
                Some(Err(error)) => Err(error.clone()),
                None => Ok(None),
            };
            match planned {
                Ok(Some((group, planned))) => groups.entry(group).or_default().push(planned),
                Ok(None) => {}
                Err(error) => {
                    results.insert(position, Err(error));
                }
            }
        }
        for ((id, from, to), group) in groups {
            let Some(Ok(key)) = newest.get(&id) else { continue };
            // Under the same version, for another fragment, the label is the old one: that is decrypting.
            let (action, from) =
                if from < to { (Action::Rewrap, Some(from)) } else { (Action::Decrypt, None) };
            let mut waiting = vec![group];
            while let Some(mut group) = waiting.pop() {
                let items: Vec<Item> = group.iter().map(|p| p.item.clone()).collect();
                match self.evaluate_batches(key, to, action, from, &items).await {
                    Ok(outputs) => {
                        for (Planned { position, plan, term, .. }, prf) in
                            group.into_iter().zip(outputs)
                        {
                            results.insert(position, Ok(PlannedStanza { plan, prf, term }));
                        }
                    }
                    // Nodes refuse a request as a whole: the half without the refused item goes on.
                    Err(error) if error.refused_item().is_some() && group.len() > 1 => {
                        let second = group.split_off(group.len() / 2);
                        waiting.extend([second, group]);
                    }
                    Err(error) => {
                        results.extend(group.iter().map(|p| (p.position, Err(error.clone()))));
                    }
                }
            }
        }
        results
    }

    /// What to ask for, or nothing where the stanza is as it is to be.
    async fn plan_again(
        &self,
        position: usize,
        key: &Key,
        stanza: &Stanza,
        context: Arc<EncryptionContext>,
    ) -> Result<Option<(Group, Planned)>, Error> {
        let facts = stanza.facts();
        let to = key.sealing_version()?.max(facts.version);
        let fragment = self.rewrapping_fragment(key, stanza).await?;
        let named = fragment.as_deref().map(FragmentId::of);
        if to == facts.version && named == stanza.fragment() {
            return Ok(None);
        }
        let context = stanza.stored_context().cloned().map_or(context, Arc::new);
        let seal = |e: &dyn std::error::Error| ObjectError::Seal(e.to_string());
        let plan =
            stanza.plan_rewrap(Some(&context), to, named, &mut os_rng()).map_err(|e| seal(&e))?;
        let term = fragment.map(|fragment| plan.customer_term(&fragment)).transpose();
        let term = term.map_err(|e| seal(&e))?;
        let item = Item { label: plan.label().clone(), context };
        Ok(Some(((facts.key, facts.version, to), Planned { position, plan, item, term })))
    }
}

/// A key, the version that its stanzas are under now, and the one that they go to.
type Group = (KeyId, KeyVersion, KeyVersion);

struct Planned {
    position: usize,
    plan: StanzaPlan,
    item: Item,
    term: Option<CustomerTerm>,
}
