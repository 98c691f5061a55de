//! Shares that are dealt anew: by the library, and one round after another up to where it stands still.

use std::time::Duration;

use quorate_documents::{Body, Draft, KeyOrder, Order, SignedDocument, Statement};
use quorate_schemes::dkg::merkle;
use quorate_sdk::{
    AdminKey, Client, CreatedKey, Error, Key, KeySpecRequest, OrderChange, Reshared,
};
use quorate_types::{Digest, DocumentId, KeyId, KeyVersion, NodeId, Threshold};
use quorate_wire::proto::v1;
use quorate_wire::{SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use crate::ceremonies::Under;
use crate::cluster::{Cluster, NODES};
use crate::files::Output;
use crate::objects::{Sealed, context, keep};
use crate::support::now;

/// Reshares a key version as soon as the order in force allows it, and every node confirms that.
async fn reshare(client: &Client, key: KeyId, version: KeyVersion) -> Reshared {
    loop {
        match client.reshare_key(key, version, |_| {}).await {
            Ok(reshared) => {
                assert!(reshared.lacking.is_empty(), "{:?}", reshared.lacking);
                return reshared;
            }
            Err(Error::Refused(refused)) if refused.refusal.code == "refresh_not_due" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The versions of a key that was dealt anew, and what is asked about them.
pub struct Anew<'a> {
    pub client: &'a Client,
    pub out: &'a Output,
    /// What is said of each reshare.
    pub told: Vec<Value>,
}

impl Anew<'_> {
    async fn each(&mut self, made: &[&CreatedKey], name: &str, order: u32, height: u64) {
        for made in made {
            let reshared = reshare(self.client, made.key.id(), made.version).await;
            assert_eq!((reshared.order, reshared.height), (order, height));
            let name = format!("certificates/{name}-{}-height-{height}.bin", made.version.get());
            self.out.write(&name, strict::encode(&reshared.certificate));
            self.told.push(json!({
                "key": made.key.id().to_string(),
                "file": name,
                "version": made.version.get(),
                "order": order,
                "height": height,
                "generation": reshared.after.to_string(),
            }));
        }
    }

    /// By the standing order.
    pub async fn refreshed(&mut self, made: &[&CreatedKey]) {
        self.each(made, "files", 1, 2).await;
    }

    /// By an order that lets a node in that has lost its shares.
    pub async fn repaired(&mut self, made: &[&CreatedKey], node: NodeId, admin: &AdminKey) {
        for made in made {
            let change = OrderChange { entering: vec![node], ..OrderChange::default() };
            let order = self.client.new_order(made.key.id(), made.version, change, Some(admin));
            assert_eq!(order.await.unwrap().number, 2);
        }
        self.each(made, "files", 2, 3).await;
    }

    /// A key of 2 of 3 that becomes one of 2 of 2: the third node leaves. With objects from before and after.
    pub async fn moved(&mut self, stay: [NodeId; 2], admin: &AdminKey, objects: &mut Vec<Value>) {
        let request = KeySpecRequest {
            alias: "moved".into(),
            threshold: 2,
            minimum_committee: Some(2),
            allow_fragile: true,
            ..KeySpecRequest::default()
        };
        let made = self.client.create_key(request, |_| {}).await.unwrap();
        let name = format!("certificates/moved-{}.bin", made.version.get());
        self.out.write(&name, strict::encode(&made.certificate));
        self.seal(&made.key, "before-the-move", vec![0, 1], objects).await;
        let change = OrderChange { members: stay.to_vec(), ..OrderChange::default() };
        let order = self.client.new_order(made.key.id(), made.version, change, Some(admin)).await;
        assert_eq!(order.unwrap().number, 2);
        self.each(&[&made], "moved", 2, 2).await;
        self.seal(&made.key, "after-the-move", vec![0, 1], objects).await;
    }

    /// An object under the newest version of a key, which these nodes open.
    pub async fn seal(&self, key: &Key, name: &str, holders: Vec<usize>, objects: &mut Vec<Value>) {
        let key = self.client.key(key.alias()).await.unwrap();
        let customer = context(&[("customer", "4711")]);
        let plaintext = format!("sealed {name}");
        let sealed = self.client.encrypt(&key, plaintext.as_bytes(), &customer).await.unwrap();
        let sealed = Sealed {
            folder: "objects",
            name,
            plaintext: plaintext.as_bytes(),
            sealed: &sealed,
            version: key.versions().last().unwrap().number.get(),
            context: &customer,
            stored: false,
        };
        keep(self.out, objects, &sealed);
        let last = objects.last_mut().unwrap();
        last["holders"] = holders.into();
    }
}

/// A reshare up to where its dealers have dealt. Nodes by their places in the cluster.
pub struct DealtAnew {
    pub session: v1::Session,
    pub round0: Vec<v1::Envelope>,
    pub deals: Vec<v1::ReshareDealReply>,
    pub members: Vec<usize>,
    pub dealers: Vec<usize>,
    pub root: v1::Envelope,
}

/// A key version that was made, one round after another.
pub struct Made {
    pub session: v1::Session,
    pub certificate: v1::Envelope,
}

impl Cluster {
    /// Orders the second committee of a key, and runs the reshare up to where everybody has dealt who is to.
    pub async fn deal_anew(
        &mut self,
        under: &Under<'_>,
        made: Made,
        [members, dealers]: [&[usize]; 2],
        administrator: &SigningKey,
        rng: &mut ChaCha20Rng,
    ) -> DealtAnew {
        let entry =
            |at: &usize| (self.nodes[*at].new.entry.id, self.nodes[*at].new.entry.identity_key);
        let order = Order::numbered(2, 2, members.iter().map(entry), &[]).unwrap();
        let key = KeyId::from_slice(&made.session.key).unwrap();
        let digest = order.digest(key, KeyVersion::FIRST);
        let first = Digest::from_slice(&made.session.order).unwrap();
        self.order(under, key, first, order, administrator, rng).await;
        let parent = Statement::from_payload(&made.certificate.payload).unwrap().generation();
        let session = v1::Session {
            order: digest.as_bytes().to_vec(),
            parent: parent.as_bytes().to_vec(),
            dealers: dealers.iter().map(|at| u32::try_from(at + 1).unwrap()).collect(),
            nonce: vec![8; 32],
            ..made.session
        };
        let leaving = dealers.iter().filter(|at| !members.contains(at));
        let seats: Vec<usize> = members.iter().chain(leaving).copied().collect();
        let mut round0 = Vec::new();
        for at in seats {
            let some = Some(session.clone());
            let request = v1::ReshareOpenRequest { node: self.id(at), session: some };
            let reply: v1::ReshareOpenReply = self.call(at, "ReshareOpen", &request).await;
            round0.push(reply.round0.unwrap());
        }
        let mut dealt = DealtAnew {
            session,
            round0,
            deals: Vec::new(),
            members: members.to_vec(),
            dealers: dealers.to_vec(),
            root: made.certificate,
        };
        for at in dealers {
            let request = self.dealing_anew(&dealt, *at);
            dealt.deals.push(self.call(*at, "ReshareDeal", &request).await);
        }
        dealt
    }

    /// An order of a key's first version, in a document of its own that follows order 1.
    async fn order(
        &mut self,
        under: &Under<'_>,
        key: KeyId,
        first: Digest,
        order: Order,
        administrator: &SigningKey,
        rng: &mut ChaCha20Rng,
    ) -> DocumentId {
        let body = Body::KeyOrder(KeyOrder {
            tenant: under.tenant.id().into(),
            key,
            version: KeyVersion::FIRST,
            first,
            // A document's id is the digest of its first version.
            base: Some(Digest::from_bytes(*key.as_bytes())),
            settles: Vec::new(),
            order,
        });
        let document = Draft::first(body, Some(under.tenant.digest()), now(), rng)
            .unwrap()
            .sign(&[administrator])
            .unwrap();
        self.put(&document).await;
        document.id()
    }

    /// A key with an order that the tenant's next version does not keep, and that order's document.
    pub async fn unkept(&mut self, client: &Client, admin: &AdminKey) -> (KeyId, DocumentId) {
        let request =
            KeySpecRequest { alias: "unkept".into(), threshold: 2, ..KeySpecRequest::default() };
        let made = client.create_key(request, |_| {}).await.unwrap();
        let change = OrderChange { anew: true, ..OrderChange::default() };
        let order = client.new_order(made.key.id(), made.version, change, Some(admin)).await;
        assert_eq!(order.unwrap().number, 2);
        let of_key = |document: &SignedDocument| match document.body() {
            Body::KeyOrder(order) => order.key == made.key.id(),
            _ => false,
        };
        let order = self.documents(0).await.into_iter().find(of_key).unwrap();
        (made.key.id(), order.id())
    }

    /// A key with two orders that contend, and a third that settles both. Says the documents of the two.
    pub async fn settled(
        &mut self,
        client: &Client,
        under: &Under<'_>,
        admin: &AdminKey,
        rng: &mut ChaCha20Rng,
    ) -> (KeyId, [DocumentId; 2]) {
        let request =
            KeySpecRequest { alias: "settled".into(), threshold: 2, ..KeySpecRequest::default() };
        let made = client.create_key(request, |_| {}).await.unwrap();
        let key = made.key.id();
        let document = self.documents(0).await.into_iter().find(|d| KeyId::from(d.id()) == key);
        let Body::Key(body) = document.unwrap().body().clone() else { panic!() };
        let first = body.versions[0].order.digest(key, KeyVersion::FIRST);
        let mut contending = Vec::new();
        for seconds in [60, 120] {
            let members = self.nodes.iter().map(|n| (n.new.entry.id, n.new.entry.identity_key));
            let order = Order::numbered(2, 2, members, &[]).unwrap().with_refresh_seconds(seconds);
            let signed = self.order(under, key, first, order, admin.signing_key(), rng);
            contending.push(signed.await);
        }
        let change = OrderChange::default();
        let order = client.new_order(key, made.version, change, Some(admin)).await;
        assert_eq!(order.unwrap().number, 3);
        (key, [contending[0], contending[1]])
    }

    /// What a dealer is asked to deal.
    pub fn dealing_anew(&self, dealt: &DealtAnew, at: usize) -> v1::ReshareDealRequest {
        v1::ReshareDealRequest {
            node: self.id(at),
            session: Some(dealt.session.clone()),
            round0: dealt.round0.clone(),
        }
    }

    /// What each member is asked to sign.
    pub fn signing_anew(&self, dealt: &DealtAnew) -> Vec<(usize, v1::ReshareSignRequest)> {
        let n = u16::try_from(dealt.members.len()).unwrap();
        let of = Threshold::new(2, n).unwrap();
        let request = |(place, at): (usize, &usize)| {
            let deliveries = dealt.deals.iter().map(|deal| v1::Delivery {
                ciphertext: deal.ciphertexts[place].clone(),
                path: merkle::paths(of.indices(), &deal.ciphertexts)[place]
                    .iter()
                    .map(|digest| digest.as_bytes().to_vec())
                    .collect(),
            });
            let request = v1::ReshareSignRequest {
                node: self.id(*at),
                session: Some(dealt.session.clone()),
                round0: dealt.round0.clone(),
                round1: dealt.deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
                deliveries: deliveries.collect(),
            };
            (*at, request)
        };
        dealt.members.iter().enumerate().map(request).collect()
    }

    /// Lets every member sign, and says what completes the certificate at each node.
    pub async fn sign_anew(&mut self, dealt: &DealtAnew) -> Vec<v1::PutCertificateRequest> {
        let mut certificate: Option<v1::Envelope> = None;
        for (at, request) in self.signing_anew(dealt) {
            let reply: v1::ReshareSignReply = self.call(at, "ReshareSign", &request).await;
            let signed = reply.statement.unwrap();
            match &mut certificate {
                None => certificate = Some(signed),
                Some(all) => all.signatures.extend(signed.signatures),
            }
        }
        let request = |at: usize| v1::PutCertificateRequest {
            node: self.id(at),
            certificate: certificate.clone(),
            root: Some(dealt.root.clone()),
            ..v1::PutCertificateRequest::default()
        };
        (0..NODES).map(request).collect()
    }
}
