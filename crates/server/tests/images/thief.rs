//! A thief with copies of all data directories, all root key files, and everything that was ever relayed.
//!
//! It looks for the signing shares of one generation: in every byte of every file, in every row that opens with the root
//! keys, and in every recorded ciphertext with every key that it can find. It knows where the row of a share stands
//! (its key, version and generation are no secret), and it may have seen the same disks before.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use quorate_documents::{Certificate, Order, Seats, Statement};
use quorate_node::{Read, RowKey, Table, sealing};
use quorate_schemes::dkg::cocktail::Round1Broadcast;
use quorate_schemes::dkg::{
    self, Delivery, ReceiveKey, Ristretto255, Round1Message, SessionBinding,
};
use quorate_schemes::reshare::{self, Parent, Participant};
use quorate_schemes::sharing::{PublicShares, SigningShare};
use quorate_secret::{RootKey, Secret};
use quorate_server::{KeySlots, RootKeySource};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_types::{Digest, Generation, KeyId, KeyVersion, SessionId};
use quorate_wire::proto::store::v1::{Sealed, SessionRow, ShareRow};
use quorate_wire::proto::v1;
use quorate_wire::{digests, strict};

use crate::support::{Place as Node, RECORDED};

type Group = Ristretto255;

/// Where a share was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    /// Its sealed bytes, as an earlier image had them, or the share itself, stand somewhere in a file.
    Bytes,
    /// Bytes somewhere in a file open as the row that it was.
    Carved,
    /// A row of the database has it.
    Row,
    /// Recorded ciphertexts open with a key that was on a disk.
    Traffic,
}

/// Shares by their indices, and where each was found.
pub type Found = BTreeSet<(u32, Where)>;

/// A copy of a node's data directory, as it was at one moment, and what unlocks it.
pub struct Disk {
    folder: tempfile::TempDir,
    key_file: PathBuf,
}

impl Disk {
    /// Copies every file there is while the node runs: the database, its write-ahead log and its shared memory too.
    pub fn of(node: &Node) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&node.data(), folder.path());
        Self { folder, key_file: node.directory.path().join("root.key") }
    }

    /// A copy of the copy: to open a database changes its files.
    pub fn again(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        Self { folder, key_file: self.key_file.clone() }
    }

    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("node.db")).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn root(&self) -> RootKey {
        let source = RootKeySource::KeyFile(self.key_file.clone());
        KeySlots::load(self.path()).unwrap().unlock(&source).unwrap()
    }

    /// The bytes of every file.
    fn files(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        each_file(self.path(), &mut |file| all.push(fs::read(file).unwrap()));
        all
    }

    /// The rows of every table, as the store that wrote them reads them.
    async fn rows(&self) -> Vec<(RowKey, Vec<u8>)> {
        let copy = self.again();
        let store = SqliteStore::open(copy.path(), &SqliteOptions::default()).unwrap();
        let mut all = Vec::new();
        for table in Table::ALL {
            let read = Read::Range { table, prefix: Vec::new(), after: None, limit: 1_000_000 };
            let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
            all.extend(entries.iter().map(|it| (it.key().clone(), it.bytes().unwrap().to_vec())));
        }
        store.close().await;
        all
    }
}

fn each_file(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, visit) } else { visit(&path) }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What an earlier image shows of a generation's shares: the bytes of each as they stood, and the share itself.
#[derive(Default)]
pub struct Seen(Vec<(u32, Vec<u8>)>);

impl Seen {
    /// Of these disks, opened with their root keys.
    pub async fn on(disks: &[Disk], wanted: &Statement) -> Self {
        let mut seen = Vec::new();
        for disk in disks {
            let root = disk.root();
            for (place, row) in disk.rows().await {
                let Some(sealed) = share_of(&place, &row) else { continue };
                let Ok(opened) = sealing::open(&root, &place, &sealed) else { continue };
                if let Some(index) = index_of(opened.reveal(), wanted) {
                    for bytes in [opened.reveal(), &sealed.wrapped_key, &sealed.ciphertext] {
                        seen.push((index, bytes.to_vec()));
                    }
                }
            }
        }
        Self(seen)
    }

