//! Sealing and opening objects: the keys of many in one round trip, and whole objects in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_coordinator::evaluation::Proofs;
use quorate_object::cobblestone::{
    CHUNK_BYTES, Decryptor, Encryptor, Geometry, OpenError, PREFIX_BYTES, SEALED_CHUNK_BYTES,
};
use quorate_object::header::{AuthenticatedHeader, HeaderError, NewObject};
use quorate_object::kek::FragmentId;
use quorate_object::{
    Draft, LabelError, OpenStanzaError, ParsedHeader, PayloadSuite, Stanza, StanzaFacts, StanzaPlan,
};
use quorate_secret::{CustomerTerm, Fragment, Kek, PrfOutput};
use quorate_types::{Action, KeyId, KeyVersion, ObjectId};
use quorate_wire::{EncryptionContext, Label, RefusalCode};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::error::{Error, KeyError, ObjectError, RequestError};
use crate::evaluate::{Item, Job, Start, batch_lengths};
use crate::keys::Key;
use crate::rng::os_rng;

/// Chunks that are sealed or opened between two chances for other tasks to run: 1 MiB.
const CHUNKS_AT_ONCE: usize = 64;
/// Batches under way at once: while one is combined here, the nodes evaluate the next.
const BATCHES_AT_ONCE: usize = 3;
/// Items that are stamped with one creation time, which nodes accept for a minute: a slow machine asks for
/// these well within it.
const STAMPED_AT_ONCE: usize = 32_768;
/// Headers opened between two chances for other tasks to run; each takes about 10 us.
const HEADERS_AT_ONCE: usize = 32;

/// The key of one new object, which seals it on any thread, without the network.
#[derive(Debug)]
pub struct SealingKey(NewObject);

impl SealingKey {
    /// The object's id.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        *self.0.header.prologue().object()
    }

    /// What the object begins with, and what seals the payload that follows. The encryptor's
    /// [`Encryptor::finish`] must be called once, or the object opens nowhere.
    #[must_use]
    pub fn start(self) -> (Vec<u8>, Encryptor) {
        let mut beginning = self.0.header.bytes().to_vec();
        beginning.extend_from_slice(&self.0.prefix);
        (beginning, self.0.encryptor)
    }

    /// Bytes of the object that a plaintext of this length becomes; `None` where it is too long.
    #[must_use]
    pub fn sealed_len(&self, plaintext: u64) -> Option<u64> {
        let payload = Geometry::of_plaintext(plaintext).ok()?.sealed_len();
        payload.checked_add(self.0.header.bytes().len() as u64)
    }

    /// Seals one object in memory.
    ///
    /// # Errors
    /// [`ObjectError::Seal`], for more than 4 PiB.
    pub fn seal(self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let (mut out, encryptor) = self.start();
        let start = out.len();
        out.resize(start + Encryptor::finish_len(plaintext.len()), 0);
        let payload = out.get_mut(start..).unwrap_or_default();
        encryptor.finish(plaintext, payload).map_err(|e| ObjectError::Seal(e.to_string()))?;
        Ok(out)
    }
}

/// The key of one object that exists, which opens it on any thread, without the network.
#[derive(Debug)]
pub struct OpeningKey {
    pub(crate) header: AuthenticatedHeader,
    /// The stanza that gave the data key.
    pub(crate) stanza: usize,
}

impl OpeningKey {
    /// The object's id.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        *self.header.prologue().object()
    }

    /// Bytes of the header: where the payload begins.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header.bytes().len()
    }

    /// The encryption context, where the writer stored it.
    #[must_use]
    pub fn stored_context(&self) -> Option<&EncryptionContext> {
        self.header.stanzas().get(self.stanza)?.stored_context()
    }

    /// What opens the payload that begins with these 56 bytes.
    ///
    /// # Errors
    /// [`ObjectError::Payload`] when the payload is another object's.
    pub fn decryptor(&self, prefix: &[u8; PREFIX_BYTES]) -> Result<Decryptor, Error> {
        self.header.decryptor(prefix).map_err(|e| ObjectError::Payload(e.to_string()).into())
    }

    /// Opens one payload in memory: what follows the header.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing is returned unless all of it verifies.
    pub fn open(&self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let (prefix, sealed) =
            payload.split_first_chunk::<PREFIX_BYTES>().ok_or(ObjectError::Truncated)?;
        let geometry =
            Geometry::of_sealed(payload.len() as u64).map_err(|_| ObjectError::Truncated)?;
        let length = usize::try_from(geometry.plain_len())
            .map_err(|_| ObjectError::Payload("too long".into()))?;
        let mut out = vec![0; length];
        self.decryptor(prefix)?.stream().finish(sealed, &mut out).map_err(open_error)?;
        Ok(out)
    }
}

