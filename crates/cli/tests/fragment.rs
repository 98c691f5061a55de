//! Customer fragments through the program, against real nodes: made, backed up, lost, restored, rotated; and
//! all nodes' disks and root keys with every administrator's key, which open nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use data_encoding::{BASE64, HEXLOWER};
use quorate_node::{Read, Table, sealing};
use quorate_object::kek::FragmentId;
use quorate_object::{OpenStanzaError, ParsedHeader, Stanza};
use quorate_schemes::prf::{self, Combiner, Labels};
use quorate_schemes::sharing::{PublicShares, SigningShare, lagrange_at_zero};
use quorate_sdk::{FragmentLock, Profile, SecretVec};
use quorate_secret::{CustomerTerm, Fragment, PrfOutput, Secret};
use quorate_server::{KeySlots, RootKeySource};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_types::{Generation, ParticipantIndex, Threshold};
use quorate_wire::proto::store::v1::{Sealed, ShareRow};
use quorate_wire::{EncryptionContext, Label, strict};
use support::{Cluster, Place, Ran, noise, run};

const PASSPHRASE: &str = "four words of some length";

/// A profile of the administrator's with fragments of its own, so that tests can share a cluster.
struct Customer {
    cluster: Arc<Cluster>,
    profile: String,
    place: Place,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

impl Customer {
    /// With a key of this profile's name that requires a fragment.
    fn new(cluster: Arc<Cluster>, profile: &str) -> Self {
        let customer = Self { cluster, profile: profile.to_owned(), place: Place::new() };
        copy(&customer.cluster.place.at("home/quorate/profiles/admin"), &customer.directory());
        customer.place.file("passphrase", format!("{PASSPHRASE}\n"));
        let made =
            customer.run(["key", "create", profile, "-t", "2", "--fragment-required"]).json();
        assert_eq!(made["key"]["fragment_required"], true);
        customer
    }

    fn directory(&self) -> PathBuf {
        self.cluster.place.at(format!("home/quorate/profiles/{}", self.profile))
    }

    fn fragments(&self) -> PathBuf {
        self.directory().join("fragments")
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.with_input(b"", arguments)
    }

    /// Runs a command with nothing that unlocks fragments.
    fn with_input<S: AsRef<OsStr>>(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut command = self.cluster.as_in(&self.profile, self.place.path(), ["--json"]);
        command.env("QUORATE_KEY", &self.profile).args(arguments);
        run(command, input)
    }

    /// Runs a command with the passphrase.
    fn unlocked<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.unlocked_with(b"", arguments)
    }

    fn unlocked_with<S: AsRef<OsStr>>(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut command = self.cluster.as_in(&self.profile, self.place.path(), ["--json"]);
        command
            .env("QUORATE_KEY", &self.profile)
            .env("QUORATE_FRAGMENT_PASSPHRASE_FILE", self.place.at("passphrase"))
            .args(arguments);
        run(command, input)
    }

    /// Makes a fragment, and says its check value.
    fn create(&self) -> String {
        self.unlocked(["fragment", "create"]).json()["fragment"].as_str().unwrap().to_owned()
    }

    /// The profile as it is when everything about fragments is lost.
    fn lose_fragments(&self) {
        fs::remove_dir_all(self.fragments()).unwrap();
    }

    fn opens(&self, sealed: &str) -> bool {
        let opened = self.unlocked(["decrypt", sealed, "--output", "back", "--force"]);
        opened.code == Some(0) && fs::read(self.place.at("back")).unwrap() == b"theirs alone"
    }
}

