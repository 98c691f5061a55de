//! `quorate key create --batch` and `quorate key order`: keys by the thousand.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use quorate_sdk::{
    Action, BatchedKey, Client, Error, KeepDealings, KeyOrder, ManagedKey, NewPrincipal,
    PrincipalId, ProvisionedKey, PublicKey,
};
use serde::{Deserialize, Serialize};

use super::signing::Signing;
use super::spec::{self, Spec};
use crate::app::App;
use crate::commands::progress::Progress;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Bytes of a batch at most: half a million lines.
const MAX_BATCH_BYTES: u64 = 1 << 28;

/// A line of a batch.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Order(Ordered),
    Managed(Managed),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordered {
    order: String,
}

// Flattened fields and the refusal of unknown ones do not go together, so they are written out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Managed {
    tenant: String,
    alias: String,
    #[serde(default)]
    threshold: Option<u16>,
    #[serde(default)]
    jurisdictions: Vec<String>,
    #[serde(default)]
    fragment_required: bool,
    #[serde(default)]
    principal: Option<Principal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Principal {
    name: String,
    public_key: String,
    allow: Vec<String>,
    #[serde(default)]
    days: Option<u64>,
}

#[derive(Serialize)]
struct Made {
    line: usize,
    key: String,
    tenant: String,
    alias: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    principals: Vec<MadePrincipal>,
    /// Nodes that have their share and not the certificate yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacking: Vec<String>,
}

#[derive(Serialize)]
struct MadePrincipal {
    principal: String,
    invitation: String,
    fingerprint: String,
}

fn principal(new: Principal) -> Outcome<NewPrincipal> {
    let bad = |why: String| Failure::new(Code::Usage, why);
    let action = |name: &String| {
        let found = Action::ALL.into_iter().find(|action| action.name() == name);
        found.ok_or_else(|| bad(format!("\"{name}\" is nothing that a principal may be allowed")))
    };
    Ok(NewPrincipal {
        public_key: new
            .public_key
            .parse::<PublicKey>()
            .map_err(|_| bad("\"public_key\" is not a public key (ed25519-...)".to_owned()))?,
        actions: new.allow.iter().map(action).collect::<Outcome<_>>()?,
        name: new.name,
        days: new.days,
    })
}

fn at(path: &Path, number: usize, why: String) -> Failure {
    Failure::new(Code::Usage, format!("{}, line {number}: {why}", path.display()))
}

/// Only the coordinator that an order names can have its key made.
fn coordinates(client: &Client, order: &KeyOrder) -> Result<(), String> {
    if order.coordinator() == Some(client.principal()) {
        return Ok(());
    }
    Err("the order names another coordinator than this profile's principal".to_owned())
}

/// Those for which nothing is signed, or nothing that nodes take any more: tenants may have other administrators than
/// when an earlier run signed. Refuses what that run was told otherwise, as it would stay so without a word.
async fn still_to_sign<'a>(
    client: &Client,
    path: &Path,
    managed: Vec<(usize, &'a str, Managed)>,
    signed: &HashMap<String, KeyOrder>,
    threshold: Option<u16>,
) -> Outcome<Vec<(usize, &'a str, Managed)>> {
    let known: Vec<&KeyOrder> =
        managed.iter().filter_map(|(_, line, _)| signed.get(*line)).collect();
    if known.is_empty() {
        return Ok(managed);
    }
    let mut stand = client.orders_that_stand(known).await?.into_iter();
    let mut left = Vec::new();
    for (number, line, new) in managed {
        let order = match signed.get(line) {
            Some(order) if stand.next() == Some(true) => order,
            _ => {
                left.push((number, line, new));
                continue;
            }
        };
        let before = |why: String| {
            at(path, number, format!("an earlier run has signed it: {why}"))
                .next("Run it as it was run then; or make another batch of what is not made yet.")
        };
        coordinates(client, order).map_err(before)?;
        let t = order.threshold().map(|threshold| threshold.t());
        if let (Some(wanted), Some(t)) = (new.threshold.or(threshold), t)
            && wanted != t
        {
            return Err(before(format!("with the threshold {t}, and not {wanted}")));
        }
    }
    Ok(left)
}

