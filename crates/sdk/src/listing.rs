//! All keys, page by page: however many there are, no more than a page of each node is in memory.

use std::collections::BTreeMap;

use quorate_types::{KeyId, NodeId};
use quorate_wire::proto::v1::{self, KeyView};

use crate::client::{Answered, Client, NodeFailure, Warning};
use crate::error::Error;
use crate::keys::{Key, MAX_PAGES};
use crate::transport::Method;

/// A key that does not verify by what nodes show of it: nobody can say who has its shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedKey {
    /// The key.
    pub id: KeyId,
    /// Why.
    pub why: String,
}

/// What nodes show of each key of a page, and where the next page begins.
struct Page {
    keys: BTreeMap<KeyId, Vec<(NodeId, Vec<KeyView>)>>,
    next: Option<KeyId>,
}

impl Client {
    /// All keys that this client may see, in the order of their aliases.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer. A key that does not verify is left out, with a warning.
    pub async fn list_keys(&self) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        self.each_key(|key| keys.push(key)).await?;
        keys.sort_by(|a, b| (a.alias(), a.id()).cmp(&(b.alias(), b.id())));
        Ok(keys)
    }

    /// The same, and beside them those that do not verify, for whoever must not overlook a key.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn all_keys(&self) -> Result<(Vec<Key>, Vec<UnverifiedKey>), Error> {
        let (mut keys, mut unverified, mut after) = (Vec::new(), Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let Page { keys: shown, next } = self.page_of_keys(after).await?;
            for (id, views) in shown {
                match self.verify_views(id, &views).await {
                    Ok(key) => keys.push(key),
                    Err(error) => unverified.push(UnverifiedKey { id, why: error.to_string() }),
                }
            }
            match next {
                None => break,
                Some(next) => after = Some(next),
            }
        }
        keys.sort_by(|a, b| (a.alias(), a.id()).cmp(&(b.alias(), b.id())));
        Ok((keys, unverified))
    }

    /// Shows all keys that this client may see to `with`, in the order of their ids, verified.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn each_key(&self, mut with: impl FnMut(Key)) -> Result<(), Error> {
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let (keys, next) = self.keys_after(after).await?;
            keys.into_iter().for_each(&mut with);
            match next {
                None => break,
                Some(next) => after = Some(next),
            }
        }
        Ok(())
    }

    /// A page of them: those after this one, verified, and where the next page begins.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub(crate) async fn keys_after(
        &self,
        after: Option<KeyId>,
    ) -> Result<(Vec<Key>, Option<KeyId>), Error> {
        let Page { keys: shown, next } = self.page_of_keys(after).await?;
        let mut keys = Vec::with_capacity(shown.len());
        for (id, views) in shown {
            match self.verify_views(id, &views).await {
                Ok(key) => keys.push(key),
                // Whose doing it is is said where that is known.
                Err(error) => self.warn(Warning::KeyUnverified { key: id, why: error.to_string() }),
            }
        }
        Ok((keys, next))
    }

    /// The first keys that this client may see, in the order of their ids: as many as are asked for, where there are.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn first_keys(&self, most: usize) -> Result<Vec<Key>, Error> {
        let Page { keys: shown, .. } = self.page_of_keys(None).await?;
        let mut keys = Vec::new();
        for (id, views) in shown.into_iter().take(most) {
            keys.extend(self.verify_views(id, &views).await.ok());
        }
        Ok(keys)
    }

    /// One page: the keys after this one, up to where every node that answers has shown all that it has.
    async fn page_of_keys(&self, after: Option<KeyId>) -> Result<Page, Error> {
        let nodes: Vec<NodeId> = self.roster().nodes.iter().map(|n| n.id).collect();
        let from = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let request = |node: NodeId| v1::ListKeysRequest {
            node: node.as_bytes().to_vec(),
            after: from.clone(),
        };
        let answers = self.ask(&nodes, Method::ListKeys, request, self.most()).await;
        let mut failed: BTreeMap<NodeId, NodeFailure> = BTreeMap::new();
        let mut shown: Vec<(NodeId, Vec<KeyView>)> = Vec::new();
        let mut next: Option<KeyId> = None;
        for (node, answer) in answers {
            match answer {
                Ok(Answered { reply, .. }) => {
                    let reply: v1::ListKeysReply = reply;
                    // A node that goes backwards would keep this going for ever: what it shows is its last page.
                    let more = KeyId::from_slice(&reply.next).ok().filter(|at| Some(*at) > after);
                    next = match (next, more) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                    shown.push((node, reply.keys));
                }
                Err(failure) => {
                    failed.insert(node, failure);
                }
            }
        }
        if shown.len() < self.most() {
            return Err(self.most_error("list the keys", shown.len(), failed));
        }
        let mut keys: BTreeMap<KeyId, Vec<(NodeId, Vec<KeyView>)>> = BTreeMap::new();
        for (node, views) in shown {
            for view in views {
                let Ok(id) = KeyId::from_slice(&view.id) else { continue };
                // What one node has shown beyond where another one's page ends comes with the next page.
                if Some(id) > after && next.is_none_or(|next| id <= next) {
                    keys.entry(id).or_default().push((node, vec![view]));
                }
            }
        }
        Ok(Page { keys, next })
    }
}
