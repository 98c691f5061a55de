//! Backups of a set, restored by the code as it stands.

use quorate_documents::{Body, Draft, Roster, SignedDocument, Statement};
use quorate_node::{Outcome, RESTORED, Read, Reply, Request, RowKey, Table};
use quorate_schemes::dkg::merkle;
use quorate_secret::SecretVec;
use quorate_server::{KeySlots, RestoreError, RestoreOptions, Restored, RootKeySource, restore};
use quorate_storage::{Answer, Store};
use quorate_types::{Action, KeyVersion, NodeId, Threshold, UnixSeconds};
use quorate_wire::proto::store::v1::RestoredRow;
use quorate_wire::proto::v1;
use quorate_wire::strict;

use super::node::{Node, label_of, refused, request, statement};
use super::set::{KnownBackup, SETS, Set};

/// Where a backup becomes a node again.
const PLACE: &str = "restored";

/// A stored cluster in which one node was made of its backup by this build.
struct Back {
    set: Set,
    known: KnownBackup,
    made: Restored,
    nodes: Vec<Node>,
}

impl Back {
    /// Of a set that has such a backup. None where this machine's clock stands behind the set's: then no build makes a node.
    async fn from(set: Set, with_shares: bool) -> Option<Self> {
        let backups = set.known.backups.clone().unwrap();
        let fits = |backup: &&KnownBackup| backup.with_shares == with_shares;
        let known = backups.list.iter().find(fits).unwrap().clone();
        let key_file = || RootKeySource::KeyFile(set.path(&format!("nodes/{}.key", known.node)));
        let options = |root_key| RestoreOptions {
            data_dir: set.path(PLACE),
            root_key,
            listen: None,
            urls: Vec::new(),
        };
        let file = set.bytes(&known.file);
        let other = set.path(&format!("nodes/{}.key", known.node % 3 + 1));
        let other = restore(options(RootKeySource::KeyFile(other)), file.as_slice()).await;
        let made = restore(options(key_file()), file.as_slice()).await;
        if let Err(RestoreError::Clock { taken_at, now }) = made {
            println!("the clock says {now}, and the backup is of {taken_at}: not restored");
            return None;
        }
        assert!(matches!(other, Err(RestoreError::KeySlots(_))), "{other:?}");
        let made = made.unwrap();
        assert_eq!((made.taken_at, made.with_shares), (known.taken_at, with_shares));
        // The passphrase of the backup unlocks the node, too.
        let slots = KeySlots::load(&set.path(PLACE)).unwrap();
        let words = SecretVec::new(backups.passphrase.clone().into_bytes());
        let root = slots.unlock(&RootKeySource::Passphrase(words)).unwrap();
        let mut nodes = Node::all(&set);
        nodes[known.node - 1] = Node::at(&set.path(PLACE), root, 77);
        Some(Self { set, known, made, nodes })
    }

    fn node(&mut self) -> &mut Node {
        &mut self.nodes[self.known.node - 1]
    }

    async fn ask(&mut self, at: usize, now: UnixSeconds, request: Request) -> Outcome {
        let founder = self.set.profile("founder").public_key();
        self.nodes[at].ask(now, founder, request).await
    }

    /// What the node says of itself, in the next roster, at every node.
    async fn named(&mut self) -> SignedDocument {
        let documents = self.set.documents();
        let quorate_documents::Authority::Settled(before) = documents.roster() else { panic!() };
        let Body::Roster(roster) = before.body() else { panic!() };
        let id = self.made.entry.id;
        let place = |node: &quorate_documents::NodeEntry| {
            let entry = if node.id == id { &self.made.entry } else { node };
            entry.clone()
        };
        let nodes = roster.nodes.iter().map(place).collect();
        let body = Body::Roster(Roster { nodes, ..roster.clone() });
        let frontier = documents.frontier(&before.id());
        let administrator = self.set.profile("founder").admin_key().unwrap();
        let next = Draft::succeed(&[before], body, None, frontier, self.set.now())
            .unwrap()
            .sign(&[administrator.signing_key()])
            .unwrap();
        for at in 0..self.nodes.len() {
            let node = self.nodes[at].id();
            let documents = vec![next.envelope().clone()];
            let put = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
            let Ok(Reply::PutDocuments(reply)) = self.ask(at, self.set.now(), put).await else {
                panic!()
            };
            assert!(reply.results[0].refusal.is_none(), "{reply:?}");
        }
        next
    }

