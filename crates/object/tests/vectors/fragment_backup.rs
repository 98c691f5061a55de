//! Builds `spec/vectors/fragment-backup.json`.

use data_encoding::HEXLOWER;
use quorate_object::fragment::{Share, restore, split};
use quorate_object::kek::FragmentId;
use quorate_secret::{Fragment, Secret};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

fn lines(share: &Share) -> Vec<String> {
    share.lines().lines().map(str::to_owned).collect()
}

fn backup(byte: u8, threshold: u8, count: u8) -> (Vec<Share>, Value) {
    let fragment = Fragment::new(Secret::from_fn(|f| f.fill(byte)));
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(byte));
    let shares = split(&fragment, threshold, count, &mut rng).unwrap();
    let value = json!({
        "fragment": HEXLOWER.encode(fragment.reveal()),
        "check_value": FragmentId::of(&fragment).to_string(),
        "threshold": threshold,
        "count": count,
        "backup": shares[0].backup().to_string(),
        "shares": shares
            .iter()
            .map(|share| json!({ "index": share.index(), "lines": lines(share) }))
            .collect::<Vec<_>>(),
    });
    (shares, value)
}

fn rejected(name: &str, lines: Vec<String>) -> Value {
    let text = lines.join("\n");
    let read: Result<Vec<Share>, _> = Share::read_all(&text).into_iter().collect();
    let error = match read {
        Err(error) => error.to_string(),
        Ok(shares) => restore(&shares).unwrap_err().to_string(),
    };
    json!({ "name": name, "lines": lines, "error": error })
}

/// The whole file.
pub fn build() -> Value {
    let (two, two_value) = backup(0xf0, 2, 3);
    let (five, five_value) = backup(0x5a, 3, 5);
    let (again, _) = backup(0xf1, 2, 3);
    let with = |at: usize, change: &dyn Fn(&str) -> String| {
        let mut all = lines(&two[0]);
        all[at] = change(&all[at]);
        all
    };
    let changed = |line: &str| {
        let last = if line.ends_with('0') { '1' } else { '0' };
        format!("{}{last}", &line[..line.len() - 1])
    };
    let mixed = [&lines(&two[0])[..2], &lines(&two[1])[2..]].concat();
    json!({
        "format": "Quorate fragment backup, version 1: spec/sealed-object.md, section 13",
        "notes": [
            "Any `threshold` of a backup's shares restore the fragment; fewer are refused.",
            "A rejected text is read, and restored where each of its shares can be read.",
        ],
        "backups": [two_value, five_value],
        "rejected": [
            rejected("a wrong digit in line 1", with(0, &changed)),
            rejected("a wrong digit in line 3", with(2, &changed)),
            rejected("a digit left out", with(1, &|line| line[..line.len() - 1].to_owned())),
            rejected("a letter that is no digit", with(3, &|line| format!("{}U", &line[..line.len() - 1]))),
            rejected("lines 2 and 3 exchanged", {
                let all = lines(&two[0]);
                vec![
                    all[0].clone(),
                    format!("2{}", &all[2][1..]),
                    format!("3{}", &all[1][1..]),
                    all[3].clone(),
                ]
            }),
            rejected("a line left out", lines(&two[0])[..3].to_vec()),
            rejected("lines of two shares", mixed),
            rejected("one share of two that are needed", lines(&two[1])),
            rejected("the same share twice", [lines(&two[1]), lines(&two[1])].concat()),
            rejected("shares of two fragments", [lines(&two[0]), lines(&five[1])].concat()),
            rejected("shares of two other fragments", [lines(&two[0]), lines(&again[1])].concat()),
        ],
    })
}