#[test]
fn fragment_create_list_and_show() {
    let customer = Customer::new(Cluster::shared(), "made");
    // A key that requires a fragment refuses without one, before any node is asked.
    customer.place.file("a", b"theirs alone");
    customer.run(["encrypt", "a"]).failed(1, "key_fragment_required");
    assert!(!customer.place.at("a.quorate").exists());
    customer.run(["fragment", "create"]).failed(2, "usage");

    let id = customer.create();
    let shown = customer.run(["fragment", "show"]).json();
    assert_eq!(shown["fragment"], *id);
    assert_eq!(shown["unlocked_by"][0], "passphrase");
    let file = PathBuf::from(shown["file"].as_str().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(customer.fragments()).unwrap().mode() & 0o777, 0o700);

    // A second one, with a key file that is made.
    let second = customer.run(["fragment", "create", "--fragment-key-file", "fragment.key"]).json();
    assert_eq!(second["unlocked_by"][0], "key file");
    assert_eq!(fs::metadata(customer.place.at("fragment.key")).unwrap().mode() & 0o777, 0o600);
    let list = customer.run(["fragment", "list"]).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    // Two of them: one must be chosen, by its beginning.
    customer.unlocked(["encrypt", "a"]).failed(2, "fragment_unclear");
    customer.run(["fragment", "show"]).failed(2, "usage");
    let begins = &id["fragment-".len()..][..6];
    assert_eq!(customer.run(["fragment", "show", begins]).json()["fragment"], *id);
    customer.unlocked(["encrypt", "a", "--fragment", begins]).ok();
    let inspected = customer.run(["inspect", "a.quorate"]).json();
    assert!(inspected.to_string().contains(&id), "{inspected}");
    // The key says that it requires one.
    let key = customer.run(["key", "show", "made"]).json();
    assert_eq!(key["fragment_required"], true);
}

