//! `spec/vectors/fragment-backup.json`: what the code makes, and what it does with what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests share fails loudly")]

#[path = "vectors/fragment_backup.rs"]
mod vectors;

use std::path::Path;

use data_encoding::HEXLOWER;
use quorate_object::fragment::{RestoreError, Share, ShareError, restore};
use quorate_object::kek::FragmentId;
use serde_json::Value;

fn file() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/fragment-backup.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(lines: &Value) -> String {
    lines.as_array().unwrap().iter().map(|l| format!("{}\n", l.as_str().unwrap())).collect()
}

/// A changed line is a change of format, which a release never makes.
#[test]
fn the_file_is_what_the_code_makes() {
    assert_eq!(file(), vectors::build());
}

#[test]
fn every_backup_restores_from_every_pair_or_triple() {
    for backup in file()["backups"].as_array().unwrap() {
        let shares = backup["shares"].as_array().unwrap();
        let threshold = backup["threshold"].as_u64().unwrap() as usize;
        for skip in 0..shares.len() {
            let some = shares.iter().cycle().skip(skip).take(threshold);
            let texts: String = some.map(|share| text(&share["lines"])).collect();
            let read: Vec<Share> =
                Share::read_all(&texts).into_iter().map(Result::unwrap).collect();
            let back = restore(&read).unwrap();
            assert_eq!(HEXLOWER.encode(back.fragment.reveal()), backup["fragment"]);
            assert_eq!(FragmentId::of(&back.fragment).to_string(), backup["check_value"]);
            assert!(restore(&read[1..]).is_err());
        }
    }
}

#[test]
fn every_damaged_share_is_refused_for_its_reason() {
    let file = file();
    for rejected in file["rejected"].as_array().unwrap() {
        let shares = Share::read_all(&text(&rejected["lines"]));
        let error = match shares.into_iter().collect::<Result<Vec<_>, ShareError>>() {
            Err(error) => error.to_string(),
            Ok(shares) => {
                let error = restore(&shares).unwrap_err();
                assert_ne!(error, RestoreError::None);
                error.to_string()
            }
        };
        assert_eq!(error, rejected["error"], "{}", rejected["name"]);
    }
}