    /// Of how many shares.
    pub fn shares(&self) -> usize {
        self.0.iter().map(|(index, _)| index).collect::<BTreeSet<_>>().len()
    }
}

fn share_of(place: &RowKey, row: &[u8]) -> Option<Sealed> {
    if place.table != Table::Shares {
        return None;
    }
    strict::decode::<ShareRow>("ShareRow", row).ok()?.share
}

/// Everything that it finds of a generation on these disks and in what was relayed of its key.
pub async fn shares(disks: &[Disk], seen: &Seen, wanted: &Statement, relayed: &Relayed) -> Found {
    let mut found = Found::new();
    let mut seeds: Vec<Secret<32>> = Vec::new();
    for disk in disks {
        let root = disk.root();
        seeds.extend(Secret::from_slice(root.reveal()));
        for file in disk.files() {
            found.extend(bytes(&file, seen).map(|index| (index, Where::Bytes)));
            found.extend(carved(&file, &root, wanted, relayed).map(|index| (index, Where::Carved)));
        }
        for secret in opened(disk, &root).await {
            found.extend(index_of(&secret, wanted).map(|index| (index, Where::Row)));
            seeds.extend(secret.chunks(32).filter_map(Secret::from_slice));
        }
    }
    let keys: Vec<ReceiveKey<Group>> = seeds
        .iter()
        .map(ReceiveKey::from_seed)
        .chain(seeds.iter().filter_map(|seed| ReceiveKey::from_scalar(seed.reveal())))
        .collect();
    found.extend(traffic(relayed, &keys, wanted).into_iter().map(|index| (index, Where::Traffic)));
    found
}

/// A part of a sealed share is enough to be found: the file may have lost the rest of it.
fn bytes(file: &[u8], seen: &Seen) -> impl Iterator<Item = u32> {
    const PART: usize = 16;
    let parts = seen
        .0
        .iter()
        .flat_map(|(index, bytes)| bytes.chunks_exact(PART).map(move |part| (part, *index)));
    let parts: HashMap<&[u8], u32> = parts.collect();
    let found: BTreeSet<u32> =
        file.windows(PART).filter_map(|window| parts.get(window)).copied().collect();
    found.into_iter()
}

/// Takes the bytes at every place of a file that has the tags and lengths of a sealed share's fields for such a share.
fn carved(
    file: &[u8],
    root: &RootKey,
    wanted: &Statement,
    relayed: &Relayed,
) -> impl Iterator<Item = u32> {
    // As `store.proto` numbers them, and as they are encoded: tag, length, bytes.
    const FIELDS: [[u8; 2]; 4] = [[0x12, 12], [0x1a, 48], [0x22, 12], [0x2a, 48]];
    let field = |at: &mut usize, head: [u8; 2]| {
        let begins = *at + 2;
        *at = begins + usize::from(head[1]);
        let bytes = file.get(begins..*at)?;
        (file[begins - 2..begins] == head).then(|| bytes.to_vec())
    };
    let place = RowKey::share(relayed.key, KeyVersion::FIRST, wanted.generation());
    let mut found = BTreeSet::new();
    for at in 0..file.len() {
        let mut at = at;
        let [Some(wrap_nonce), Some(wrapped_key), Some(nonce), Some(ciphertext)] =
            FIELDS.map(|head| field(&mut at, head))
        else {
            continue;
        };
        let sealed = Sealed { format: 1, wrap_nonce, wrapped_key, nonce, ciphertext };
        if let Ok(opened) = sealing::open(root, &place, &sealed) {
            found.extend(index_of(opened.reveal(), wanted));
        }
    }
    found.into_iter()
}