#[test]
fn fragment_backup_to_files_lost_and_restored_from_two_of_three() {
    let customer = Customer::new(Cluster::shared(), "files");
    let id = customer.create();
    customer.place.file("a", b"theirs alone");
    customer.unlocked(["encrypt", "a"]).ok();
    assert!(customer.opens("a.quorate"));

    let backup = ["fragment", "backup", "-t", "2", "-s", "3", "--output", "shares"];
    customer.run(backup).failed(2, "fragment_locked");
    let made = customer.unlocked(backup).json();
    assert_eq!(made["fragment"], *id);
    assert_eq!(made["threshold"], 2);
    let shares: Vec<&str> =
        made["shares"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    for (at, share) in shares.iter().enumerate() {
        let path = customer.place.at(share);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        // Each names the fragment, itself and how many are needed.
        assert!(text.contains(&id) && text.contains(&format!("share {} of 3", at + 1)), "{text}");
        assert!(text.contains("Any 2 of the 3"), "{text}");
    }
    // Shares of an older backup are never replaced.
    customer.unlocked(["fragment", "backup", "-t", "2", "-s", "17", "-o", "x"]).failed(2, "usage");
    customer.unlocked(["fragment", "backup", "-t", "1", "-s", "3", "-o", "x"]).failed(2, "usage");
    assert!(!customer.place.at("x").exists());
    customer.unlocked(backup).failed(7, "output_exists");

    customer.lose_fragments();
    let failed = customer.unlocked(["decrypt", "a.quorate", "-o", "back", "--force"]);
    failed.failed(5, "fragment_missing");
    failed.names(&id);

    // One share is not enough, and two files of one share are one share.
    let short = customer.unlocked(["fragment", "restore", shares[1], shares[1]]);
    short.failed(5, "fragment_shares");
    short.names("2 shares").names(&id).names("index 2");
    assert!(!customer.fragments().exists());
    for pair in [[0, 2], [1, 0]] {
        let restored =
            customer.unlocked(["fragment", "restore", shares[pair[0]], shares[pair[1]]]).json();
        assert_eq!(restored["fragment"], *id);
        assert!(customer.opens("a.quorate"));
        customer
            .unlocked(["fragment", "restore", shares[0], shares[1]])
            .failed(2, "fragment_exists");
        customer.lose_fragments();
    }
}

#[test]
fn fragment_backup_on_paper_typed_again_with_a_slip_that_is_named() {
    let customer = Customer::new(Cluster::shared(), "paper");
    let id = customer.create();
    customer.place.file("a", b"theirs alone");
    customer.unlocked(["encrypt", "a"]).ok();
    let pages =
        customer.unlocked(["fragment", "backup", "-t", "2", "-s", "3", "--paper"]).ok().text();
    let pages: Vec<&str> = pages.split('\x0c').collect();
    assert_eq!(pages.len(), 3);
    customer.lose_fragments();

    // What a person types: numbered lines, small letters, blanks.
    let typed = |page: &str| -> String {
        let lines = page.lines().filter(|l| l.as_bytes().get(1) == Some(&b':'));
        lines.map(|l| format!("{}\n", l.to_lowercase().replace('-', " "))).collect()
    };
    let one = typed(pages[0]);
    assert_eq!(one.lines().count(), 4);
    let mut slipped: Vec<String> = typed(pages[2]).lines().map(str::to_owned).collect();
    let wrong = if slipped[2].ends_with('5') { '6' } else { '5' };
    slipped[2].pop();
    slipped[2].push(wrong);
    let slipped = slipped.join("\n");
    let restore =
        |text: &str| customer.unlocked_with(text.as_bytes(), ["fragment", "restore", "-"]);
    let failed = restore(&format!("{one}\n{slipped}\n"));
    failed.failed(5, "fragment_shares");
    failed.names("share 3: line 3 has a mistake in it").names("2 shares");
    // With another good one it is enough, and the damaged one is named all the same.
    let restored = restore(&format!("{one}\n{slipped}\n{}", typed(pages[1])));
    assert_eq!(restored.json()["fragment"], *id);
    restored.names("share 3: line 3");
    assert!(customer.opens("a.quorate"));
    restore("nothing of the kind").failed(5, "fragment_shares");
}

#[test]
fn fragment_missing_wrong_and_locked_are_told_apart() {
    let customer = Customer::new(Cluster::shared(), "wrong");
    let id = customer.create();
    customer.place.file("a", b"theirs alone");
    customer.unlocked(["encrypt", "a"]).ok();
    let decrypt = ["decrypt", "a.quorate", "--output", "back"];
    // Nothing unlocks it, and a wrong passphrase does not.
    customer.run(decrypt).failed(2, "fragment_locked");
    let kept = fs::read(customer.place.at("passphrase")).unwrap();
    customer.place.file("passphrase", "another\n");
    let wrong = customer.unlocked(decrypt);
    wrong.failed(2, "fragment_locked");
    wrong.names(&id).names("passphrase");
    customer.place.file("passphrase", &kept);

    // Another fragment than the one that the object names.
    customer.lose_fragments();
    let other = customer.create();
    assert_ne!(id, other);
    for command in [
        &decrypt[..],
        &["decrypt", "a.quorate", "--output", "-"],
        &["decrypt", "a.quorate", "--output", "back", "--range", "0..3"],
    ] {
        let missing = customer.unlocked(command);
        missing.failed(5, "fragment_missing");
        missing.names(&id);
        assert!(missing.stdout.is_empty() && !customer.place.at("back").exists());
    }
    let rewrapped = customer.unlocked(["rewrap", "a.quorate"]);
    assert_eq!(rewrapped.code, Some(6));
    assert!(rewrapped.text().contains("fragment_missing"), "{}", rewrapped.all());
    // A context that is wrong is not taken for a missing fragment.
    customer.unlocked(["encrypt", "a", "-c", "x=1", "-o", "c"]).ok();
    customer.unlocked(["decrypt", "c", "-o", "back"]).failed(5, "object_wrong_context");
}

#[test]
fn fragment_data_keys_and_rewrapping_to_another_fragment() {
    let customer = Customer::new(Cluster::shared(), "rotated");
    let old = customer.create();
    customer.place.file("a", b"theirs alone");
    customer.unlocked(["encrypt", "a"]).ok();
    let before = fs::read(customer.place.at("a.quorate")).unwrap();

    let lines = |ran: &Ran| -> Vec<String> { serde_json::from_value(ran.json()).unwrap() };
    let made = customer.unlocked(["datakey", "generate"]).json();
    let key = BASE64.encode(&noise(7, 32));
    let wrapped = lines(&customer.unlocked_with(key.as_bytes(), ["datakey", "wrap"]));
    let (generated, plain) =
        (made[0]["wrapped"].as_str().unwrap(), made[0]["plaintext"].as_str().unwrap());
    let both = format!("{generated}\n{}\n", wrapped[0]);
    let unwrap = |text: &str| customer.unlocked_with(text.as_bytes(), ["datakey", "unwrap"]);
    assert_eq!(lines(&unwrap(&both)), [plain, &key]);
    customer.with_input(key.as_bytes(), ["datakey", "wrap"]).failed(2, "fragment_locked");
    customer.with_input(both.as_bytes(), ["datakey", "unwrap"]).failed(2, "fragment_locked");
    // Nothing to change: they come back as they are.
    let rewrap = |text: &str, more: &[&str]| {
        let arguments = [&["datakey", "rewrap"], more].concat();
        customer.unlocked_with(text.as_bytes(), arguments)
    };
    assert_eq!(lines(&rewrap(&both, &[])), both.lines().collect::<Vec<_>>());

    // Key and fragment are rotated, together and one by one.
    customer.run(["key", "rotate", "rotated"]).ok();
    let newer = lines(&rewrap(&both, &[]));
    assert_ne!(newer, both.lines().collect::<Vec<_>>());
    let new = customer.create();
    let moved = lines(&rewrap(&newer.join("\n"), &["--fragment", &new]));
    let again = lines(&rewrap(&moved.join("\n"), &["--fragment", &new]));
    assert_eq!(again, moved);
    let rewrapped = customer.unlocked(["rewrap", "a.quorate", "--fragment", &new]).json();
    assert_eq!(rewrapped["rewrapped"], 1);
    let after = fs::read(customer.place.at("a.quorate")).unwrap();
    let payload = |file: &[u8]| file[ParsedHeader::parse(file).unwrap().length()..].to_vec();
    assert_eq!(payload(&before), payload(&after));
    let named = |file: &[u8]| ParsedHeader::parse(file).unwrap().stanzas()[0].fragment().unwrap();
    assert_eq!((named(&before).to_string(), named(&after).to_string()), (old.clone(), new.clone()));

    // The old fragment is not needed any more; what was not moved needs it still.
    let hex = old.strip_prefix("fragment-").unwrap();
    fs::remove_file(customer.fragments().join(format!("{hex}.json"))).unwrap();
    assert!(customer.opens("a.quorate"));
    assert_eq!(lines(&unwrap(&moved.join("\n"))), [plain, &key]);
    let gone = unwrap(&both);
    gone.failed(5, "fragment_missing");
    gone.names(&old).names("line 1");
    // A line that is no wrapped key fails all, and is named.
    let bad = rewrap(&format!("{}\nAAAA", moved[0]), &[]);
    bad.failed(5, "object_format");
    bad.names("line 2");
}

// What whoever has all nodes' disks and root keys computes.

/// Every secret that the nodes seal, opened, and the share rows of one key version.
struct Stolen {
    secrets: Vec<Vec<u8>>,
    shares: Vec<(Vec<u8>, u32, SigningShare)>,
}

fn steal(cluster: &Cluster) -> Stolen {
    let mut stolen = Stolen { secrets: Vec::new(), shares: Vec::new() };
    for node in &cluster.nodes {
        let key_file = RootKeySource::KeyFile(node.key_file.clone());
        let root = KeySlots::load(&node.data).unwrap().unlock(&key_file).unwrap();
        stolen.secrets.push(root.reveal().to_vec());
        let store = SqliteStore::open(&node.data, &SqliteOptions::default()).unwrap();
        for table in [Table::Shares, Table::Local] {
            let read = Read::Range { table, prefix: Vec::new(), after: None, limit: 10_000 };
            let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
            for entry in entries {
                let bytes = entry.bytes().unwrap();
                let row: Option<ShareRow> =
                    (table == Table::Shares).then(|| strict::decode("row", bytes).unwrap());
                let sealed: Option<Sealed> = match &row {
                    Some(row) => row.share.clone(),
                    None => strict::decode("row", bytes).ok(),
                };
                let Some(Ok(secret)) = sealed.map(|s| sealing::open(&root, entry.key(), &s)) else {
                    continue;
                };
                stolen.secrets.push(secret.reveal().to_vec());
                if let Some(row) = row {
                    let share = Secret::from_slice(secret.reveal()).unwrap();
                    let share = SigningShare::from_bytes(&share).unwrap();
                    stolen.shares.push((entry.key().key.clone(), row.index, share));
                }
            }
        }
    }
    stolen
}

impl Stolen {
    /// K itself, from any two of the three shares; all pairs agree.
    fn key_of(&self, stanza: &Stanza) -> Scalar {
        let of = Threshold::new(2, 3).unwrap();
        let key = stanza.facts().key;
        let shares: Vec<(ParticipantIndex, &Scalar)> = self
            .shares
            .iter()
            .filter(|(row, ..)| row.starts_with(key.as_bytes()))
            .map(|(_, index, share)| (ParticipantIndex::new(*index, of).unwrap(), share.reveal()))
            .collect();
        assert_eq!(shares.len(), 3);
        let whole = |pair: [usize; 2]| {
            let pair = pair.map(|at| shares[at]);
            let lambdas = lagrange_at_zero(&pair.map(|(index, _)| index)).unwrap();
            lambdas.iter().zip(pair).map(|(lambda, (_, share))| lambda * share).sum::<Scalar>()
        };
        assert_eq!(whole([0, 1]), whole([1, 2]));
        assert_eq!(whole([0, 1]), whole([0, 2]));
        whole([0, 1])
    }

    /// What the nodes would answer for a label: the whole key's PRF output.
    fn prf(&self, stanza: &Stanza, label: &Label) -> PrfOutput {
        let mut key = self.key_of(stanza);
        let one = Threshold::new(1, 1).unwrap();
        let public =
            PublicShares::from_commitments(one, &[RistrettoPoint::mul_base(&key)]).unwrap();
        let labels = [label.canonical_bytes()];
        let labels = Labels::new(&labels).unwrap();
        let generation = Generation::from_bytes([0; 32]);
        let share = SigningShare::take(&mut key).unwrap();
        let partials = prf::evaluate(&share, &labels).unwrap().partials;
        let mut combiner = Combiner::new(generation, &public, &labels);
        let index = ParticipantIndex::new(1, one).unwrap();
        combiner.add_unproved(index, generation, &partials).unwrap();
        combiner.finish().unwrap().remove(0)
    }

    /// Opens the data key of an object, with this customer term or none.
    fn open(&self, file: &[u8], term: Option<&CustomerTerm>) -> Result<(), String> {
        let header = ParsedHeader::parse(file).unwrap();
        let stanza = &header.stanzas()[0];
        let label = stanza.label(Some(&EncryptionContext::default())).unwrap();
        let prf = self.prf(stanza, &label);
        let kek = stanza.kek(&label, &prf, term).map_err(|e| e.to_string())?;
        let data_key = header.open_stanza(0, &kek).map_err(|e| e.to_string())?;
        header.authenticate(data_key).map(drop).map_err(|e| e.to_string())
    }
}

/// Every file below a folder, whole.
fn all_bytes(folder: &Path, into: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all_bytes(&path, into),
            false => into.push(fs::read(path).unwrap()),
        }
    }
}

