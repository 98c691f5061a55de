//! What a key is to be, however it was asked for.

use quorate_sdk::{Client, Jurisdiction, KeySpecRequest};

use crate::failure::{Code, Failure, Outcome};

/// Seconds after which a key's shares may be refreshed without a further order, as `key create` has it by default.
const REFRESH_SECONDS: u64 = 30 * 86_400;

/// What a key is to be.
#[derive(Debug)]
pub struct Spec {
    pub alias: String,
    /// A majority of the nodes that may hold its shares, where it is not said.
    pub threshold: Option<u16>,
    /// Where shares may be; empty for anywhere.
    pub jurisdictions: Vec<Jurisdiction>,
    pub fragment_required: bool,
}

/// Jurisdictions by their codes.
pub fn jurisdictions(codes: &[String]) -> Outcome<Vec<Jurisdiction>> {
    let read = codes.iter().map(|code| code.parse::<Jurisdiction>()).collect::<Result<_, _>>();
    read.map_err(|e| Failure::new(Code::Usage, e.to_string()))
}

/// The key that nodes are asked for.
pub fn request(client: &Client, spec: Spec, allow_fragile: bool) -> Outcome<KeySpecRequest> {
    let Spec { alias, threshold, jurisdictions, fragment_required } = spec;
    let allowed = |law| jurisdictions.is_empty() || jurisdictions.contains(law);
    let nodes = client.roster().nodes.iter();
    let n = nodes.filter(|node| allowed(&node.jurisdiction)).count();
    let n = u16::try_from(n).unwrap_or(u16::MAX);
    if n == 0 {
        let why = "no node of the cluster is where the key's shares may be";
        return Err(Failure::new(Code::Usage, why));
    }
    let threshold = threshold.unwrap_or(n / 2 + 1);
    if threshold == n && n > 1 && !allow_fragile {
        let why = format!(
            "the key would be fragile: all {n} nodes would have to answer, and losing one would lose it"
        );
        return Err(Failure::new(Code::Usage, why)
            .next("Choose a lower --threshold, or add --allow-fragile."));
    }
    Ok(KeySpecRequest {
        alias,
        threshold,
        allow_fragile,
        jurisdictions,
        fragment_required,
        refresh_seconds: REFRESH_SECONDS,
        ..KeySpecRequest::default()
    })
}