    /// What a node says where it is to decrypt an object of the newest generation.
    async fn decrypts(&mut self) -> Outcome {
        let name = "second-version";
        let known = self.set.known.objects.iter().find(|o| o.name == name).unwrap().clone();
        let file = self.set.bytes(&format!("objects/{name}.quorate"));
        let header = quorate_object::ParsedHeader::parse(&file).unwrap();
        let (label, context) = label_of(&header.stanzas()[0], &known);
        let other = self.known.node % self.nodes.len();
        let newest = statement(&mut self.nodes[other], &self.set, label.key, label.version).await;
        let ask = request(self.node(), &newest, &label, &context, Action::Decrypt);
        let now = self.set.now().plus(STANDING);
        self.ask(self.known.node - 1, now, Request::Evaluate(ask)).await
    }

    /// The gate of a node that was made of a backup: nothing but documents, until a roster names its new log.
    async fn passes_the_gate(&mut self) -> SignedDocument {
        let at = self.known.node - 1;
        let read = Read::Row(RowKey::cluster(RESTORED));
        let row = |node: &Node| {
            let Answer::Row(row) = node.store.read(&read).unwrap() else { panic!() };
            strict::decode::<RestoredRow>("RestoredRow", row.bytes().unwrap()).unwrap()
        };
        let before = row(self.node());
        assert_eq!((before.taken_at, before.named), (self.known.taken_at, false));
        assert_eq!(before.with_shares, self.known.with_shares);
        let now = self.set.now();
        let status = |node| Request::Status(v1::StatusRequest { node });
        let id = self.node().id();
        assert_eq!(refused(self.ask(at, now, status(id.clone())).await), "rolled_back");
        assert_eq!(refused(self.decrypts().await), "rolled_back");
        let roster = self.named().await;
        assert!(self.ask(at, now, status(id)).await.is_ok());
        assert!(row(self.node()).named);
        roster
    }
}

/// Seconds of the standing order of the set's key.
const STANDING: u64 = 1;

/// The sets that have backups.
fn with_backups() -> Vec<Set> {
    let sets = SETS.iter().map(|name| Set::open(name));
    let sets: Vec<_> = sets.filter(|set| set.known.backups.is_some()).collect();
    assert_eq!(sets.len(), SETS.len() - 2, "every set since v3 has them");
    sets
}

/// A node of a stored backup without shares has none, keeps what it knew, and takes part again once a roster names it.
#[tokio::test]
async fn a_stored_backup_without_shares_is_restored() {
    for set in with_backups() {
        let documents = set.known.documents;
        let Some(mut back) = Back::from(set, false).await else { continue };
        let rows = back.set.known.nodes[back.known.node - 1].rows.clone().unwrap();
        let node = back.node();
        assert_eq!([Table::Shares, Table::Sessions].map(|table| node.count(table)), [0, 0]);
        for table in [Table::Documents, Table::Certificates, Table::Promises, Table::Lineages] {
            assert_eq!(node.count(table), rows[table.name()], "{table:?}");
        }
        assert_eq!(node.count(Table::Documents), documents as u64);
        back.passes_the_gate().await;
        assert_eq!(refused(back.decrypts().await), "share_not_held");
    }
}

