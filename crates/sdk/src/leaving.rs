//! Nodes that are to leave the cluster: what of the keys names them still, and which of their old shares they are known
//! to have erased. Both are looked at right before a roster without them is signed: from then on nobody can ask them.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_documents::{BodyOf, KeyOrder, Statement, VerifiedVersion};
use quorate_types::{KeyId, KeyVersion, NodeId};
use quorate_wire::proto::v1;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, NodeFailure};
use crate::error::{Error, NodeRefusal};
use crate::keys::Key;
use crate::listing::UnverifiedKey;
use crate::transport::{CallError, Method, Unreachable, UnreachableReason};

/// Certificates that one node is brought at once.
const AT_ONCE: usize = 16;

/// How long to wait before a node is asked again that is still erasing.
const ERASING: Duration = Duration::from_millis(500);

/// How a key version names a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamedAs {
    /// It holds a share that is in use.
    Holder,
    /// An order in force, or one of several that contend, names it.
    Member,
    /// The version is not made yet, and the node takes part in its making.
    Maker,
    /// It holds a share of a key that waits for its destruction, which can still be taken back.
    HolderOfDoomed,
}

/// A key version that names nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBy {
    /// The key.
    pub key: KeyId,
    /// What people call it.
    pub alias: String,
    /// The version.
    pub version: KeyVersion,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// How.
    pub how: NamedAs,
}

/// A node that had shares of keys which are in use elsewhere by now.
#[derive(Debug, Clone, PartialEq)]
pub struct OldShares {
    /// The node.
    pub node: NodeId,
    /// Of so many key versions it has confirmed that its old shares are erased.
    pub confirmed: usize,
    /// Of these it has not, and why.
    pub unconfirmed: Vec<((KeyId, KeyVersion), Unconfirmed)>,
}

/// Why a node has not confirmed that an old share is erased.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// It gave no answer, or refused.
    Failure(NodeFailure),
    /// It was not asked, since it had given no answer before.
    NotAsked,
    /// It does not use the newer generation: it has erased nothing.
    Behind,
    /// What it has erased may still stand in a file of its database, because something reads that.
    Erasing,
    /// A share that it has erased is in a backup.
    Copied,
    /// It did not have its old share any more, so that nobody erased it.
    Lost,
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failure(failure) => return failure.fmt(f),
            Self::NotAsked => "it was not asked, since it gave no answer",
            Self::Behind => "it does not use the newer shares yet",
            Self::Erasing => {
                "what it has erased may still stand in a file of its database that something reads, such as a backup that \
                 is being made: say this again when that is over"
            }
            Self::Copied => "an old share is in a backup of it: destroy that, or its root key",
            Self::Lost => "it had lost its old share, which nobody erased: whoever has its old disk may have it",
        })
    }
}

/// What there is to know of nodes before they leave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaving {
    /// Key versions that name them.
    pub named: Vec<NamedBy>,
    /// Keys that do not verify, of which nobody can say whom they name.
    pub unverified: Vec<UnverifiedKey>,
    /// What became of the shares that they had, for each node that had any.
    pub old: Vec<OldShares>,
}

/// One certificate that a node is to be brought.
struct Bringing {
    key: KeyId,
    version: KeyVersion,
    request: v1::PutCertificateRequest,
}