pub(crate) fn open_error(error: OpenError) -> ObjectError {
    match error {
        OpenError::Truncated { .. } => ObjectError::Truncated,
        other => ObjectError::Payload(other.to_string()),
    }
}

pub(crate) fn header_error(error: &HeaderError) -> ObjectError {
    match error {
        HeaderError::Truncated { .. } => ObjectError::Truncated,
        HeaderError::Stanza { index, source } => {
            ObjectError::Format(format!("stanza {index}: {source}"))
        }
        other => ObjectError::Format(other.to_string()),
    }
}

/// One context for all items, or one for each.
pub(crate) fn spread(
    contexts: &[EncryptionContext],
    items: usize,
) -> Result<Vec<Arc<EncryptionContext>>, RequestError> {
    match contexts {
        [one] => {
            let one = Arc::new(one.clone());
            Ok(vec![one; items])
        }
        many if many.len() == items => Ok(many.iter().cloned().map(Arc::new).collect()),
        many => Err(RequestError::Contexts { contexts: many.len(), items }),
    }
}

/// Something wrapped for a key, with the context that the caller gives.
pub(crate) struct Target<'a> {
    pub(crate) stanza: &'a Stanza,
    pub(crate) context: Arc<EncryptionContext>,
    /// The fragment that the stanza names.
    pub(crate) fragment: Option<Arc<Fragment>>,
}

/// A stanza that is planned, with all that sealing it takes.
pub(crate) struct PlannedStanza {
    pub(crate) plan: StanzaPlan,
    pub(crate) prf: PrfOutput,
    pub(crate) term: Option<CustomerTerm>,
}

/// A stanza that this client can ask the nodes about.
pub(crate) struct Reader {
    index: usize,
    fragment: Option<Arc<Fragment>>,
}

impl Target<'_> {
    /// A stored context need not be said again.
    fn context(&self) -> Option<&EncryptionContext> {
        let leave_out = self.context.is_empty() && self.stanza.stored_context().is_some();
        (!leave_out).then_some(&*self.context)
    }

    fn item(&self) -> Result<Item, ObjectError> {
        let label = self.stanza.label(self.context()).map_err(|e| match e {
            LabelError::ContextNeeded | LabelError::ContextDiffers => ObjectError::WrongContext,
        })?;
        let context = match self.stanza.stored_context() {
            Some(stored) => Arc::new(stored.clone()),
            None => Arc::clone(&self.context),
        };
        Ok(Item { label, context })
    }
}

