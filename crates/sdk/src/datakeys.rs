//! Data keys: generated, wrapped and unwrapped, many in one round trip.

use std::sync::Arc;

use quorate_object::{OpenStanzaError, WrappedDataKey};
use quorate_secret::{DataKey, Fragment, Kek, SecretVec};
use quorate_wire::EncryptionContext;

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::keys::Key;
use crate::objects::{PlannedStanza, Target, spread};
use crate::rng::os_rng;

/// A fresh data key, and its wrapped form to be kept.
#[derive(Debug)]
pub struct GeneratedDataKey {
    /// 32 random bytes, to be used and forgotten.
    pub key: DataKey,
    /// What [`Client::unwrap_data_keys`] takes.
    pub wrapped: Vec<u8>,
}

impl Client {
    /// `n` fresh data keys of 32 bytes. Give one encryption context for all, or one for each.
    ///
    /// # Errors
    /// [`Error`]; none is made then.
    pub async fn generate_data_keys(
        &self,
        key: &Key,
        n: usize,
        contexts: &[EncryptionContext],
    ) -> Result<Vec<GeneratedDataKey>, Error> {
        let planned = self.plan_and_evaluate(key, &spread(contexts, n)?).await?;
        let rng = &mut os_rng();
        planned
            .into_iter()
            .map(|PlannedStanza { plan, prf, term }| {
                let (key, wrapped) = WrappedDataKey::generate(plan, &prf, term.as_ref(), rng)
                    .map_err(|e| ObjectError::Seal(e.to_string()))?;
                Ok(GeneratedDataKey { key, wrapped: wrapped.to_bytes() })
            })
            .collect()
    }

    /// Wraps data keys of 16 to 64 bytes that exist already. Give one encryption context for all, or one
    /// for each.
    ///
    /// # Errors
    /// [`Error`]; none is wrapped then.
    pub async fn wrap_data_keys(
        &self,
        key: &Key,
        data_keys: &[&[u8]],
        contexts: &[EncryptionContext],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let planned = self.plan_and_evaluate(key, &spread(contexts, data_keys.len())?).await?;
        planned
            .into_iter()
            .zip(data_keys)
            .map(|(PlannedStanza { plan, prf, term }, data_key)| {
                let wrapped = WrappedDataKey::wrap(plan, &prf, term.as_ref(), data_key)
                    .map_err(|e| ObjectError::Seal(e.to_string()))?;
                Ok(wrapped.to_bytes())
            })
            .collect()
    }

    /// Unwraps many data keys. Give one encryption context for all, or one for each.
    pub async fn unwrap_data_keys(
        &self,
        wrapped: &[&[u8]],
        contexts: &[EncryptionContext],
    ) -> Vec<Result<SecretVec, Error>> {
        let opened = self.open_data_keys(wrapped, contexts, |key, kek| key.unwrap(kek)).await;
        opened.into_iter().map(|opened| opened.map(|(_, _, secret)| secret)).collect()
    }

    /// Wraps many data keys anew: under the newest version of the key that each is wrapped under, and with the
    /// customer fragment that this client seals with, or else the same as before. Creator and time stay as they
    /// were; the data keys do not leave this machine. One that is so already comes back unchanged.
    ///
    /// This takes nothing from somebody who saw the data key or kept the old wrapping.
    pub async fn rewrap_data_keys(
        &self,
        wrapped: &[&[u8]],
        contexts: &[EncryptionContext],
    ) -> Vec<Result<Vec<u8>, Error>> {
        // The KEK is kept only where it unwraps the key.
        let verified = |key: &WrappedDataKey, kek: &Kek| key.unwrap(kek).map(|_| kek.duplicate());
        let opened = self.open_data_keys(wrapped, contexts, verified).await;
        let mut done: Vec<Result<(WrappedDataKey, Kek), Error>> = Vec::with_capacity(opened.len());
        let mut stanzas = Vec::new();
        for (position, opened) in opened.into_iter().enumerate() {
            done.push(opened.map(|(key, context, kek)| {
                stanzas.push((position, key.stanza().clone(), context));
                (key, kek)
            }));
        }
        let mut new = self.rewrap_stanzas(stanzas).await;
        let renewed = done.into_iter().enumerate().map(|(position, opened)| {
            let (key, kek) = opened?;
            let Some(planned) = new.remove(&position).transpose()? else {
                return Ok(key.to_bytes());
            };
            let PlannedStanza { plan, prf, term } = planned;
            let new = key
                .rewrap(&kek, plan, &prf, term.as_ref())
                .map_err(|e| ObjectError::Seal(e.to_string()))?;
            Ok(new.to_bytes())
        });
        renewed.collect()
    }

    /// Parses wrapped data keys, asks for their KEKs, and takes from each what `take` makes of it.
    async fn open_data_keys<T>(
        &self,
        wrapped: &[&[u8]],
        contexts: &[EncryptionContext],
        take: impl Fn(&WrappedDataKey, &Kek) -> Result<T, OpenStanzaError>,
    ) -> Vec<Result<(WrappedDataKey, Arc<EncryptionContext>, T), Error>> {
        let contexts = match spread(contexts, wrapped.len()) {
            Ok(contexts) => contexts,
            Err(error) => return wrapped.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut parsed = Vec::with_capacity(wrapped.len());
        for bytes in wrapped {
            parsed.push(self.parse_data_key(bytes).await);
        }
        let good: Vec<&WrappedDataKey> =
            parsed.iter().filter_map(|p| p.as_ref().ok().map(|(key, _)| key)).collect();
        let targets: Vec<Target<'_>> = parsed
            .iter()
            .zip(&contexts)
            .filter_map(|(parsed, context)| {
                let (key, fragment) = parsed.as_ref().ok()?;
                let (context, fragment) = (Arc::clone(context), fragment.clone());
                Some(Target { stanza: key.stanza(), context, fragment })
            })
            .collect();
        let opened = self
            .open_targets(&targets, |position, kek| {
                let none = OpenStanzaError::NoSuchStanza(position);
                take(good.get(position).ok_or(none)?, kek)
            })
            .await;
        drop(targets);
        let mut opened = opened.into_iter();
        parsed
            .into_iter()
            .zip(contexts)
            .map(|(parsed, context)| {
                let (key, _) = parsed?;
                let taken = opened.next().unwrap_or(Err(ObjectError::WrongContext.into()))?;
                Ok((key, context, taken))
            })
            .collect()
    }

    /// A wrapped data key of a key that is known, and its fragment: so that what is missing is said, and not
    /// that it does not open.
    async fn parse_data_key(
        &self,
        bytes: &[u8],
    ) -> Result<(WrappedDataKey, Option<Arc<Fragment>>), Error> {
        let key = WrappedDataKey::parse(bytes).map_err(|e| ObjectError::Format(e.to_string()))?;
        self.key_of(key.stanza()).await?;
        let fragment = self.opening_fragment(key.stanza()).await?;
        Ok((key, fragment))
    }
}
