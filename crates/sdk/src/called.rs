//! What an alias means: the keys that nodes show by it, and the one that a profile knows by it.

use std::collections::BTreeSet;

use quorate_documents::{DocumentSet, Heads, Key as KeyBody, SignedDocument};
use quorate_types::KeyId;
use quorate_types::limits::MAX_KEYS_PER_ALIAS;
use quorate_wire::proto::v1::{self, Envelope};

use crate::client::{Client, Warning};
use crate::error::{Error, KeyError, ProfileError, WrongAnswer};
use crate::keys::Key;

/// The keys of one alias.
#[derive(Default)]
pub(crate) struct Called {
    /// Those that verify.
    keys: Vec<Key>,
    /// Those that do not, though somebody who may has signed that they are called so.
    unverified: Vec<(KeyId, KeyError)>,
    /// There are more than nodes show.
    more: bool,
    /// Why something that nodes show is none.
    left_out: Option<KeyError>,
}

impl Called {
    fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(Key::id).chain(self.unverified.iter().map(|(id, _)| *id))
    }

    fn ambiguous(&self, alias: &str) -> KeyError {
        KeyError::Ambiguous {
            alias: alias.to_owned(),
            ids: self.keys.iter().map(Key::id).collect(),
            unverified: self.unverified.iter().map(|(id, _)| *id).collect(),
            more: self.more,
        }
    }

    /// Whether the alias may be given to a key: no other one has it.
    ///
    /// # Errors
    /// [`KeyError::Exists`], [`KeyError::Ambiguous`].
    pub(crate) fn free(&self, alias: &str, to: Option<KeyId>) -> Result<(), KeyError> {
        let mut others = self.ids().filter(|id| Some(*id) != to);
        match others.next() {
            Some(id) => Err(KeyError::Exists { alias: alias.to_owned(), id }),
            None if self.more => Err(self.ambiguous(alias)),
            None => Ok(()),
        }
    }

    /// The only key of the alias.
    ///
    /// # Security
    /// One that does not verify may be the one that is meant, and the one that does a thief's: whoever may sign for a key can
    /// also spoil what is shown of another.
    fn only(self, alias: &str) -> Result<Key, KeyError> {
        match (self.keys.as_slice(), self.unverified.as_slice()) {
            ([key], []) if !self.more => Ok(key.clone()),
            ([], []) if !self.more => {
                Err(self.left_out.unwrap_or_else(|| KeyError::Unknown(alias.to_owned())))
            }
            ([], [(_, why)]) if !self.more => Err(why.clone()),
            _ => Err(self.ambiguous(alias)),
        }
    }
}

fn has(heads: &Heads<KeyBody>, alias: &str) -> bool {
    heads.iter().any(|head| head.body().alias == alias)
}

/// Whether what nodes show of a key makes it count under this alias, whatever else they show of it: somebody who may has
/// signed it.
fn counts(mut set: DocumentSet, id: KeyId, shown: Vec<Envelope>, alias: &str) -> bool {
    let documents = shown.into_iter().filter_map(|envelope| SignedDocument::parse(envelope).ok());
    set.insert_all(documents);
    set.heads::<KeyBody>(&id.into()).is_some_and(|heads| has(&heads, alias))
}

impl Client {
    /// The key that an alias means to this profile, or the only one that has it.
    pub(crate) async fn key_called(&self, alias: &str) -> Result<Key, Error> {
        let pinned = match self.alias_pins() {
            Some(pins) => pins.read()?.get(alias).copied(),
            None => None,
        };
        let called = self.called(alias).await?;
        if let Some(pinned) = pinned {
            return self.key_pinned(alias, pinned, called).await;
        }
        let key = called.only(alias)?;
        match self.pin(alias, key.id()) {
            // A service's profile may well be read-only.
            Err(Error::Profile(ProfileError::Io { .. })) => {
                self.warn(Warning::AliasNotKept { alias: alias.to_owned() });
            }
            pinned => pinned?,
        }
        Ok(key)
    }