impl Client {
    /// What of all keys that this client may see, as they are now, names these nodes. Those that had shares of key
    /// versions and have none of those in use are brought the certificates by which they erase them.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn leaving(&self, nodes: &[NodeId]) -> Result<Leaving, Error> {
        let (keys, unverified) = self.all_keys().await?;
        let mut leaving = self.leaving_keys(nodes, &keys).await;
        leaving.unverified = unverified;
        Ok(leaving)
    }

    /// The same of these keys alone.
    pub async fn leaving_keys(&self, nodes: &[NodeId], keys: &[Key]) -> Leaving {
        let mut leaving = Leaving::default();
        let mut bring: BTreeMap<NodeId, Vec<Bringing>> = BTreeMap::new();
        for key in keys {
            for version in key.verified().versions() {
                if let Some((how, named)) = named(key, version, nodes) {
                    leaving.named.push(NamedBy {
                        key: key.id(),
                        alias: key.alias().to_owned(),
                        version: version.number,
                        nodes: named,
                        how,
                    });
                }
                for node in had_shares(version, nodes) {
                    if let Some(request) = certificate_for(node, version) {
                        let (key, version) = (key.id(), version.number);
                        bring.entry(node).or_default().push(Bringing { key, version, request });
                    }
                }
            }
        }
        for (node, certificates) in bring {
            leaving.old.push(self.have_erased(node, certificates).await);
        }
        leaving
    }

    /// Brings one node certificates of reshares that it has no part in, and counts where it uses them and has nothing of its
    /// old share any more, not in a file and not in a backup.
    async fn have_erased(&self, node: NodeId, certificates: Vec<Bringing>) -> OldShares {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        // What it erases is mostly gone in a moment.
        let until = Instant::now() + self.inner.transport.timeouts().request;
        let mut asking = JoinSet::new();
        for Bringing { key, version, request } in certificates {
            let (client, places) = (self.clone(), Arc::clone(&places));
            asking.spawn(async move {
                let place = (key, version);
                // Closed where it gave no answer: then it is not asked for each of thousands.
                let Ok(_place) = places.acquire().await else {
                    return (place, Err(Unconfirmed::NotAsked));
                };
                let mut confirmed = client.confirms(node, place, &request).await;
                while confirmed == Err(Unconfirmed::Erasing) && Instant::now() < until {
                    tokio::time::sleep(ERASING).await;
                    confirmed = client.confirms(node, place, &request).await;
                }
                if matches!(confirmed, Err(Unconfirmed::Failure(NodeFailure::Unreachable(_)))) {
                    places.close();
                }
                (place, confirmed)
            });
        }
        let mut old = OldShares { node, confirmed: 0, unconfirmed: Vec::new() };
        while let Some(joined) = asking.join_next().await {
            match joined {
                Ok((_, Ok(()))) => old.confirmed += 1,
                Ok((place, Err(why))) => old.unconfirmed.push((place, why)),
                Err(_) => {}
            }
        }
        old.unconfirmed.sort_unstable_by_key(|(place, _)| *place);
        old
    }

    /// Brings a node a certificate. Where it uses that, or a higher one, and nothing is left of what it had before, it has
    /// confirmed it.
    async fn confirms(
        &self,
        node: NodeId,
        (key, version): (KeyId, KeyVersion),
        request: &v1::PutCertificateRequest,
    ) -> Result<(), Unconfirmed> {
        let transport = &self.inner.transport;
        // It verifies one certificate: no work of minutes, as rounds of many may be.
        let limit = transport.timeouts().request;
        let call = transport.call(node, Method::PutCertificate, request);
        let late = |_| {
            let (name, reason) = (self.node_name(node), UnreachableReason::RequestTimedOut);
            Err(CallError::Unreachable(Unreachable { node, name, reason }))
        };
        let reply: Result<v1::PutCertificateReply, CallError> =
            tokio::time::timeout(limit, call).await.unwrap_or_else(late);
        let reply = reply.map_err(|error| {
            Unconfirmed::Failure(match error {
                CallError::Unreachable(unreachable) => NodeFailure::Unreachable(unreachable),
                CallError::Refused(refusal) => {
                    let name = self.node_name(node);
                    NodeFailure::Refused(Box::new(NodeRefusal { name, refusal: *refusal }))
                }
            })
        })?;
        let v1::PutCertificateReply { generation, ancestor_copied, erasing, lost_order } = reply;
        let healed = match (erasing, ancestor_copied, lost_order > 0) {
            (true, ..) => Err(Unconfirmed::Erasing),
            (_, true, _) => Err(Unconfirmed::Copied),
            (.., true) => Err(Unconfirmed::Lost),
            _ => Ok(()),
        };
        let is = |key: &Key| {
            let version = key.verified_version(version).ok();
            let highest = version.and_then(|version| version.certificate.as_ref());
            highest.is_some_and(|it| generation == it.statement().generation().as_bytes())
        };
        let statement = request.certificate.as_ref().map(|it| Statement::from_payload(&it.payload));
        if let Some(Ok(statement)) = statement
            && generation == statement.generation().as_bytes()
        {
            // Soon nobody can ask it again.
            let left = healed.is_ok() && statement.participant(&node).is_none();
            let after = statement.order_number().saturating_add(1);
            self.inner.erased.note((key, version), Some((node, after)).filter(|_| left));
            return healed;
        }
        // The shares were dealt once more meanwhile, or it lies.
        let uses = self.fetch_key(key).await.is_ok_and(|key| is(&key));
        if uses { healed } else { Err(Unconfirmed::Behind) }
    }
}