/// What unseals of every row of every table, whatever it says it is.
async fn opened(disk: &Disk, root: &RootKey) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (place, row) in disk.rows().await {
        let sealed = [
            strict::decode::<Sealed>("Sealed", &row).ok(),
            share_of(&place, &row),
            strict::decode::<SessionRow>("SessionRow", &row).ok().and_then(|row| row.seeds),
        ];
        for sealed in sealed.into_iter().flatten() {
            all.extend(sealing::open(root, &place, &sealed).map(|it| it.reveal().to_vec()));
        }
    }
    all
}

/// The index of a secret that is one of the wanted shares.
fn index_of(secret: &[u8], wanted: &Statement) -> Option<u32> {
    let share = SigningShare::from_bytes(&Secret::from_slice(secret)?).ok()?;
    let points: Option<Vec<_>> = wanted.commitments().iter().map(decode).collect();
    let public = PublicShares::from_commitments(wanted.threshold(), &points?).ok()?;
    let indices = wanted.threshold().indices();
    let mut is = indices.filter(|index| public.share(*index) == Some(share.verifying_share()));
    is.next().map(|index| index.get().into())
}

fn decode(bytes: &[u8; 32]) -> Option<<Group as dkg::Suite>::Point> {
    <Group as dkg::Suite>::decode_point(bytes)
}

/// What was relayed of one key, and what everybody may know of it.
pub struct Relayed {
    pub key: KeyId,
    pub order: Order,
    pub certificates: Vec<Certificate>,
}

/// Every recorded request of a method.
fn recorded<M: Message + Default>(method: &str) -> Vec<M> {
    let all = RECORDED.lock().unwrap();
    let of = all.iter().filter(|sent| sent.method == method);
    of.filter_map(|sent| M::decode(sent.request.as_slice()).ok()).collect()
}

/// Opens every recorded delivery of the key with every key.
fn traffic(relayed: &Relayed, keys: &[ReceiveKey<Group>], wanted: &Statement) -> Vec<u32> {
    let mut found = Vec::new();
    for request in recorded::<v1::ReshareSignRequest>("ReshareSign") {
        if let Some(session) = resharing(relayed, &request) {
            found.extend(receive(&session, keys, &request.round1, &request.deliveries));
        }
    }
    for request in recorded::<v1::DkgSignRequest>("DkgSign") {
        if let Some(session) = making(relayed, &request.session) {
            found.extend(receive(&session, keys, &request.round1, &request.deliveries));
        }
    }
    found.iter().filter_map(|secret| index_of(secret.reveal(), wanted)).collect()
}

/// What a delivery comes to with those of the keys that are a recipient's.
fn receive(
    (session, receive_keys): &(dkg::Session<Group>, Vec<[u8; 32]>),
    keys: &[ReceiveKey<Group>],
    round1: &[v1::Envelope],
    deliveries: &[v1::Delivery],
) -> Vec<Secret<32>> {
    let messages: Option<Vec<Round1Message<Group>>> = round1.iter().map(message).collect();
    let deliveries: Option<Vec<Delivery>> = deliveries.iter().map(delivery).collect();
    let (Some(messages), Some(deliveries)) = (messages, deliveries) else { return Vec::new() };
    let mut found = Vec::new();
    for (index, wanted) in session.setup().threshold().indices().zip(receive_keys) {
        for key in keys.iter().filter(|key| key.public() == wanted) {
            let output = session.round2(index, key, &messages, &deliveries);
            found.extend(output.ok().map(|output| output.share));
        }
    }
    found
}