    /// The key that a profile knows by an alias, whatever else has it.
    async fn key_pinned(&self, alias: &str, pinned: KeyId, called: Called) -> Result<Key, Error> {
        let shared = called.more || called.ids().any(|id| id != pinned);
        let warning = Warning::AliasShared { alias: alias.to_owned(), used: pinned };
        if let Some(key) = called.keys.iter().find(|key| key.id() == pinned) {
            if shared {
                self.warn(warning);
            }
            return Ok(key.clone());
        }
        if !shared {
            return Ok(called.only(alias)?);
        }
        // The alias went to another key; what this profile means by it is still there, or not.
        match self.key_by_id(pinned).await {
            Ok(key) => {
                self.warn(warning);
                Ok(key)
            }
            Err(error) => {
                if let Some((_, why)) = called.unverified.iter().find(|(id, _)| *id == pinned) {
                    return Err(why.clone().into());
                }
                let Some(found) = called.ids().next() else { return Err(error) };
                let alias = alias.to_owned();
                Err(KeyError::AliasMoved { alias, pinned, found }.into())
            }
        }
    }

    /// The keys of this alias that the caller sees: every one of which most nodes, or one of them, show that somebody who
    /// may has signed it. What a node shows beyond that is its own, and left out.
    pub(crate) async fn called(&self, alias: &str) -> Result<Called, Error> {
        let which = v1::get_key_request::Which::Alias(alias.to_owned());
        let mut views = match self.get_key(which, alias).await {
            Err(Error::Key(KeyError::Unknown(_))) => return Ok(Called::default()),
            Err(Error::Key(KeyError::Ambiguous { more, .. })) => {
                return Ok(Called { more, ..Called::default() });
            }
            views => views?,
        };
        let wrong = |node, what: String| {
            let name = self.node_name(node);
            self.warn(Warning::WrongAnswer(WrongAnswer { name, what }));
        };
        views.retain(|(node, shown)| {
            let few = shown.len() <= MAX_KEYS_PER_ALIAS;
            if !few {
                wrong(*node, format!("it shows {} keys of one alias", shown.len()));
            }
            few
        });
        let shown = views.iter().flat_map(|(_, views)| views);
        let ids: BTreeSet<KeyId> =
            shown.filter_map(|view| KeyId::from_slice(&view.id).ok()).collect();
        let known = self.known_rosters().await?;
        let mut called = Called::default();
        for id in ids {
            let error = match self.verify_views(id, &views).await {
                Ok(key) => {
                    if has(key.verified().heads(), alias) {
                        called.keys.push(key);
                    }
                    continue;
                }
                Err(Error::Key(error)) => error,
                Err(error) => return Err(error),
            };
            let of_key = |view: &&v1::KeyView| view.id == id.as_bytes();
            let shown = views.iter().flat_map(|(_, views)| views).filter(of_key);
            let shown = shown.flat_map(|view| view.authority.iter().chain(&view.documents));
            let (shown, set, of) = (shown.cloned().collect(), known.clone(), alias.to_owned());
            let counts = tokio::task::spawn_blocking(move || counts(set, id, shown, &of)).await;
            // What nobody could look at may be there.
            if counts.unwrap_or(true) {
                called.unverified.push((id, error));
                continue;
            }
            for (node, _) in views.iter().filter(|(_, views)| views.iter().any(|v| of_key(&v))) {
                wrong(*node, error.to_string());
            }
            called.left_out = Some(error);
        }
        Ok(called)
    }

    /// Remembers what an alias means.
    fn pin(&self, alias: &str, found: KeyId) -> Result<(), Error> {
        let Some(pins) = self.alias_pins() else { return Ok(()) };
        let mut all = pins.read()?;
        all.insert(alias.to_owned(), found);
        pins.write(&all)
    }
}
