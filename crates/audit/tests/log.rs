//! Properties of proofs, and what replaying an exported log finds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use quorate_audit::{
    Checkpoint, CheckpointError, Hash, Leaf, LogId, LogSigner, MemoryNodes, Note, NoteError,
    Replay, ReplayError, SignedCheckpoint, consistency, frontier, inclusion, root,
    verify_consistency, verify_inclusion,
};
use quorate_secret::{Secret, SigningSeed};
use quorate_types::{ClusterId, NodeId, UnixSeconds};
use quorate_wire::SigningKey;

fn record(n: u64) -> Vec<u8> {
    format!("record {n}").into_bytes()
}

fn log(size: u64) -> MemoryNodes {
    let mut nodes = MemoryNodes::new();
    (0..size).for_each(|n| nodes.push(Hash::of_leaf(&record(n))));
    nodes
}

fn signer(byte: u8, incarnation: u64) -> LogSigner {
    let key = SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|bytes| bytes.fill(byte))));
    let log = LogId {
        cluster: ClusterId::from_bytes([9; 32]),
        node: NodeId::from_bytes([byte; 16]),
        incarnation,
    };
    LogSigner::new(log, key)
}

/// Every proof of every log of up to 70 records, by the checks of the standard; and none of them with
/// another place, another root, a hash more or less, or a hash changed.
#[test]
fn proofs_show_what_they_show_and_nothing_else() {
    let nodes = log(70);
    for size in 1..=70 {
        let head = root(&nodes, size).unwrap();
        let wrong = Hash::of_leaf(b"wrong");
        assert_eq!(frontier(&nodes, size).unwrap().root(), head);
        for at in 0..size {
            let leaf = Hash::of_leaf(&record(at));
            let path = inclusion(&nodes, at, size).unwrap();
            verify_inclusion(&leaf, at, size, &path, &head).unwrap();
            assert!(verify_inclusion(&wrong, at, size, &path, &head).is_err());
            assert!(verify_inclusion(&leaf, at, size, &path, &wrong).is_err());
            assert!(verify_inclusion(&leaf, size, size, &path, &head).is_err());
            if at > 0 {
                assert!(verify_inclusion(&leaf, at - 1, size, &path, &head).is_err());
            }
            for broken in broken(&path, wrong) {
                assert!(verify_inclusion(&leaf, at, size, &broken, &head).is_err());
            }
        }
        for old in 0..=size {
            let before = root(&nodes, old).unwrap();
            let path = consistency(&nodes, old, size).unwrap();
            verify_consistency(old, size, &path, &before, &head).unwrap();
            assert!(verify_consistency(old, size, &path, &wrong, &head).is_err());
            if old > 0 {
                assert!(verify_consistency(old, size, &path, &before, &wrong).is_err());
            }
            for broken in broken(&path, wrong) {
                assert!(verify_consistency(old, size, &broken, &before, &head).is_err());
            }
        }
        assert!(inclusion(&nodes, size, size).is_err());
        assert!(consistency(&nodes, size + 1, size).is_err());
    }
}

fn broken(path: &[Hash], wrong: Hash) -> Vec<Vec<Hash>> {
    let mut all = vec![[path, &[wrong]].concat()];
    for at in 0..path.len() {
        let mut changed = path.to_vec();
        changed[at] = wrong;
        all.push(changed);
        let mut shorter = path.to_vec();
        shorter.remove(at);
        all.push(shorter);
        let mut swapped = path.to_vec();
        swapped.swap(at, 0);
        if at > 0 && path[at] != path[0] {
            all.push(swapped);
        }
    }
    all
}

proptest! {
    /// A log that lost or changed a record extends no checkpoint from after it.
    #[test]
    fn a_changed_log_extends_nothing(size in 2u64..300, changed in 0u64..300, old in 1u64..300) {
        let (changed, old) = (changed % size, 1 + old % size);
        let honest = log(size);
        let mut other = MemoryNodes::new();
        for n in 0..size {
            let bytes = if n == changed { b"another".to_vec() } else { record(n) };
            other.push(Hash::of_leaf(&bytes));
        }
        let before = root(&honest, old).unwrap();
        let path = consistency(&other, old, size).unwrap();
        let extends = verify_consistency(old, size, &path, &before, &other.root());
        prop_assert_eq!(extends.is_ok(), changed >= old);
    }

    /// Whatever bytes come, reading them ends in a note or in an error.
    #[test]
    fn any_bytes_are_a_note_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
        }
    }
}

fn checkpoint(nodes: &MemoryNodes, size: u64) -> Checkpoint {
    let signed = signer(1, 0).sign(size, root(nodes, size).unwrap());
    signed.checkpoint().clone()
}