impl Client {
    /// Seals one object in memory.
    ///
    /// # Errors
    /// [`Error`]; nothing is sealed then.
    pub async fn encrypt(
        &self,
        key: &Key,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, Error> {
        let (mut out, mut encryptor) = self.sealing_key(key, context).await?.start();
        let seal = |e: quorate_object::cobblestone::SealError| ObjectError::Seal(e.to_string());
        let start = out.len();
        out.resize(start + Encryptor::finish_len(plaintext.len()), 0);
        let mut rest = plaintext;
        let mut room = out.get_mut(start..).unwrap_or_default();
        while let Some((block, later)) = rest.split_at_checked(CHUNKS_AT_ONCE * CHUNK_BYTES) {
            let (into, left) = room.split_at_mut(CHUNKS_AT_ONCE * SEALED_CHUNK_BYTES);
            encryptor.seal_chunks(block, into).map_err(seal)?;
            (rest, room) = (later, left);
            tokio::task::yield_now().await;
        }
        encryptor.finish(rest, room).map_err(seal)?;
        self.inner.counting.sealed(plaintext.len() as u64);
        Ok(out)
    }

    /// Opens one object in memory.
    ///
    /// # Errors
    /// [`Error`]; nothing is returned unless all of it verifies.
    pub async fn decrypt(
        &self,
        sealed: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, Error> {
        let header = ParsedHeader::parse(sealed).map_err(|e| header_error(&e))?;
        let payload = sealed.get(header.length()..).ok_or(ObjectError::Truncated)?;
        let key = self.open_header(header, context).await?;
        let (prefix, mut rest) =
            payload.split_first_chunk::<PREFIX_BYTES>().ok_or(ObjectError::Truncated)?;
        let geometry =
            Geometry::of_sealed(payload.len() as u64).map_err(|_| ObjectError::Truncated)?;
        let length = usize::try_from(geometry.plain_len())
            .map_err(|_| ObjectError::Payload("too long".into()))?;
        let mut stream = key.decryptor(prefix)?.stream();
        let mut out = vec![0; length];
        let mut room = out.as_mut_slice();
        // The last chunk is shorter than the others and must not be among whole ones.
        while let Some((block, later)) = rest
            .split_at_checked(CHUNKS_AT_ONCE * SEALED_CHUNK_BYTES)
            .filter(|(_, l)| !l.is_empty())
        {
            let (into, left) = room.split_at_mut(CHUNKS_AT_ONCE * CHUNK_BYTES);
            stream.open_chunks(block, into).map_err(open_error)?;
            (rest, room) = (later, left);
            tokio::task::yield_now().await;
        }
        stream.finish(rest, room).map_err(open_error)?;
        self.inner.counting.opened(out.len() as u64);
        Ok(out)
    }

    /// The key of one new object.
    ///
    /// # Errors
    /// As [`Self::derive_sealing_keys`].
    pub async fn sealing_key(
        &self,
        key: &Key,
        context: &EncryptionContext,
    ) -> Result<SealingKey, Error> {
        let mut keys = self.derive_sealing_keys(key, 1, core::slice::from_ref(context)).await?;
        keys.pop().ok_or_else(|| ObjectError::Seal("no key was derived".into()).into())
    }

    /// The keys of `n` new objects: one round trip for each 4096. Give one encryption context for all, or
    /// one for each. Nodes accept the time in them for a minute; the keys themselves do not expire.
    ///
    /// # Errors
    /// [`Error`]; no key is returned then. Every node's answer is proved, because a wrong key would lose
    /// data.
    pub async fn derive_sealing_keys(
        &self,
        key: &Key,
        n: usize,
        contexts: &[EncryptionContext],
    ) -> Result<Vec<SealingKey>, Error> {
        let contexts = spread(contexts, n)?;
        let planned = self.plan_and_evaluate(key, &contexts).await?;
        let rng = &mut os_rng();
        let mut keys = Vec::with_capacity(n);
        for (position, PlannedStanza { plan, prf, term }) in planned.into_iter().enumerate() {
            let seal = |e: &dyn std::error::Error| ObjectError::Seal(e.to_string());
            let mut draft = Draft::new(PayloadSuite::Cobblestone256, rng);
            draft.add_reader(plan, &prf, term.as_ref()).map_err(|e| seal(&e))?;
            keys.push(SealingKey(draft.finish(rng).map_err(|e| seal(&e))?));
            if position % HEADERS_AT_ONCE == HEADERS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(keys)
    }

    /// Plans one stanza for each context, and asks the nodes for their PRF outputs, proved. Refuses before any
    /// node is asked where the key requires a customer fragment and there is none.
    pub(crate) async fn plan_and_evaluate(
        &self,
        key: &Key,
        contexts: &[Arc<EncryptionContext>],
    ) -> Result<Vec<PlannedStanza>, Error> {
        let mut planned = Vec::with_capacity(contexts.len());
        for contexts in contexts.chunks(STAMPED_AT_ONCE) {
            planned.extend(self.plan_and_evaluate_some(key, contexts).await?);
        }
        Ok(planned)
    }

    async fn plan_and_evaluate_some(
        &self,
        key: &Key,
        contexts: &[Arc<EncryptionContext>],
    ) -> Result<Vec<PlannedStanza>, Error> {
        let mut key = key.clone();
        let mut again = true;
        loop {
            match self.plan_and_evaluate_once(&key, contexts).await {
                Err(Error::Refused(refused)) if again => {
                    match RefusalCode::from_code(&refused.refusal.code) {
                        // The nodes' replies said what time it is.
                        Some(RefusalCode::ClockSkew) => self.forget_clocks(),
                        // Rotated, or made, since the key was fetched.
                        Some(RefusalCode::OldVersion | RefusalCode::GenerationNotHeld) => {
                            key = self.fetch_key(key.id()).await?;
                        }
                        _ => return Err(Error::Refused(refused)),
                    }
                    again = false;
                }
                other => return other,
            }
        }
    }

    async fn plan_and_evaluate_once(
        &self,
        key: &Key,
        contexts: &[Arc<EncryptionContext>],
    ) -> Result<Vec<PlannedStanza>, Error> {
        if contexts.is_empty() {
            return Ok(Vec::new());
        }
        let version = key.sealing_version()?;
        let fragment = self.sealing_fragment(key).await?;
        let named = fragment.as_deref().map(FragmentId::of);
        let committee = key.committee(version)?;
        let created_at = self.stamp(committee.threshold(), committee.nodes()).await?;
        let facts = StanzaFacts {
            spec: key.spec(),
            tenant: key.tenant(),
            key: key.id(),
            version,
            creator: self.principal(),
            created_at,
        };
        let plans: Vec<StanzaPlan> = {
            let rng = &mut os_rng();
            contexts.iter().map(|c| StanzaPlan::new(facts, c, self.storage, named, rng)).collect()
        };
        let items: Vec<Item> = plans
            .iter()
            .zip(contexts)
            .map(|(plan, context)| Item {
                label: plan.label().clone(),
                context: Arc::clone(context),
            })
            .collect();
        let outputs = self.evaluate_batches(key, version, Action::Encrypt, None, &items).await?;
        let planned = plans.into_iter().zip(outputs).map(|(plan, prf)| {
            let term = fragment.as_ref().map(|fragment| plan.customer_term(fragment)).transpose();
            let term = term.map_err(|e| ObjectError::Seal(e.to_string()))?;
            Ok(PlannedStanza { plan, prf, term })
        });
        planned.collect()
    }

    /// Proved outputs for any number of items of one key.
    pub(crate) async fn evaluate_batches(
        &self,
        key: &Key,
        version: KeyVersion,
        action: Action,
        from: Option<KeyVersion>,
        items: &[Item],
    ) -> Result<Vec<PrfOutput>, Error> {
        let mut jobs = Vec::new();
        let mut rest = items;
        for length in batch_lengths(items.iter().map(|item| &*item.context)) {
            let (batch, later) = rest.split_at(length);
            jobs.push(Job::new(key, version, action, from, batch));
            rest = later;
        }
        let mut waiting = jobs.into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut done: BTreeMap<usize, Vec<PrfOutput>> = BTreeMap::new();
        loop {
            while running.len() < BATCHES_AT_ONCE
                && let Some((position, job)) = waiting.next()
            {
                let client = self.clone();
                running.spawn(async move {
                    let mut job = Arc::new(job);
                    (position, client.evaluate(&mut job, Start::Fresh(Proofs::Always)).await)
                });
            }
            match running.join_next().await {
                None => break,
                Some(Err(e)) => return Err(RequestError::Invalid(e.to_string()).into()),
                Some(Ok((position, evaluated))) => {
                    done.insert(position, evaluated?.outputs);
                }
            }
        }
        Ok(done.into_values().flatten().collect())
    }

    /// The key of one object that exists.
    ///
    /// # Errors
    /// As [`Self::open_headers`].
    pub async fn open_header(
        &self,
        header: ParsedHeader,
        context: &EncryptionContext,
    ) -> Result<OpeningKey, Error> {
        let mut opened = self.open_headers(&[header], core::slice::from_ref(context)).await;
        opened.pop().unwrap_or_else(|| Err(ObjectError::NoReader { stanzas: 0 }.into()))
    }

    /// The keys of many objects that exist: one round trip for each 4096 of one key version. Give one
    /// encryption context for all, or one for each.
    ///
    /// Answers are not proved unless one turns out wrong; then the node that gave it is named in
    /// [`Self::warnings`], and the others' answers are used.
    pub async fn open_headers(
        &self,
        headers: &[ParsedHeader],
        contexts: &[EncryptionContext],
    ) -> Vec<Result<OpeningKey, Error>> {
        let contexts = match spread(contexts, headers.len()) {
            Ok(contexts) => contexts,
            Err(error) => return headers.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut readers = Vec::with_capacity(headers.len());
        for header in headers {
            readers.push(self.reader_of(header).await);
        }
        let mut targets = Vec::new();
        let mut positions = Vec::new();
        for (position, (header, reader)) in headers.iter().zip(&readers).enumerate() {
            if let (Ok(Reader { index, fragment }), Some(context)) =
                (reader, contexts.get(position))
                && let Some(stanza) = header.stanzas().get(*index)
            {
                let (context, fragment) = (Arc::clone(context), fragment.clone());
                targets.push(Target { stanza, context, fragment });
                positions.push((position, *index));
            }
        }
        let open = |target: usize, kek: &Kek| {
            let (header, index) = positions
                .get(target)
                .and_then(|(position, index)| Some((headers.get(*position)?, *index)))
                .ok_or(OpenStanzaError::NoSuchStanza(target))?;
            header.open_stanza(index, kek)
        };
        let mut opened = self.open_targets(&targets, open).await.into_iter();
        headers
            .iter()
            .zip(readers)
            .map(|(header, reader)| {
                let stanza = reader?.index;
                let data_key = opened.next().unwrap_or(Err(ObjectError::WrongContext.into()))?;
                let header = header
                    .clone()
                    .authenticate(data_key)
                    .map_err(|e| ObjectError::Header(e.to_string()))?;
                Ok(OpeningKey { header, stanza })
            })
            .collect()
    }

    /// The first stanza of a key that this client can find, whose fragment it has.
    async fn reader_of(&self, header: &ParsedHeader) -> Result<Reader, Error> {
        let mut failure = None;
        for (index, stanza) in header.stanzas().iter().enumerate() {
            match self.key_of(stanza).await {
                Ok(_) => match self.opening_fragment(stanza).await {
                    Ok(fragment) => return Ok(Reader { index, fragment }),
                    Err(error) => failure = Some(error),
                },
                Err(Error::Key(KeyError::Unknown(_))) => {}
                Err(error) => failure = Some(error),
            }
        }
        let stanzas = header.stanzas().len();
        Err(failure.unwrap_or_else(|| ObjectError::NoReader { stanzas }.into()))
    }

    /// The key of a stanza, in the version that it names.
    pub(crate) async fn key_of(&self, stanza: &Stanza) -> Result<Key, Error> {
        let facts = stanza.facts();
        let key = self.key_by_id(facts.key).await?;
        // Nodes make the label with what the key's document says. Asked with another, they would answer right,
        // and their proofs would not fit: whoever changed the header would make honest nodes look like liars.
        if key.tenant() != facts.tenant || key.spec() != facts.spec {
            let what = "it names another tenant or algorithm than its key";
            return Err(ObjectError::Header(what.to_owned()).into());
        }
        if key.committee(facts.version).is_ok() {
            return Ok(key);
        }
        // Perhaps the version was made since.
        let key = self.fetch_key(facts.key).await?;
        key.committee(facts.version)?;
        Ok(key)
    }

    /// Asks for the outputs of many stanzas, and tries each with `open`, which says whether the KEK was
    /// the right one. Wrong ones are asked for again with proofs.
    pub(crate) async fn open_targets<T>(
        &self,
        targets: &[Target<'_>],
        open: impl Fn(usize, &Kek) -> Result<T, OpenStanzaError>,
    ) -> Vec<Result<T, Error>> {
        let mut results: Vec<Option<Result<T, Error>>> = targets.iter().map(|_| None).collect();
        let mut groups: BTreeMap<(KeyId, KeyVersion), Vec<(usize, Item)>> = BTreeMap::new();
        for (position, target) in targets.iter().enumerate() {
            let facts = target.stanza.facts();
            match target.item() {
                Ok(item) => {
                    groups.entry((facts.key, facts.version)).or_default().push((position, item))
                }
                Err(error) => set(&mut results, position, Err(error.into())),
            }
        }
        for ((id, version), group) in groups {
            let key = match self.key_by_id(id).await {
                Ok(key) => key,
                Err(error) => {
                    for (position, _) in &group {
                        set(&mut results, *position, Err(error.clone()));
                    }
                    continue;
                }
            };
            let mut rest = group.as_slice();
            for length in batch_lengths(group.iter().map(|(_, item)| &*item.context)) {
                let (batch, later) = rest.split_at(length);
                rest = later;
                self.open_items(&key, version, batch, targets, &open, &mut results).await;
            }
        }
        results
            .into_iter()
            .map(|result| result.unwrap_or(Err(ObjectError::WrongContext.into())))
            .collect()
    }

    /// Opens what can be opened of a batch. Nodes refuse a request as a whole; where they name the item that
    /// they refuse, that one alone is refused, and the others are asked for again: the items before it, which the
    /// node has let pass, and those behind it in two halves, so that many refused ones cost no more bytes than
    /// n log n.
    async fn open_items<T>(
        &self,
        key: &Key,
        version: KeyVersion,
        batch: &[(usize, Item)],
        targets: &[Target<'_>],
        open: &impl Fn(usize, &Kek) -> Result<T, OpenStanzaError>,
        results: &mut [Option<Result<T, Error>>],
    ) {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            if batch.is_empty() {
                continue;
            }
            let Err(error) = self.open_batch(key, version, batch, targets, open, results).await
            else {
                continue;
            };
            if let Some(at) = error.refused_item().filter(|at| *at < batch.len()) {
                let (before, rest) = batch.split_at(at);
                let Some(((position, _), behind)) = rest.split_first() else { continue };
                set_open(results, *position, &error);
                let (first, second) = behind.split_at(behind.len() / 2);
                waiting.extend([second, first, before]);
                continue;
            }
            // What stops this batch stops the others.
            for (position, _) in batch.iter().chain(waiting.drain(..).flatten()) {
                set_open(results, *position, &error);
            }
        }
    }

    async fn open_batch<T>(
        &self,
        key: &Key,
        version: KeyVersion,
        batch: &[(usize, Item)],
        targets: &[Target<'_>],
        open: &impl Fn(usize, &Kek) -> Result<T, OpenStanzaError>,
        results: &mut [Option<Result<T, Error>>],
    ) -> Result<(), Error> {
        let items: Vec<Item> = batch.iter().map(|(_, item)| item.clone()).collect();
        let mut job = Arc::new(Job::new(key, version, Action::Decrypt, None, &items));
        let mut start = Start::Fresh(Proofs::OnDemand);
        loop {
            let evaluated = self.evaluate(&mut job, start).await?;
            let mut wrong = false;
            for (n, ((position, item), prf)) in batch.iter().zip(&evaluated.outputs).enumerate() {
                if n % HEADERS_AT_ONCE == HEADERS_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                if results.get(*position).is_none_or(Option::is_some) {
                    continue;
                }
                let Some(target) = targets.get(*position) else { continue };
                match try_open(target, &item.label, prf, |kek| open(*position, kek)) {
                    Err(OpenStanzaError::WrongKey) if !evaluated.proved => wrong = true,
                    opened => set(results, *position, opened.map_err(|e| stanza_error(e).into())),
                }
            }
            if !wrong {
                return Ok(());
            }
            start = Start::Again(Box::new(evaluated));
        }
    }
}

fn try_open<T>(
    target: &Target<'_>,
    label: &Label,
    prf: &PrfOutput,
    open: impl Fn(&Kek) -> Result<T, OpenStanzaError>,
) -> Result<T, OpenStanzaError> {
    // Only a missing customer term has no KEK, and stanzas whose fragment is missing were left out before.
    let term = match &target.fragment {
        Some(fragment) => target.stanza.customer_term(fragment, label).map(Some),
        None => Ok(None),
    };
    let kek = term
        .and_then(|term| target.stanza.kek(label, prf, term.as_ref()))
        .map_err(|_| OpenStanzaError::WrongKey)?;
    open(&kek)
}

fn stanza_error(error: OpenStanzaError) -> ObjectError {
    match error {
        OpenStanzaError::WrongKey => ObjectError::WrongContext,
        other => ObjectError::Header(other.to_string()),
    }
}

/// Gives an item that has no result yet this error.
fn set_open<T>(results: &mut [Option<Result<T, Error>>], position: usize, error: &Error) {
    if results.get(position).is_some_and(Option::is_none) {
        set(results, position, Err(error.clone()));
    }
}

fn set<T>(results: &mut [Option<T>], position: usize, value: T) {
    if let Some(result) = results.get_mut(position) {
        *result = Some(value);
    }
}
