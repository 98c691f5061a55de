//! Looking at what the nodes of a key version have, and bringing them what they lack.

use std::collections::BTreeSet;

use quorate_types::{Action, KeyId, KeyVersion, NodeId};
use quorate_wire::proto::v1;

use crate::client::{Client, NodeFailure};
use crate::error::Error;
use crate::keys::Key;
use crate::shares::ShareAccount;
use crate::transport::Method;

/// What the nodes of a key version have.
pub(super) struct Looked {
    pub(super) account: ShareAccount,
    /// Those that have signed the highest certificate.
    pub(super) holders: Vec<NodeId>,
    /// Certificates that nodes took.
    pub(super) brought: usize,
    /// Nodes that took one, and showed the one before it afterwards.
    pub(super) went_back: Vec<String>,
    /// Nodes had signed its first shares, and lacked the certificate.
    pub(super) finished: bool,
}

impl Looked {
    fn nothing_brought(account: ShareAccount, holders: Vec<NodeId>) -> Self {
        Self { account, holders, brought: 0, went_back: Vec::new(), finished: false }
    }

    /// What the nodes refuse with, where none of them tells what it has.
    pub(super) fn refused(&self) -> Option<Error> {
        let mut states = self.account.nodes.iter().filter_map(|node| node.state.as_ref());
        if states.clone().any(|state| state.is_ok()) {
            return None;
        }
        states.find_map(|state| match state {
            Err(NodeFailure::Refused(refused)) => Some(Error::Refused(refused.clone())),
            _ => None,
        })
    }
}

/// The names of those that took a certificate, and then show what they had before. A node never goes back.
fn went_back(before: &ShareAccount, after: &ShareAccount, took: &BTreeSet<NodeId>) -> Vec<String> {
    let shows = |account: &ShareAccount, node: NodeId| {
        account.nodes.iter().find(|it| it.node == node).and_then(|it| match &it.state {
            Some(Ok(state)) => Some(state.generation),
            _ => None,
        })
    };
    let same = |node: NodeId| shows(before, node).is_some_and(|it| shows(after, node) == Some(it));
    let nodes = after.nodes.iter().filter(|it| took.contains(&it.node) && same(it.node));
    nodes.map(|it| it.name.clone()).collect()
}

impl Client {
    /// What the nodes of a key version have, after those that are behind were brought the highest certificate.
    pub(super) async fn look_at_shares(
        &self,
        key: &Key,
        version: KeyVersion,
    ) -> Result<Looked, Error> {
        let account = self.share_states(key, version).await?;
        let known = self.cached_key(key.id());
        let key = known.map_or_else(|| key.clone(), |known| key.with_higher_of(&known));
        let holders = key.committee_of(version).unwrap_or_default();
        let behind: Vec<NodeId> = account
            .nodes
            .iter()
            .filter(|node| match &node.state {
                // Whoever never had anything of it, and is none of its nodes, has nothing to erase.
                Some(Ok(state)) => {
                    state.generation != account.generation
                        && (state.generation.is_some() || holders.contains(&node.node))
                }
                _ => false,
            })
            .map(|node| node.node)
            .collect();
        if behind.is_empty() || account.generation.is_none() {
            return Ok(Looked::nothing_brought(account, holders));
        }
        if account.height < 2 {
            // A DKG's certificate takes the signatures over its transcript, which its nodes keep.
            let finished = key.last_version() == Some(version)
                && self.finish_key(key.id()).await.is_ok_and(|key| key.is_some());
            let account = self.share_states(&key, version).await?;
            return Ok(Looked { finished, ..Looked::nothing_brought(account, holders) });
        }
        let found = key.verified_version(version)?;
        let (Some(root), Some(highest)) = (&found.root, &found.certificate) else {
            return Ok(Looked::nothing_brought(account, holders));
        };
        let generation = highest.statement().generation();
        let request = |node: NodeId| v1::PutCertificateRequest {
            node: node.as_bytes().to_vec(),
            certificate: Some(highest.envelope().clone()),
            transcript_signatures: Vec::new(),
            root: Some(root.envelope().clone()),
        };
        let answers = self.ask(&behind, Method::PutCertificate, request, behind.len()).await;
        let taken = |answer: &crate::client::Answered<v1::PutCertificateReply>| {
            answer.reply.generation == generation.as_bytes()
        };
        let took = answers.iter().filter(|(_, answer)| answer.as_ref().is_ok_and(taken));
        let took: BTreeSet<NodeId> = took.map(|(node, _)| *node).collect();
        let before = account;
        let account = self.share_states(&key, version).await?;
        let went_back = went_back(&before, &account, &took);
        Ok(Looked { brought: took.len(), went_back, ..Looked::nothing_brought(account, holders) })
    }

    /// Finishes the newest version of a key, and brings its certificate to all its nodes; nothing where no version is
    /// made of the key any more.
    pub(super) async fn finish_key(&self, id: KeyId) -> Result<Option<Key>, Error> {
        let key = self.fetch_key(id).await?;
        if !key.verified().heads().state_allows(Action::Create) {
            return Ok(None);
        }
        Ok(Some(self.resume_key(id.to_string(), |_| ()).await?.key))
    }
}