/// Whoever has the disks, databases and root keys of all nodes, and the keys of all administrators,
/// reconstructs K and computes what all nodes together would answer. Objects without a fragment open so:
/// that is what shows the attempt to be a real one. Of those with a fragment, none does; and with the
/// fragment each does, so what was missing is the fragment alone. Leaving the customer term out of the KEK
/// opens them all (tried).
#[test]
fn attack_35_all_disks_root_keys_and_administrators_open_nothing() {
    const OBJECTS: usize = 5;
    let mut cluster = Cluster::start(2, 3);
    cluster.admin(["key", "create", "bound", "-t", "2", "--fragment-required"]).ok();
    let customer = Customer {
        cluster: Arc::new(cluster),
        profile: "customer".to_owned(),
        place: Place::new(),
    };
    copy(&customer.cluster.place.at("home/quorate/profiles/admin"), &customer.directory());
    customer.place.file("passphrase", format!("{PASSPHRASE}\n"));
    let id: FragmentId = customer.create().parse().unwrap();
    for n in 0..OBJECTS {
        let name = format!("{n}");
        customer.place.file(&name, b"theirs alone");
        for key in ["docs", "bound"] {
            let output = format!("{key}-{n}.quorate");
            customer.unlocked(["encrypt", &name, "--key", key, "--output", &output]).ok();
        }
    }
    let wrapped = customer.unlocked(["datakey", "generate", "--key", "bound"]).json();
    // For the check at the end: the attacker has neither of these.
    let lock = FragmentLock::Passphrase(SecretVec::new(PASSPHRASE.into()));
    let profile = Profile::open(customer.directory()).unwrap();
    let fragment = profile.fragments().unlock(id, &lock).unwrap();
    let Customer { cluster: shared, place, .. } = customer;
    let administrators = shared.place.at("home/quorate/profiles/admin");
    cluster = Arc::into_inner(shared).unwrap();
    for node in &mut cluster.nodes {
        node.stop();
    }

    let stolen = steal(&cluster);
    assert_eq!(stolen.shares.len(), 6);
    let object = |key: &str, n: usize| fs::read(place.at(format!("{key}-{n}.quorate"))).unwrap();
    let opened = |key: &str, term: Option<&CustomerTerm>| {
        (0..OBJECTS).filter(|n| stolen.open(&object(key, *n), term).is_ok()).count()
    };
    assert_eq!(opened("docs", None), OBJECTS, "the attempt opens what has no fragment");
    assert_eq!(opened("bound", None), 0);
    let refused = stolen.open(&object("bound", 0), None).unwrap_err();
    assert!(refused.contains(&id.to_string()), "{refused}");

    // Everything that they have, taken for the fragment or for its term: no secret of a node or an
    // administrator, K itself, and no 32 bytes of any of their files.
    let mut files = Vec::new();
    for node in &cluster.nodes {
        all_bytes(&node.data, &mut files);
        files.push(fs::read(&node.key_file).unwrap());
    }
    all_bytes(&administrators, &mut files);
    let file = object("bound", 0);
    let header = ParsedHeader::parse(&file).unwrap();
    let stanza = &header.stanzas()[0];
    let label = stanza.label(Some(&EncryptionContext::default())).unwrap();
    let prf = stolen.prf(stanza, &label);
    let mut secrets = stolen.secrets.clone();
    secrets.push(stolen.key_of(stanza).to_bytes().to_vec());
    secrets.push(prf.reveal()[..32].to_vec());
    secrets.push(prf.reveal()[32..].to_vec());
    secrets.push(vec![0; 32]);
    for guess in secrets.iter().flat_map(|secret| secret.windows(32)) {
        let guess = || Secret::from_slice(guess).unwrap();
        let fragment = Fragment::new(guess());
        assert_ne!(FragmentId::of(&fragment), id);
        let terms =
            [CustomerTerm::new(guess()), quorate_object::kek::customer_term(&fragment, &label)];
        for term in &terms {
            let kek = stanza.kek(&label, &prf, Some(term)).unwrap();
            assert_eq!(header.open_stanza(0, &kek).unwrap_err(), OpenStanzaError::WrongKey);
        }
    }
    let forms = [
        fragment.reveal().to_vec(),
        HEXLOWER.encode(fragment.reveal()).into_bytes(),
        BASE64.encode(fragment.reveal()).into_bytes(),
    ];
    for bytes in &files {
        for form in &forms {
            assert!(!bytes.windows(form.len()).any(|w| w == &form[..]));
        }
    }
    // The fragment is all that was missing: with it, and without any node, every object opens.
    for n in 0..OBJECTS {
        let file = object("bound", n);
        let header = ParsedHeader::parse(&file).unwrap();
        let label = header.stanzas()[0].label(Some(&EncryptionContext::default())).unwrap();
        let term = header.stanzas()[0].customer_term(&fragment, &label).unwrap();
        assert_eq!(stolen.open(&file, Some(&term)), Ok(()));
    }
    // Wrapped data keys are the same stanza.
    let wrapped = BASE64.decode(wrapped[0]["wrapped"].as_str().unwrap().as_bytes()).unwrap();
    let wrapped = quorate_object::WrappedDataKey::parse(&wrapped).unwrap();
    let label = wrapped.stanza().label(Some(&EncryptionContext::default())).unwrap();
    let prf = stolen.prf(wrapped.stanza(), &label);
    assert!(wrapped.stanza().kek(&label, &prf, None).is_err());

    // And through the front door: administrators' keys, nodes that answer, no fragment.
    for node in &mut cluster.nodes {
        node.start();
    }
    let at = |arguments: &[&str]| cluster.at(&place, arguments);
    for n in 0..OBJECTS {
        let sealed = format!("bound-{n}.quorate");
        at(&["decrypt", &sealed, "--output", "stolen"]).failed(5, "fragment_missing");
        assert!(!place.at("stolen").exists());
    }
    at(&["decrypt", "docs-0.quorate", "--output", "stolen"]).ok();
}