/// `attacks.md` line 31, with nothing but the exported records and the marks that clients hold: every
/// record up to the last mark, flipped, dropped, doubled, swapped or cut off. Fails when `Replay` compares
/// with no mark on the way, and when `finish` does not ask for all of them (both tried).
#[test]
fn attack_31_any_record_changed_up_to_the_last_mark_is_found_offline() {
    const SIZE: u64 = 41;
    const MARK: u64 = 37;
    let nodes = log(SIZE);
    let marks = [checkpoint(&nodes, 11), checkpoint(&nodes, MARK)];
    let honest: Vec<Vec<u8>> = (0..SIZE).map(record).collect();
    let replayed = |first: u64, records: &[Vec<u8>]| -> Result<u64, ReplayError> {
        let before = frontier(&nodes, first).unwrap().hashes().to_vec();
        let marks: Vec<_> = marks.iter().filter(|mark| mark.size >= first).cloned().collect();
        let mut replay = Replay::new(first, before, &marks)?;
        for (index, record) in (first..).zip(records) {
            replay.push(index, &Leaf::Record(record))?;
        }
        replay.finish()
    };
    for first in [0, 5, 11, 20] {
        let from = usize::try_from(first).unwrap();
        let honest = &honest[from..];
        assert_eq!(replayed(first, honest), Ok(SIZE - first));
        let last = usize::try_from(MARK - first).unwrap();
        for at in 0..last {
            let mut flipped = honest.to_vec();
            flipped[at][0] ^= 1;
            assert!(matches!(replayed(first, &flipped), Err(ReplayError::Changed { .. })));
            let mut dropped = honest.to_vec();
            dropped.remove(at);
            assert!(matches!(replayed(first, &dropped), Err(ReplayError::Changed { .. })));
            // The last one doubled is a record that comes after the mark.
            let mut doubled = honest.to_vec();
            doubled.insert(at, honest[at].clone());
            let found = matches!(replayed(first, &doubled), Err(ReplayError::Changed { .. }));
            assert_eq!(found, at + 1 < last);
            let mut swapped = honest.to_vec();
            swapped.swap(at, at + 1);
            assert!(matches!(replayed(first, &swapped), Err(ReplayError::Changed { .. })));
            let cut = replayed(first, &honest[..at]);
            assert!(matches!(cut, Err(ReplayError::Truncated { mark: MARK, .. })), "{cut:?}");
        }
        // Past the last mark nothing is promised but that it is there to be asked for.
        assert_eq!(replayed(first, &honest[..last]), Ok(MARK - first));
    }
}

#[test]
fn attack_31_a_segment_that_misnames_its_beginning_is_found() {
    let nodes = log(20);
    let before = frontier(&nodes, 12).unwrap().hashes().to_vec();
    let marks = [checkpoint(&nodes, 20)];
    let mut other = before.clone();
    other.swap(0, 1);
    for (first, before) in [(12, other), (12, before[..1].to_vec()), (13, before.clone())] {
        let outcome = Replay::new(first, before, &marks).and_then(|mut replay| {
            (12..20).try_for_each(|n| replay.push(n, &Leaf::Record(&record(n))))
        });
        assert!(outcome.is_err());
    }
    let mut replay = Replay::new(12, before.clone(), &marks).unwrap();
    assert_eq!(
        replay.push(13, &Leaf::Record(&record(13))),
        Err(ReplayError::Gap { expected: 12, found: 13 })
    );
    let early = [checkpoint(&nodes, 11)];
    assert_eq!(
        Replay::new(12, before, &early).err(),
        Some(ReplayError::Before { first: 12, mark: 11 })
    );
}

#[test]
fn hashes_stand_in_for_the_records_of_others() {
    let nodes = log(9);
    let mut replay = Replay::new(0, Vec::new(), &[checkpoint(&nodes, 9)]).unwrap();
    for n in 0..9 {
        let bytes = record(n);
        let leaf =
            if n % 2 == 0 { Leaf::Record(&bytes) } else { Leaf::Hash(Hash::of_leaf(&bytes)) };
        replay.push(n, &leaf).unwrap();
    }
    assert_eq!(replay.frontier().root(), nodes.root());
    assert_eq!(replay.finish(), Ok(9));
}

#[test]
fn a_checkpoint_counts_for_its_log_its_key_and_its_incarnation() {
    let one = signer(1, 5);
    let signed = one.sign(3, log(3).root());
    let bytes = signed.to_bytes();
    let read = SignedCheckpoint::verify(&bytes, one.log(), &one.public()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.checkpoint().origin.parse(), Ok(*one.log()));
    // The same each time.
    assert_eq!(one.sign(3, log(3).root()).to_bytes(), bytes);

    let later = signer(1, 6);
    let other = SignedCheckpoint::verify(&bytes, later.log(), &one.public());
    assert_eq!(other, Err(CheckpointError::Origin));
    let stranger = SignedCheckpoint::verify(&bytes, one.log(), &signer(2, 5).public());
    assert_eq!(stranger, Err(CheckpointError::Signature));
}

