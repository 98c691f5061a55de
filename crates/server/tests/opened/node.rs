//! A stored node, without its sockets, and what is asked of it.

use std::path::{Path, PathBuf};

use quorate_authz::Caller;
use quorate_documents::{Certificate, NodeEntry, Orders, Statement};
use quorate_node::{
    Call, Facts, NodeCore, Outcome, Read, Reply, Request, RowKey, Table, View, sealing,
};
use quorate_object::Stanza;
use quorate_schemes::group::Ristretto;
use quorate_schemes::prf::{Combiner, Labels, Proof};
use quorate_schemes::sharing::PublicShares;
use quorate_sdk::NodeCard;
use quorate_secret::{PrfOutput, RootKey, Secret, SecretVec, SigningSeed};
use quorate_server::{CARD_FILE, KeySlotError, KeySlots, NodeConfig, RootKeySource};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_types::{Action, DocumentId, KeyId, KeyVersion, ParticipantIndex, UnixSeconds};
use quorate_wire::proto::store::v1::Sealed;
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{EncryptionContext, Label, PublicKey, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::set::{KnownObject, Set};

/// The format of stores that were written before sets said theirs.
const FIRST_FORMAT: u32 = 3;

/// A stored node, without its sockets.
pub struct Node {
    pub core: NodeCore,
    pub store: SqliteStore,
    pub rng: ChaCha20Rng,
}

impl Node {
    pub fn open(set: &Set, at: usize) -> Self {
        let known = &set.known.nodes[at];
        let directory = set.path(&format!("nodes/{}", at + 1));
        let config = NodeConfig::load(&directory).unwrap();
        assert_eq!(config.root_key_file, Some(PathBuf::from(format!("nodes/{}.key", at + 1))));
        let slots = KeySlots::load(&directory).unwrap();
        let key_file = |n: usize| RootKeySource::KeyFile(set.path(&format!("nodes/{n}.key")));
        let root = slots.unlock(&key_file(at + 1)).unwrap();
        let other = slots.unlock(&key_file((at + 1) % 3 + 1));
        assert!(matches!(other, Err(KeySlotError::WrongKeyFile { .. })));
        if at == 0 {
            let words = SecretVec::new(set.known.passphrase_of_node_1.clone().into_bytes());
            let same = slots.unlock(&RootKeySource::Passphrase(words)).unwrap();
            assert_eq!(same.reveal(), root.reveal());
        }

        let node = Self::at(&directory, root, at as u8);
        let entry = node.core.entry();
        assert_eq!((entry.id, &entry.name), (known.id, &known.name));
        let text = std::fs::read_to_string(directory.join(CARD_FILE)).unwrap();
        assert_eq!(NodeCard::parse(&text).unwrap().fingerprint(), known.card_fingerprint);
        // The format that it was written in, until somebody says otherwise.
        let format = node.store.format();
        assert_eq!(format.found, known.store_format.unwrap_or(FIRST_FORMAT));
        assert!(format.found <= format.newest);
        node
    }

    /// A node in a directory, whose card, keys and configuration say the same.
    pub fn at(directory: &Path, root: RootKey, seeded: u8) -> Self {
        let config = NodeConfig::load(directory).unwrap();
        let store = SqliteStore::open(directory, &SqliteOptions::default()).unwrap();
        let [identity, tls, log] =
            ["identity-seed", "tls-seed", "log-seed"].map(|name| seed(&store, &root, name));
        let card: Envelope = strict::decode("Envelope", &local(&store, "node-card")).unwrap();
        let text = std::fs::read_to_string(directory.join(CARD_FILE)).unwrap();
        let card_file = NodeCard::parse(&text).unwrap();
        assert_eq!(*card_file.envelope(), card);
        let entry: NodeEntry = card_file.entry().clone();
        assert_eq!(entry.urls, config.urls);
        let keys = [entry.identity_key, entry.tls_key, entry.log_key];
        assert_eq!(keys, [identity.public(), tls.public(), log.public()]);
        let rng = ChaCha20Rng::from_seed([seeded; 32]);
        Self { core: NodeCore::new(entry, identity, root), store, rng }
    }

    pub fn all(set: &Set) -> Vec<Self> {
        (0..set.known.nodes.len()).map(|at| Self::open(set, at)).collect()
    }

    pub fn id(&self) -> Vec<u8> {
        self.core.entry().id.as_bytes().to_vec()
    }

    pub async fn ask(&mut self, now: UnixSeconds, caller: PublicKey, request: Request) -> Outcome {
        let call = Call::new(Some(Caller::authenticated(caller)), request);
        let mut view = View::new();
        loop {
            let reads = self.core.plan(&call, &view);
            if reads.is_empty() {
                break;
            }
            for read in reads {
                self.store.read(&read).unwrap().add_to(&read, &mut view);
            }
        }
        let step = self.core.decide(now, &mut self.rng, &Facts::default(), &view, call);
        step.commit(&mut self.store.clone()).await.unwrap()
    }

    pub fn count(&self, table: Table) -> u64 {
        match self.store.read(&Read::Count(table)).unwrap() {
            Answer::Count(count) => count,
            other => panic!("{other:?}"),
        }
    }
}

pub fn local(store: &SqliteStore, name: &str) -> Vec<u8> {
    match store.read(&Read::Row(RowKey::local(name))).unwrap() {
        Answer::Row(entry) => entry.bytes().unwrap().to_vec(),
        other => panic!("{other:?}"),
    }
}

pub fn seed(store: &SqliteStore, root: &RootKey, name: &str) -> SigningKey {
    let sealed: Sealed = strict::decode("Sealed", &local(store, name)).unwrap();
    let seed = sealing::open(root, &RowKey::local(name), &sealed).unwrap();
    SigningKey::from_seed(SigningSeed::new(Secret::from_slice(seed.reveal()).unwrap()))
}

/// Removes the sessions whose time is over, and says how many there were.
pub async fn sweep(node: &Node, now: UnixSeconds) -> usize {
    let mut view = View::new();
    loop {
        let reads = node.core.plan_sweep(&view);
        if reads.is_empty() {
            break;
        }
        for read in reads {
            node.store.read(&read).unwrap().add_to(&read, &mut view);
        }
    }
    node.core.decide_sweep(now, &view).commit(&mut node.store.clone()).await.unwrap()
}

pub fn refused(outcome: Outcome) -> String {
    match outcome {
        Err(refusal) => refusal.code,
        Ok(reply) => panic!("{reply:?}"),
    }
}

/// What a key version's highest certificate says that a node has.
pub async fn statement(node: &mut Node, set: &Set, key: KeyId, version: KeyVersion) -> Statement {
    let which = Some(v1::get_key_request::Which::Id(key.as_bytes().to_vec()));
    let request = Request::GetKey(v1::GetKeyRequest { node: node.id(), which });
    let founder = set.profile("founder").public_key();
    let Ok(Reply::GetKey(reply)) = node.ask(set.now(), founder, request).await else { panic!() };
    let orders = orders(set, key, version);
    let all = &reply.keys[0].certificates;
    let first = orders.all().find(|order| order.number() == 1).unwrap();
    let root = all
        .iter()
        .find_map(|envelope| Certificate::verify(envelope.clone(), key, version, first).ok())
        .expect("the node shows the certificate of the DKG");
    let anew = all.iter().filter_map(|envelope| {
        let order = Statement::from_payload(&envelope.payload).ok()?.order();
        Certificate::verify_reshare(envelope.clone(), orders.find(&order)?, root.statement()).ok()
    });
    let highest = anew.max_by_key(|certificate| certificate.statement().rank());
    highest.unwrap_or(root).statement().clone()
}

/// All orders of a key version.
pub fn orders(set: &Set, key: KeyId, version: KeyVersion) -> Orders {
    let documents = set.documents();
    let heads = documents.heads::<quorate_documents::Key>(&DocumentId::from(key)).unwrap();
    documents.orders(&heads, version).unwrap()
}

pub fn request(
    node: &Node,
    statement: &Statement,
    label: &Label,
    context: &EncryptionContext,
    action: Action,
) -> v1::EvaluateRequest {
    let pairs = context.pairs().iter().cloned();
    let pairs: Vec<_> = pairs.map(|(name, value)| v1::Attribute { name, value }).collect();
    let contexts: Vec<_> =
        (!pairs.is_empty()).then_some(v1::Context { pairs }).into_iter().collect();
    v1::EvaluateRequest {
        node: node.id(),
        key: label.key.as_bytes().to_vec(),
        key_version: label.version.get(),
        generation: statement.generation().as_bytes().to_vec(),
        action: action.number(),
        items: vec![v1::Item {
            nonce: label.nonce.to_vec(),
            created_at: label.created_at.0,
            creator: label.creator.as_bytes().to_vec(),
            context: contexts.len() as u32,
        }],
        contexts,
        with_proof: true,
        from_version: 0,
    }
}

/// Asks two nodes to decrypt for the founder, verifies their proofs and combines.
pub async fn evaluate(
    nodes: &mut [Node],
    pair: [usize; 2],
    set: &Set,
    label: &Label,
    context: &EncryptionContext,
) -> PrfOutput {
    let statement = statement(&mut nodes[pair[0]], set, label.key, label.version).await;
    let points: Vec<_> =
        statement.commitments().iter().map(|c| Ristretto::decode_point(c).unwrap()).collect();
    let shares = PublicShares::from_commitments(statement.threshold(), &points).unwrap();
    let labels = [label.canonical_bytes()];
    let labels = Labels::new(&labels).unwrap();
    let mut combiner = Combiner::new(statement.generation(), &shares, &labels);
    let founder = set.profile("founder").public_key();
    for at in pair {
        assert!(!combiner.is_quorate());
        let node = &mut nodes[at];
        let request = request(node, &statement, label, context, Action::Decrypt);
        let digest = digests::request_digest(&request);
        let reply = match node.ask(set.now(), founder, Request::Evaluate(request)).await {
            Ok(Reply::Evaluate(reply)) => reply,
            other => panic!("{other:?}"),
        };
        let index = ParticipantIndex::new(reply.index, statement.threshold()).unwrap();
        let partials = [<[u8; 32]>::try_from(reply.partials.as_slice()).unwrap()];
        let proof = Proof::from_bytes(&reply.proof).unwrap();
        let generation = statement.generation();
        combiner.add_proved(index, generation, digest, &partials, &proof).unwrap();
    }
    combiner.finish().unwrap().remove(0)
}

pub fn label_of(stanza: &Stanza, known: &KnownObject) -> (Label, EncryptionContext) {
    let context = EncryptionContext::new(&known.context).unwrap();
    assert_eq!(stanza.facts().version.get(), known.key_version);
    assert_eq!(stanza.stored_context(), known.stored_context.then_some(&context));
    let given = (!known.stored_context).then_some(&context);
    (stanza.label(given).unwrap(), context)
}
