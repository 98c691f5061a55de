//! All keys: however many there are, no more than a page of each node is in memory. Each node shows its list in pages of
//! its own, and the lists are merged: what one node says of where its next page begins is no matter of the others.

mod merge;

use std::collections::BTreeMap;

use quorate_types::{KeyId, NodeId};
use quorate_wire::proto::v1;

use self::merge::Merge;
use crate::client::{Answered, Client, NodeFailure, Warning};
use crate::error::{Error, WrongAnswer};
use crate::keys::Key;
use crate::transport::Method;

/// A key that does not verify by what nodes show of it: nobody can say who has its shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedKey {
    /// The key.
    pub id: KeyId,
    /// Why.
    pub why: String,
}

/// Reading the list of all keys.
pub(crate) struct Listing {
    client: Client,
    merge: Merge,
    /// Nodes that gave no answer when they were asked last.
    failed: BTreeMap<NodeId, NodeFailure>,
    /// Nodes that are left out, and why.
    wrong: Vec<WrongAnswer>,
}

impl Client {
    /// All keys that this client may see, in the order of their aliases.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show their lists to the end. A key that does not verify is left out, with a
    /// warning; so is a node whose list leads nowhere.
    pub async fn list_keys(&self) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        self.each_key(|key| keys.push(key)).await?;
        keys.sort_by(|a, b| (a.alias(), a.id()).cmp(&(b.alias(), b.id())));
        Ok(keys)
    }

    /// The same, and beside them those that do not verify, for whoever must not overlook a key.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn all_keys(&self) -> Result<(Vec<Key>, Vec<UnverifiedKey>), Error> {
        let (mut keys, mut unverified) = (Vec::new(), Vec::new());
        let mut listing = self.listing();
        while let Some(some) = listing.next(usize::MAX).await? {
            for (id, key) in some {
                match key {
                    Ok(key) => keys.push(key),
                    Err(error) => unverified.push(UnverifiedKey { id, why: error.to_string() }),
                }
            }
        }
        keys.sort_by(|a, b| (a.alias(), a.id()).cmp(&(b.alias(), b.id())));
        Ok((keys, unverified))
    }

    /// Shows all keys that this client may see to `with`, in the order of their ids, verified.
    ///
    /// # Errors
    /// As [`Self::list_keys`]; what was shown until then is not all.
    pub async fn each_key(&self, mut with: impl FnMut(Key)) -> Result<(), Error> {
        let mut listing = self.listing();
        while let Some(keys) = listing.verified().await? {
            keys.into_iter().for_each(&mut with);
        }
        Ok(())
    }

    /// The first keys that this client may see, in the order of their ids: as many as are asked for, where there are.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn first_keys(&self, most: usize) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        let mut listing = self.listing();
        while keys.len() < most
            && let Some(some) = listing.next(most - keys.len()).await?
        {
            keys.extend(some.into_iter().filter_map(|(_, key)| key.ok()));
        }
        Ok(keys)
    }

    /// The list of all keys that this client may see, to be read bit by bit.
    pub(crate) fn listing(&self) -> Listing {
        let nodes = self.roster().nodes.iter().map(|node| node.id);
        Listing {
            merge: Merge::new(nodes, self.most()),
            client: self.clone(),
            failed: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }
}

impl Listing {
    /// The next keys, those that verify; nothing where there are no more.
    ///
    /// # Errors
    /// As [`Client::list_keys`].
    pub(crate) async fn verified(&mut self) -> Result<Option<Vec<Key>>, Error> {
        let Some(some) = self.next(usize::MAX).await? else { return Ok(None) };
        let mut keys = Vec::with_capacity(some.len());
        for (id, key) in some {
            match key {
                Ok(key) => keys.push(key),
                // Whose doing it is is said where that is known.
                Err(error) => {
                    self.client.warn(Warning::KeyUnverified { key: id, why: error.to_string() });
                }
            }
        }
        Ok(Some(keys))
    }

    /// The next keys, the first of them verified, as many as are asked for; nothing where there are no more.
    ///
    /// # Errors
    /// As [`Client::list_keys`].
    async fn next(
        &mut self,
        first: usize,
    ) -> Result<Option<Vec<(KeyId, Result<Key, Error>)>>, Error> {
        loop {
            if self.merge.is_over() {
                return Ok(None);
            }
            for node in self.merge.endless() {
                self.leave_out(node, "a list of keys that goes on and leads to none");
            }
            let left_out = self.ask().await;
            let ahead = self.merge.ahead();
            let Some(shown) = self.merge.step() else {
                // For whoever is left out another one is waited for.
                if left_out {
                    continue;
                }
                return Err(self.too_few(ahead));
            };
            if shown.is_empty() {
                continue;
            }
            let mut keys = Vec::with_capacity(shown.len().min(first));
            for (id, views) in shown.into_iter().take(first) {
                let key = self.client.verify_views(id, &views).await;
                if key.is_ok() {
                    self.merge.verified(views.iter().map(|(node, _)| *node));
                }
                keys.push((id, key));
            }
            return Ok(Some(keys));
        }
    }

    /// Asks for pages where they are needed. Where most nodes have shown what is next, the others get no more time than a
    /// slow node is given; they are asked again for what comes after that. Says whether a node was left out.
    async fn ask(&mut self) -> bool {
        let before = self.wrong.len();
        let wanting = self.merge.wanting();
        let after = self.merge.after().map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let request = |node: NodeId| v1::ListKeysRequest {
            node: node.as_bytes().to_vec(),
            after: after.clone(),
        };
        let enough = self.client.most().saturating_sub(self.merge.ahead());
        let answers = self.client.ask(&wanting, Method::ListKeys, request, enough).await;
        for (node, answer) in answers {
            match answer {
                Ok(Answered { reply, .. }) => {
                    self.failed.remove(&node);
                    if let Err(what) = self.merge.take(node, reply) {
                        self.leave_out(node, what);
                    }
                }
                Err(failure) => {
                    self.failed.insert(node, failure);
                }
            }
        }
        self.wrong.len() > before
    }

    fn leave_out(&mut self, node: NodeId, what: &str) {
        let wrong = WrongAnswer { name: self.client.node_name(node), what: what.to_owned() };
        self.client.warn(Warning::WrongAnswer(wrong.clone()));
        self.wrong.push(wrong);
    }

    /// Some keys would be a wrong answer: without most nodes there is none.
    fn too_few(&mut self, ahead: usize) -> Error {
        let failed = core::mem::take(&mut self.failed);
        match self.client.most_error("list the keys", ahead, failed) {
            Error::NotQuorate(mut missing) => {
                missing.wrong = core::mem::take(&mut self.wrong);
                Error::NotQuorate(missing)
            }
            error => error,
        }
    }
}
