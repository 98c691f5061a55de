//! Looking at a cluster without changing it: what nodes lack, which rosters contend, whether each node
//! still has its shares.

use std::collections::BTreeMap;

use quorate_documents::{Authority, DocumentSet, Kind};
use quorate_types::{Action, Digest, DocumentId, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::proto::v1;
use tokio::task::JoinSet;

use crate::client::{Client, NodeFailure, NodeStatus};
use crate::documents::{NodeSync, Synced};
use crate::error::{Error, NodeRefusal};
use crate::keys::Key;
use crate::rng::{now, os_rng};
use crate::transport::{CallError, Method};

/// The rosters that nodes show, by this client's trusted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterState {
    /// This one follows from the trusted one and is the newest.
    Settled {
        /// Its version.
        version: u64,
        /// When it ends.
        expires_at: UnixSeconds,
        /// It is the one that this client trusts already.
        trusted: bool,
    },
    /// Several valid successors of one roster: nodes refuse most things until recovery keys sign a merge.
    Contested {
        /// Their versions.
        versions: Vec<u64>,
    },
    /// Nothing that nodes show follows from the trusted one.
    Unknown,
}

impl Client {
    /// What each node lacks of the documents that the nodes show together. Hands over nothing.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show what they have.
    pub async fn missing_documents(&self) -> Result<Synced, Error> {
        let lacking = self.lacking().await?;
        let nodes = self.roster().nodes.iter().map(|entry| {
            let lacked = lacking.nodes.get(&entry.id).map(Vec::len);
            NodeSync {
                node: entry.id,
                name: entry.name.clone(),
                lacked,
                accepted: 0,
                result: lacking.failed.get(&entry.id).cloned().map_or(Ok(()), Err),
            }
        });
        Ok(Synced { documents: lacking.documents, nodes: nodes.collect() })
    }

    /// The newest roster, where these nodes answer under this client's own without being asked for it.
    ///
    /// # Errors
    /// As [`Self::roster_state`].
    pub(crate) async fn roster_state_by(&self, nodes: &[NodeStatus]) -> Result<RosterState, Error> {
        let same = |node: &&NodeStatus| node.status.as_ref().is_ok_and(|s| s.same_roster);
        let other = nodes.iter().any(|n| n.status.as_ref().is_ok_and(|s| !s.same_roster));
        if other || nodes.iter().filter(same).count() < self.most() {
            return self.roster_state().await;
        }
        Ok(RosterState::Settled {
            version: self.inner.membership.roster.version(),
            expires_at: self.roster().expires_at,
            trusted: true,
        })
    }

    /// The newest roster, by what most nodes show. Keeps nothing in the profile.
    ///
    /// # Errors
    /// [`crate::NotQuorate`].
    pub async fn roster_state(&self) -> Result<RosterState, Error> {
        let mut set: DocumentSet = self.known_rosters().await?;
        let ids = vec![DocumentId::from(self.cluster())];
        let mut rosters = self.documents(ids, vec![Kind::Roster]).await?;
        rosters.retain(|document| document.kind() == Kind::Roster);
        set.insert_all(rosters);
        Ok(match set.roster() {
            Authority::Settled(newest) => {
                let expires_at = match newest.body() {
                    quorate_documents::Body::Roster(roster) => roster.expires_at,
                    _ => UnixSeconds(0),
                };
                RosterState::Settled {
                    version: newest.version(),
                    expires_at,
                    trusted: newest.digest() == self.roster_digest(),
                }
            }
            Authority::Contested(heads) => RosterState::Contested {
                versions: heads.iter().map(|head| head.version()).collect(),
            },
            Authority::Unknown => RosterState::Unknown,
        })
    }

    /// Asks each member of a key version's committee for one evaluation, which takes the permission to
    /// encrypt and leaves an audit record: whether it still has its share, and may use it. What comes back
    /// is thrown away, but for the digest of the policies that the node decided by; none where the key's tenant
    /// has none there.
    ///
    /// `clocks` are the seconds that each node is ahead of this machine; those that are not named count as
    /// right. A node whose clock is off is asked by its own clock, so that this finds shares and not clocks.
    ///
    /// # Errors
    /// [`crate::KeyError::NotReady`] and [`crate::KeyError::VersionUnknown`].
    pub async fn probe_shares(
        &self,
        key: &Key,
        version: KeyVersion,
        clocks: &BTreeMap<NodeId, i64>,
    ) -> Result<BTreeMap<NodeId, Result<Option<Digest>, NodeFailure>>, Error> {
        let committee = key.committee(version)?;
        let generation = committee.generation();
        let mut asking = JoinSet::new();
        for member in committee.nodes().iter().copied() {
            let mut nonce = [0; 24];
            rand_core::Rng::fill_bytes(&mut os_rng(), &mut nonce);
            let offset = clocks.get(&member).copied().unwrap_or(0);
            let request = v1::EvaluateRequest {
                node: member.as_bytes().to_vec(),
                key: key.id().as_bytes().to_vec(),
                key_version: version.get(),
                generation: generation.as_bytes().to_vec(),
                action: Action::Encrypt.number(),
                items: vec![v1::Item {
                    nonce: nonce.to_vec(),
                    created_at: now().0.saturating_add_signed(offset),
                    ..v1::Item::default()
                }],
                ..v1::EvaluateRequest::default()
            };
            let transport = self.inner.transport.clone();
            asking.spawn(async move {
                let reply = transport
                    .call::<_, v1::EvaluateReply>(member, Method::Evaluate, &request)
                    .await;
                (member, reply)
            });
        }
        let mut found = BTreeMap::new();
        while let Some(joined) = asking.join_next().await {
            // A task that died answers nothing.
            let Ok((node, reply)) = joined else { continue };
            let result = match reply {
                Ok(reply) => Ok(Digest::from_slice(&reply.policies).ok()),
                Err(CallError::Unreachable(unreachable)) => {
                    Err(NodeFailure::Unreachable(unreachable))
                }
                Err(CallError::Refused(refusal)) => {
                    Err(NodeFailure::Refused(Box::new(NodeRefusal {
                        name: self.node_name(node),
                        refusal: *refusal,
                    })))
                }
            };
            found.insert(node, result);
        }
        Ok(found)
    }
}