fn message(envelope: &v1::Envelope) -> Option<Round1Message<Group>> {
    let said = v1::Round1::decode(envelope.payload.as_slice()).ok()?;
    let commitments: Option<Vec<[u8; 32]>> =
        said.commitments.iter().map(|bytes| bytes.as_slice().try_into().ok()).collect();
    Some(Round1Message {
        dealer: said.index,
        broadcast: Round1Broadcast {
            commitments: commitments?,
            pop: said.proof_of_possession.as_slice().try_into().ok()?,
            ephemeral: said.ephemeral_key.as_slice().try_into().ok()?,
        },
        ephemeral_proof: said.ephemeral_proof.as_slice().try_into().ok()?,
        root: Digest::from_slice(&said.ciphertexts_root).ok()?,
    })
}

fn delivery(relayed: &v1::Delivery) -> Option<Delivery> {
    let path: Option<Vec<Digest>> =
        relayed.path.iter().map(|digest| Digest::from_slice(digest).ok()).collect();
    Some(Delivery { ciphertext: relayed.ciphertext.clone(), path: path? })
}

/// A recorded reshare's session, from what everybody said in round 0.
fn resharing(
    relayed: &Relayed,
    request: &v1::ReshareSignRequest,
) -> Option<(dkg::Session<Group>, Vec<[u8; 32]>)> {
    let session = request.session.as_ref().filter(|it| it.key == relayed.key.as_bytes())?;
    let parent = Generation::from_slice(&session.parent).ok()?;
    let mut parents = relayed.certificates.iter().map(Certificate::statement);
    let parent = parents.find(|statement| statement.generation() == parent)?;
    let seats = Seats::new(&relayed.order, parent, &session.dealers).ok()?;
    let mut said = Vec::new();
    for (seat, envelope) in seats.all().iter().zip(&request.round0) {
        let message = v1::ReshareRound0::decode(envelope.payload.as_slice()).ok()?;
        said.push(Participant::<Group> {
            node: seat.node,
            index: seat.index,
            parent_index: seat.parent_index,
            deals: seat.deals,
            enters: seat.enters,
            receive_key: message.receive_key.as_slice().try_into().ok()?,
            proof: message.proof.as_slice().try_into().ok()?,
            share_proof: message.share_proof.as_slice().try_into().ok(),
        });
    }
    let public = Parent::new(parent.generation(), parent.threshold(), parent.commitments())?;
    let binding = SessionBinding {
        session: digests::session_id(session),
        order: Digest::from_slice(&session.order).ok()?,
        roster: Digest::from_slice(&session.roster).ok()?,
    };
    let keys = said.iter().map(|member| member.receive_key).collect();
    Some((reshare::session(binding, relayed.order.threshold(), &public, &said).ok()?, keys))
}

/// The session in which the key was made.
fn making(relayed: &Relayed, id: &[u8]) -> Option<(dkg::Session<Group>, Vec<[u8; 32]>)> {
    let id = SessionId::from_slice(id).ok()?;
    let opened = recorded::<v1::DkgOpenRequest>("DkgOpen");
    let session = opened.into_iter().filter_map(|request| request.session).find(|session| {
        session.key == relayed.key.as_bytes() && digests::session_id(session) == id
    })?;
    let dealt = recorded::<v1::DkgDealRequest>("DkgDeal");
    let round0 = dealt.into_iter().find(|request| request.session == id.as_bytes())?.round0;
    let mut members = Vec::new();
    for (member, envelope) in relayed.order.founders().iter().zip(&round0) {
        let message = v1::Round0::decode(envelope.payload.as_slice()).ok()?;
        members.push(dkg::Member::<Group> {
            index: message.index,
            node: member.node,
            receive_key: message.receive_key.as_slice().try_into().ok()?,
            proof: message.proof.as_slice().try_into().ok()?,
        });
    }
    let binding = SessionBinding {
        session: id,
        order: relayed.order.digest(relayed.key, KeyVersion::FIRST),
        roster: Digest::from_slice(&session.roster).ok()?,
    };
    let keys = members.iter().map(|member| member.receive_key).collect();
    Some((dkg::Session::new(binding, relayed.order.founding(), members).ok()?, keys))
}