/// Shares out of a stored backup deal, and serve nothing themselves: after a reshare in which they dealt, the node
/// answers with its new share.
#[tokio::test]
async fn shares_of_a_stored_backup_only_deal() {
    for set in with_backups() {
        let Some(mut back) = Back::from(set, true).await else { continue };
        let rows = back.set.known.nodes[back.known.node - 1].rows.clone().unwrap();
        let node = back.node();
        assert_eq!(node.count(Table::Shares), rows[Table::Shares.name()]);
        assert_eq!(node.count(Table::Sessions), 0);
        let roster = back.passes_the_gate().await;
        assert_eq!(refused(back.decrypts().await), "share_restored");

        let (key, version) = (back.set.known.files.id, KeyVersion::new(2).unwrap());
        let other = back.known.node % 3;
        let parent = statement(&mut back.nodes[other], &back.set, key, version).await;
        let dealers = [other.min(back.known.node - 1), other.max(back.known.node - 1)];
        let certificate = reshare(&mut back, &roster, &parent, dealers).await;
        let now = back.set.now().plus(STANDING);
        for at in 0..3 {
            let put = v1::PutCertificateRequest {
                node: back.nodes[at].id(),
                certificate: Some(certificate.clone()),
                ..v1::PutCertificateRequest::default()
            };
            let answer = back.ask(at, now, Request::PutCertificate(put)).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
        let made = Statement::from_payload(&certificate.payload).unwrap();
        assert_eq!(made.height(), parent.height() + 1);
        assert!(back.decrypts().await.is_ok());
    }
}

/// All rounds of a refresh in which these nodes deal.
async fn reshare(
    back: &mut Back,
    roster: &SignedDocument,
    parent: &Statement,
    dealers: [usize; 2],
) -> v1::Envelope {
    let now = back.set.now().plus(STANDING);
    let ids: Vec<NodeId> = parent.participants().iter().map(|member| member.node).collect();
    let seats: Vec<usize> = ids
        .iter()
        .map(|id| back.nodes.iter().position(|node| node.core.entry().id == *id).unwrap())
        .collect();
    let index =
        |at: &usize| u32::try_from(seats.iter().position(|s| s == at).unwrap() + 1).unwrap();
    let session = v1::Session {
        key: back.set.known.files.id.as_bytes().to_vec(),
        key_version: 2,
        order: parent.order().as_bytes().to_vec(),
        roster: roster.digest().as_bytes().to_vec(),
        parent: parent.generation().as_bytes().to_vec(),
        attempt: 1,
        nonce: vec![9; 32],
        dealers: dealers.iter().map(index).collect(),
    };
    let mut round0 = Vec::new();
    for at in &seats {
        let (node, session) = (back.nodes[*at].id(), Some(session.clone()));
        let open = Request::ReshareOpen(v1::ReshareOpenRequest { node, session });
        let answer = back.ask(*at, now, open).await;
        let Ok(Reply::ReshareOpen(reply)) = answer else { panic!("{answer:?}") };
        round0.push(reply.round0.unwrap());
    }
    let mut deals: Vec<v1::ReshareDealReply> = Vec::new();
    for at in dealers {
        let (node, session) = (back.nodes[at].id(), Some(session.clone()));
        let deal = v1::ReshareDealRequest { node, session, round0: round0.clone() };
        let answer = back.ask(at, now, Request::ReshareDeal(deal)).await;
        let Ok(Reply::ReshareDeal(reply)) = answer else { panic!("{answer:?}") };
        deals.push(reply);
    }
    let of = Threshold::new(2, 3).unwrap();
    let mut certificate: Option<v1::Envelope> = None;
    for (place, at) in seats.iter().enumerate() {
        let deliveries = deals.iter().map(|deal| v1::Delivery {
            ciphertext: deal.ciphertexts[place].clone(),
            path: merkle::paths(of.indices(), &deal.ciphertexts)[place]
                .iter()
                .map(|digest| digest.as_bytes().to_vec())
                .collect(),
        });
        let sign = v1::ReshareSignRequest {
            node: back.nodes[*at].id(),
            session: Some(session.clone()),
            round0: round0.clone(),
            round1: deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
            deliveries: deliveries.collect(),
        };
        let answer = back.ask(*at, now, Request::ReshareSign(sign)).await;
        let Ok(Reply::ReshareSign(reply)) = answer else { panic!("{answer:?}") };
        let signed = reply.statement.unwrap();
        match &mut certificate {
            None => certificate = Some(signed),
            Some(all) => all.signatures.extend(signed.signatures),
        }
    }
    certificate.unwrap()
}
