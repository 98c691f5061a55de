//! Keys that a file names, a part at a time: hundreds of thousands of them are in memory at no time.

use std::collections::BTreeSet;
use std::path::Path;

use quorate_sdk::{Client, Error, Key, KeyId, NodeId};

use crate::commands::refresh::ids;
use crate::failure::Outcome;

/// Keys of a file that are looked at, ordered and dealt anew before the next are.
const PART: usize = 512;

/// Keys that are gone through together.
pub enum Part {
    /// Those that are named; all that the profile sees where none is.
    Chosen,
    /// Those of a file.
    Listed(Vec<KeyId>),
}

/// The parts of what was chosen. Nothing is done of a file that names what is no key.
pub fn parts(file: Option<&Path>) -> Outcome<Vec<Part>> {
    let Some(path) = file else { return Ok(vec![Part::Chosen]) };
    let mut ids = ids(path)?;
    // Two orders of one key that know nothing of one another would contend.
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids.chunks(PART).map(|ids| Part::Listed(ids.to_vec())).collect())
}

/// The keys of these ids, and those that could not be looked up. Nodes that are to get shares are brought what they lack
/// of them.
pub async fn found(
    client: &Client,
    ids: &[KeyId],
    to: &[NodeId],
) -> (Vec<Key>, Vec<(KeyId, Error)>) {
    let (mut keys, mut failed) = (Vec::with_capacity(ids.len()), Vec::new());
    for (id, key) in ids.iter().zip(client.keys_of(ids, to).await) {
        match key {
            Ok(key) => keys.push(key),
            Err(error) => failed.push((*id, error)),
        }
    }
    (keys, failed)
}
