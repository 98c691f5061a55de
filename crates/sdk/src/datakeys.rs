//! Data keys: generated, wrapped and unwrapped, many in one round trip.

use quorate_object::WrappedDataKey;
use quorate_secret::{DataKey, SecretVec};
use quorate_wire::EncryptionContext;

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::keys::Key;
use crate::objects::{Target, spread};
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
            .map(|(plan, prf)| {
                let (key, wrapped) = WrappedDataKey::generate(plan, &prf, None, rng)
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
            .map(|((plan, prf), data_key)| {
                let wrapped = WrappedDataKey::wrap(plan, &prf, None, data_key)
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
        let contexts = match spread(contexts, wrapped.len()) {
            Ok(contexts) => contexts,
            Err(error) => return wrapped.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut parsed: Vec<Result<WrappedDataKey, Error>> = Vec::with_capacity(wrapped.len());
        for bytes in wrapped {
            let key = WrappedDataKey::parse(bytes)
                .map_err(|e| Error::from(ObjectError::Format(e.to_string())));
            // Finding the key first says "unknown" where that is the reason, not "does not open".
            parsed.push(match key {
                Ok(key) => self.key_of(key.stanza()).await.map(|_| key),
                Err(error) => Err(error),
            });
        }
        let good: Vec<&WrappedDataKey> = parsed.iter().filter_map(|p| p.as_ref().ok()).collect();
        let targets: Vec<Target<'_>> = parsed
            .iter()
            .zip(contexts)
            .filter_map(|(key, context)| {
                Some(Target { stanza: key.as_ref().ok()?.stanza(), context })
            })
            .collect();
        let opened = self
            .open_targets(&targets, |position, kek| {
                let none = quorate_object::OpenStanzaError::NoSuchStanza(position);
                good.get(position).ok_or(none)?.unwrap(kek)
            })
            .await;
        let mut opened = opened.into_iter();
        parsed
            .iter()
            .map(|key| match key {
                Ok(_) => opened.next().unwrap_or(Err(ObjectError::WrongContext.into())),
                Err(error) => Err(error.clone()),
            })
            .collect()
    }
}