/// While one key takes another's place both sign, and whoever knows one of them can verify; afterwards the
/// one before does not sign any more.
#[test]
fn both_keys_sign_while_one_takes_the_others_place() {
    let (old, new) = (signer(1, 5).public(), signer(2, 5).public());
    let seed = |byte: u8| {
        let seed = quorate_secret::Secret::from_fn(|bytes| bytes.fill(byte));
        quorate_wire::SigningKey::from_seed(quorate_secret::SigningSeed::new(seed))
    };
    let both = LogSigner::new(*signer(1, 5).log(), seed(1)).with_keys([seed(2)]);
    let verifies = |bytes: &[u8], key: &quorate_wire::PublicKey| {
        SignedCheckpoint::verify(bytes, both.log(), key).is_ok()
    };
    let sign = || both.sign(3, log(3).root()).to_bytes();
    assert!(verifies(&sign(), &old) && !verifies(&sign(), &new));
    both.sign_with(&[new, old]);
    assert_eq!(both.publics(), [old, new]);
    assert!(verifies(&sign(), &old) && verifies(&sign(), &new));
    let kept = SignedCheckpoint::verify_any(&sign(), both.log(), &[new, old]).unwrap();
    let (kept, _) = kept.with_cosignatures_of(&[new, old], &[]);
    assert!(verifies(&kept.to_bytes(), &old) && verifies(&kept.to_bytes(), &new));
    both.sign_with(&[new]);
    assert!(!verifies(&sign(), &old) && verifies(&sign(), &new));
    // A log always signs.
    both.sign_with(&[signer(3, 5).public()]);
    assert_eq!(both.publics(), [new]);

    let mut cosigned = signer(3, 0).sign(3, log(3).root());
    both.sign_with(&[new, old]);
    both.cosign(&mut cosigned, UnixSeconds(9));
    let name = both.log().to_string();
    assert!([old, new].iter().all(|key| cosigned.cosigned_by(&name, key).is_some()));
}

#[test]
fn cosignatures_are_no_checkpoints_and_checkpoints_no_cosignatures() {
    let (log_signer, witness) = (signer(1, 0), signer(2, 0));
    let mut signed = log_signer.sign(3, log(3).root());
    assert_eq!(signed.cosigned_by(&witness.log().to_string(), &witness.public()), None);
    witness.cosign(&mut signed, UnixSeconds(77));
    // Its own cosignature is one of its own, and says nothing about anybody else.
    log_signer.cosign(&mut signed, UnixSeconds(78));
    let read = SignedCheckpoint::verify(&signed.to_bytes(), log_signer.log(), &log_signer.public())
        .unwrap();
    let name = witness.log().to_string();
    assert_eq!(read.cosigned_by(&name, &witness.public()), Some(UnixSeconds(77)));
    let foreign = SignedCheckpoint::verify(&signed.to_bytes(), witness.log(), &witness.public());
    assert_eq!(foreign, Err(CheckpointError::Origin));
    let (kept, counted) =
        read.with_cosignatures_of(&[log_signer.public()], &[(name, witness.public())]);
    assert_eq!(counted, [0]);
    assert_eq!(kept.to_bytes().split(|byte| *byte == b'\n').count(), 7);
}

#[test]
fn what_is_no_note_is_refused() {
    let good = signer(1, 0).sign(1, log(1).root()).to_bytes();
    let good = String::from_utf8(good).unwrap();
    assert!(Note::parse(good.as_bytes()).is_ok());
    let cases: [(String, NoteError); 7] = [
        (String::new(), NoteError::Form),
        (good.trim_end().to_owned(), NoteError::Form),
        (good.replace("\n\n", "\n"), NoteError::Form),
        (good.replace('\u{2014}', "-"), NoteError::Signature),
        (good.replace("quorate", "quo\trate"), NoteError::Text),
        (good.replace("\u{2014} quorate", "\u{2014} quo+rate"), NoteError::Signature),
        (format!("{good}\u{2014} short AAA=\n"), NoteError::Signature),
    ];
    for (bytes, error) in cases {
        assert_eq!(Note::parse(bytes.as_bytes()), Err(error), "{bytes:?}");
    }
    let line = good.rsplit_once("\n\n").unwrap().1;
    let many = format!("{good}{}", line.repeat(256));
    assert_eq!(Note::parse(many.as_bytes()), Err(NoteError::Count));
}