/// Which of these nodes a key version names, and as what.
fn named(key: &Key, version: &VerifiedVersion, nodes: &[NodeId]) -> Option<(NamedAs, Vec<NodeId>)> {
    if key.is_destroyed(version.number) {
        return None;
    }
    let of = |all: BTreeSet<NodeId>| -> Vec<NodeId> {
        nodes.iter().filter(|node| all.contains(node)).copied().collect()
    };
    let holders = version.certificate.as_ref().map(|certificate| {
        let participants = certificate.statement().participants().iter();
        of(participants.map(|member| member.node).collect())
    });
    let doomed = key.is_to_be_destroyed();
    match &holders {
        Some(holders) if !holders.is_empty() => {
            let how = if doomed { NamedAs::HolderOfDoomed } else { NamedAs::Holder };
            return Some((how, holders.clone()));
        }
        // Of one that is not made nobody has a share; and whose key is destroyed, is never made. Nor is one that was
        // given up for a later one, and what is sealed is sealed under that.
        None if doomed || key.newest_version() > Some(version.number) => return None,
        // Whoever may `create` could keep nodes in the roster else.
        None if version.never_made().is_some() => return None,
        _ => {}
    }
    let heads = key.order_heads(version.number).iter();
    let heads = heads.filter_map(|head| KeyOrder::of(head.body()));
    let heads = heads.filter(|order| !key.names_stranger(version.number, order));
    let mut orders: Vec<_> = heads.map(|order| &order.order).collect();
    if orders.is_empty() {
        orders.push(&version.order);
    }
    let members = orders.into_iter().flat_map(|order| order.members()).map(|member| member.node);
    let members = of(members.collect());
    let how = if holders.is_some() { NamedAs::Member } else { NamedAs::Maker };
    (!members.is_empty()).then_some((how, members))
}

/// Those of these nodes that had shares of a key version once and have none of those in use.
fn had_shares(version: &VerifiedVersion, nodes: &[NodeId]) -> Vec<NodeId> {
    let Some(certificate) = &version.certificate else { return Vec::new() };
    let statement = certificate.statement();
    // Of the DKG nobody has a share but those who hold it.
    let dealt_anew = statement.height() > 1;
    let had = |node: &&NodeId| {
        dealt_anew
            && statement.participant(node).is_none()
            && version.orders.all().any(|order| order.member(node).is_some())
    };
    nodes.iter().filter(had).copied().collect()
}

fn certificate_for(node: NodeId, version: &VerifiedVersion) -> Option<v1::PutCertificateRequest> {
    Some(v1::PutCertificateRequest {
        node: node.as_bytes().to_vec(),
        certificate: Some(version.certificate.as_ref()?.envelope().clone()),
        transcript_signatures: Vec::new(),
        root: Some(version.root.as_ref()?.envelope().clone()),
    })
}