/// Runs a batch.
pub async fn run(app: &App, path: &Path, threshold: Option<u16>, allow_fragile: bool) -> Outcome {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BATCH_BYTES).read_to_string(&mut text))
        .map_err(|e| Failure::reading(path, &e))?;
    let client = app.client()?;
    let mut progress = Progress::open(path)?;
    let parse =
        |(line, text): (&String, &String)| Some((line.clone(), KeyOrder::parse(text).ok()?));
    let mut signed: HashMap<String, KeyOrder> = progress.signed.iter().filter_map(parse).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut managed: Vec<(usize, &str, Managed)> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (number, line) = (number + 1, line.trim());
        if let Some(before) = seen.insert(line, number) {
            return Err(at(path, number, format!("it says the same as line {before}")));
        }
        lines.push((number, line));
        if progress.made.contains_key(line) {
            continue;
        }
        match serde_json::from_str::<Line>(line) {
            Ok(Line::Order(Ordered { order })) => {
                let order = KeyOrder::parse(&order).map_err(|e| at(path, number, e.to_string()))?;
                coordinates(&client, &order).map_err(|why| at(path, number, why))?;
                signed.insert(line.to_owned(), order);
            }
            Ok(Line::Managed(new)) => managed.push((number, line, new)),
            Err(_) => {
                let why = "it is no line of a batch; see `quorate key create --help`";
                return Err(at(path, number, why.to_owned()));
            }
        }
    }
    if lines.is_empty() {
        return Err(Failure::new(Code::Usage, format!("{} has no lines", path.display())));
    }
    let managed = still_to_sign(&client, path, managed, &signed, threshold).await?;
    let mut failed: Vec<(usize, Error)> = Vec::new();
    if !managed.is_empty() {
        let admin = app.profile()?.admin_key()?;
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        for (number, line, new) in managed {
            let wrong = |failure: Failure| at(path, number, failure.message);
            let spec = Spec {
                alias: new.alias,
                threshold: new.threshold.or(threshold),
                jurisdictions: spec::jurisdictions(&new.jurisdictions).map_err(wrong)?,
                fragment_required: new.fragment_required,
            };
            let principals = new.principal.map(principal).transpose().map_err(wrong)?;
            let new = ManagedKey {
                tenant: new.tenant,
                key: spec::request(&client, spec, allow_fragile).map_err(wrong)?,
                principals: principals.into_iter().collect(),
            };
            wanted.push(BatchedKey { new, before: signed.remove(line) });
            places.push((number, line));
        }
        let ordered = client.admin(&admin).order_keys(wanted).await?;
        for ((number, line), order) in places.into_iter().zip(ordered) {
            match order {
                Ok(order) => {
                    progress.signed(line, order.to_text())?;
                    signed.insert(line.to_owned(), order);
                }
                Err(error) => failed.push((number, error)),
            }
        }
        progress.settle()?;
    }
    let (mut orders, mut whose) = (Vec::new(), Vec::new());
    let signing = Arc::new(Signing::open(path)?);
    for (number, line) in &lines {
        if let Some(value) = progress.made.get(*line) {
            // What was dealt for it is needed no more; the run that made it may have had no time to say so.
            let key = value.get("key").and_then(|key| key.as_str()?.parse().ok());
            key.into_iter().for_each(|key| signing.made(key));
            output::print_line(&value.to_string());
        } else if let Some(order) = signed.get(*line) {
            orders.push(order.clone());
            whose.push((*number, *line));
        }
    }
    let before = lines.len() - orders.len() - failed.len();
    if before > 0 {
        app.out.note(&format!(
            "{before} of {} {} made before",
            output::counted(lines.len(), "key"),
            if before == 1 { "was" } else { "were" }
        ));
    }
    let bar = app.out.counter(lines.len() as u64, "keys");
    bar.set_position(before as u64);
    let mut broken = Ok(());
    client
        .provision_keys(
            orders,
            Arc::clone(&signing) as Arc<dyn KeepDealings>,
            |at, (order, result)| {
                bar.inc(1);
                let Some((number, line)) = whose.get(at) else { return };
                match result {
                    Ok(made) => {
                        signing.made(made.key);
                        let made = shown(&client, *number, &order, made);
                        let value = serde_json::to_value(&made).unwrap_or_default();
                        output::print_line(&value.to_string());
                        if broken.is_ok() {
                            broken = progress.made(line, value);
                        }
                    }
                    Err(error) => failed.push((*number, error)),
                }
            },
        )
        .await;
    bar.finish_and_clear();
    broken?;
    signing.close()?;
    app.warnings(&client);
    for (number, error) in failed.iter().take(20) {
        app.out.warn(&format!("line {number}: {error}"));
    }
    if failed.is_empty() {
        app.out.note(&format!(
            "{} {} made",
            output::counted(lines.len(), "key"),
            if lines.len() == 1 { "is" } else { "are" }
        ));
        return Ok(());
    }
    let were = if failed.len() == 1 { "was" } else { "were" };
    let why =
        format!("{} of {} {were} not made", failed.len(), output::counted(lines.len(), "key"));
    Err(Failure::new(Code::Partial, why)
        .next("Resolve what the messages name, then run the same command again: it goes on."))
}

fn shown(client: &Client, line: usize, order: &KeyOrder, made: ProvisionedKey) -> Made {
    let principals = order.principals().map(|principal| {
        let invitation = client.invitation_of_principal(order.tenant(), principal);
        MadePrincipal {
            principal: principal.to_string(),
            invitation: invitation.to_text(),
            fingerprint: invitation.fingerprint().to_string(),
        }
    });
    Made {
        line,
        key: made.key.to_string(),
        tenant: made.tenant.to_string(),
        alias: made.alias,
        fingerprint: made.fingerprint.to_string(),
        principals: principals.collect(),
        lacking: made.lacking,
    }
}

/// Signs the order of one key of this profile's tenant.
pub async fn order(app: &App, spec: Spec, coordinator: &str) -> Outcome {
    let coordinator: PrincipalId = coordinator
        .parse()
        .map_err(|_| Failure::new(Code::Usage, "--coordinator is not a principal's id (pr-...)"))?;
    let admin = app.profile()?.admin_key()?;
    let client = app.client()?;
    let request = spec::request(&client, spec, false)?;
    let order = client.admin(&admin).order_key(request, coordinator).await?;
    #[derive(Serialize)]
    struct Order {
        order: String,
        key: String,
    }
    let value = Order { order: order.to_text(), key: order.key().to_string() };
    app.out.result(&value, || value.order.clone());
    app.out.note(&format!(
        "Give this order to whoever runs its ceremonies, as a line {{\"order\": ...}} of a batch. The key's id will be {}.",
        value.key
    ));
    app.warnings(&client);
    Ok(())
}
