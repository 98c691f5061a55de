//! `quorate key refresh` and `quorate cluster repair`: shares that are dealt anew to the nodes that have them, and to
//! those that lost their own.

mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use quorate_sdk::{
    BulkOptions, Client, Error, Key, KeyId, KeyVersion, KeyVersionInfo, NodeId, OrderChange,
    RefusalCode, RefusedOrder, Reshared, SignedOrders,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{ChosenArgs, RefreshArgs};
use crate::commands::encrypt::is_dash;
use crate::commands::healed::{self, ShownHealing};
use crate::commands::leaving::KEY_INVALID;
use crate::commands::listed::{self, Part, parts};
use crate::commands::membership::newest;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

pub use repair::repair;

/// Key versions that are listed one by one in what is printed; of more, how many there were.
const LISTED: usize = 100;

/// One key version that is looked at.
#[derive(Debug, Clone)]
struct Chosen {
    key: KeyId,
    alias: String,
    version: KeyVersion,
}

/// Shares that were dealt anew, as they are shown.
#[derive(Debug, Serialize)]
pub struct ShownReshare {
    key: String,
    alias: String,
    version: u32,
    /// The generation that was in use before.
    before: String,
    generation: String,
    order: u32,
    /// How many times the shares were dealt, the making of the key included.
    height: u64,
    threshold: u16,
    nodes: u16,
    holders: Vec<String>,
    #[serde(flatten)]
    healed: ShownHealing,
    /// Of the nodes of which old shares may still exist, those of which an old share is in a backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    in_backups: Vec<String>,
    /// Nodes that do not use the new shares yet, and why.
    lacking: BTreeMap<String, String>,
    /// Another coordinator had begun it.
    finished_anothers: bool,
}

/// The name of a node, or its id where the roster does not name it.
pub fn node_name(client: &Client, node: &NodeId) -> String {
    client.roster().node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

/// A reshare as it is shown.
pub fn shown_reshare(
    client: &Client,
    names: &BTreeMap<NodeId, String>,
    alias: &str,
    it: &Reshared,
) -> ShownReshare {
    let name = |node: &NodeId| node_name(client, node);
    ShownReshare {
        key: it.key.to_string(),
        alias: alias.to_owned(),
        version: it.version.get(),
        before: it.before.to_string(),
        generation: it.after.to_string(),
        order: it.order,
        height: it.height,
        threshold: it.threshold.t(),
        nodes: it.threshold.n(),
        holders: it.holders.iter().map(name).collect(),
        healed: ShownHealing::new(client, names, &it.healing),
        in_backups: it.healing.copied.iter().map(name).collect(),
        lacking: it.lacking.iter().map(|(node, why)| (name(node), why.clone())).collect(),
        finished_anothers: it.finished_anothers,
    }
}

/// A key version that is as it was, and why.
#[derive(Debug, Serialize)]
struct Left {
    key: String,
    alias: String,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    why: String,
}

impl Left {
    fn new(chosen: &Chosen, code: Option<&str>, why: impl Into<String>) -> Self {
        Self {
            key: chosen.key.to_string(),
            alias: chosen.alias.clone(),
            version: chosen.version.get(),
            code: code.map(str::to_owned),
            why: why.into(),
        }
    }
}

/// What came of many.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Key versions whose shares were dealt anew.
    dealt: usize,
    /// The first of them, one by one.
    keys: Vec<ShownReshare>,
    /// Key versions whose standing order allows no refresh yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_due: Option<usize>,
    /// Key versions of which the node has its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<usize>,
    /// Orders that were signed.
    ordered: usize,
    /// The least that was healed: thefts of so many old shares.
    heals: Option<u16>,
    left_out: Vec<Left>,
    failed: Vec<Left>,
}

impl Done {
    fn count(
        &mut self,
        client: &Client,
        names: &BTreeMap<NodeId, String>,
        chosen: &Chosen,
        it: &Reshared,
    ) {
        self.dealt += 1;
        let heals = it.healing.heals;
        self.heals = Some(self.heals.map_or(heals, |least| least.min(heals)));
        if self.keys.len() < LISTED {
            self.keys.push(shown_reshare(client, names, &chosen.alias, it));
        }
    }

    fn text(&self, word: &str) -> String {
        let mut said = Vec::new();
        if !self.keys.is_empty() {
            let heads = ["KEY", "VERSION", "DEALT", "SHARES", "HELD BY", ""];
            let mut rows = vec![heads.map(str::to_owned).to_vec()];
            rows.extend(self.keys.iter().map(|it| {
                vec![
                    it.alias.clone(),
                    it.version.to_string(),
                    format!("{} times", it.height),
                    format!("{}-of-{}", it.threshold, it.nodes),
                    it.holders.join(", "),
                    it.healed.healing.clone().unwrap_or_default(),
                ]
            }));
            said.push(output::table(&rows));
            let healed = self.keys.iter().map(|it| (it.alias.as_str(), it.version, &it.healed));
            said.extend(healed::lines_of(healed));
        }
        if self.dealt > self.keys.len() {
            said.push(format!("and {} more", self.dealt - self.keys.len()));
        }
        for it in &self.keys {
            for (node, why) in &it.lacking {
                said.push(format!(
                    "{} version {}: {node} does not use the new shares yet: {why}",
                    it.alias, it.version
                ));
            }
        }
        for (left, what) in self
            .left_out
            .iter()
            .map(|left| (left, "left as it is"))
            .chain(self.failed.iter().map(|left| (left, "NOT DEALT ANEW")))
            .take(LISTED)
        {
            said.push(format!("{} version {}: {what}: {}", left.alias, left.version, left.why));
        }
        let mut counts = vec![format!("{} {word}", self.dealt)];
        counts.extend(self.not_due.map(|n| format!("{n} not due")));
        counts.extend(self.held.map(|n| format!("{n} held already")));
        if !self.left_out.is_empty() {
            counts.push(format!("{} left as they are", self.left_out.len()));
        }
        if !self.failed.is_empty() {
            counts.push(format!("{} FAILED", self.failed.len()));
        }
        if self.keys.len() != 1 || counts.len() > 1 {
            said.push(format!("key versions: {}", counts.join(", ")));
        }
        said.join("\n")
    }

    fn print(self, app: &App, word: &str) -> Outcome {
        app.out.result(&self, || self.text(word));
        if self.failed.is_empty() {
            return Ok(());
        }
        let first: Vec<&str> = self.failed.iter().take(8).map(|left| left.alias.as_str()).collect();
        let more = if self.failed.len() > first.len() { " and more" } else { "" };
        let why = format!(
            "{} key versions were not dealt anew: {}{more}",
            self.failed.len(),
            first.join(", ")
        );
        Err(Failure::new(Code::KeysLeft, why))
    }
}

/// The keys that were chosen: those that are named, those of a part of a file, or all. These nodes are brought what they
/// lack of those of a file.
async fn choose(
    client: &Client,
    names: &[String],
    (chosen, part): (&ChosenArgs, &Part),
    to: &[NodeId],
    done: &mut Done,
) -> Outcome<Vec<Key>> {
    let mut keys = Vec::new();
    if let Some(Some(tenant)) = &chosen.tenant {
        let own = client.tenant().to_string() == *tenant
            || client.tenant_info(tenant).await?.id == client.tenant();
        if !own {
            let why =
                format!("{tenant} is not this profile's tenant, and its keys are not shown here");
            return Err(Failure::new(Code::Usage, why).next(
                "Use a profile of that tenant, or name keys whose coordinator this principal is with --file.",
            ));
        }
    }
    if let Part::Listed(ids) = part {
        let (found, failed) = listed::found(client, ids, to).await;
        keys = found;
        done.failed.extend(failed.into_iter().map(|(key, error)| {
            let chosen = Chosen { key, alias: key.to_string(), version: KeyVersion::FIRST };
            Left::new(&chosen, Some(error.code()), error.to_string())
        }));
    } else if names.is_empty() {
        let (verified, unverified) = client.all_keys().await?;
        keys = verified;
        // Whoever heals a theft must not believe that all is healed.
        done.failed.extend(unverified.iter().map(|key| {
            let (alias, version) = (key.id.to_string(), KeyVersion::FIRST);
            Left::new(&Chosen { key: key.id, alias, version }, Some(KEY_INVALID), &key.why)
        }));
    } else {
        for name in names {
            keys.push(client.key(name).await?);
        }
    }
    Ok(keys)
}

/// Ids of keys, one a line, or lines of JSON with a "key".
pub fn ids(path: &Path) -> Outcome<Vec<KeyId>> {
    #[derive(serde::Deserialize)]
    struct Line {
        key: String,
    }
    let reading = |e: &std::io::Error| Failure::reading(path, e);
    let input: Box<dyn Read> = if is_dash(path) {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|e| reading(&e))?)
    };
    let mut all = Vec::new();
    for (number, line) in BufReader::new(input).lines().enumerate() {
        let line = line.map_err(|e| reading(&e))?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let bad = |why: String| {
            let why = format!("{}, line {}: {why}", path.display(), number + 1);
            Failure::new(Code::Input, why)
        };
        let id = if line.starts_with('{') {
            serde_json::from_str::<Line>(line).map_err(|e| bad(e.to_string()))?.key
        } else {
            line.to_owned()
        };
        all.push(id.parse().map_err(|_| bad(format!("\"{id}\" is no key's id")))?);
    }
    Ok(all)
}

/// That orders of a key version contend, and the command that signs one which follows them all and changes nothing of who
/// has the shares.
fn contend(client: &Client, alias: &str, version: &KeyVersionInfo) -> String {
    if let Some(node) = version.stranger {
        return format!(
            "an order of it names {node}, which no roster names, and is not followed; `quorate key refresh {alias} --now` by an \
             administrator signs one that takes its place"
        );
    }
    let nodes: Vec<String> = version.members.iter().map(|node| node_name(client, node)).collect();
    format!(
        "its orders contend, since some were signed by people who did not know of the others. `quorate key move {alias} \
         --nodes {}` signs one that follows them all with the largest T of them, and leaves the shares where they are",
        nodes.join(",")
    )
}

/// The versions of keys whose shares can be dealt anew; where an order is signed first, also those of which the newest names
/// a node that there is not.
fn versions<'a>(
    client: &Client,
    keys: &'a [Key],
    signs: bool,
    done: &mut Done,
) -> Vec<(Chosen, &'a Key)> {
    let mut all = Vec::new();
    for key in keys {
        for version in key.versions() {
            let chosen =
                Chosen { key: key.id(), alias: key.alias().to_owned(), version: version.number };
            if key.is_to_be_destroyed() {
                done.left_out.push(Left::new(&chosen, None, "is to be destroyed"));
            } else if key.is_destroyed(version.number) {
                let why = "is destroyed: too few nodes have a share";
                done.left_out.push(Left::new(&chosen, None, why));
            } else if version.generation.is_none() {
                let why = match version.stranger {
                    Some(node) => {
                        format!("is never made: it was to be held by {node}, which no roster names")
                    }
                    None => format!(
                        "is not made yet: finish it with `quorate key create {} --resume`",
                        key.alias()
                    ),
                };
                done.left_out.push(Left::new(&chosen, None, why));
            } else if version.order.is_none()
                && !version.unadopted
                && !(signs && version.stranger.is_some())
            {
                done.failed.push(Left::new(&chosen, None, contend(client, key.alias(), &version)));
            } else {
                all.push((chosen, key));
            }
        }
    }
    all
}

/// Key versions of which no order was signed.
type Refused = BTreeSet<(KeyId, KeyVersion)>;

/// Signs these orders. Of those that could not be it is said why, and none is dealt anew.
async fn order(
    app: &App,
    client: &Client,
    wanted: &[(Key, KeyVersion, OrderChange)],
    done: &mut Done,
) -> Outcome<Refused> {
    let admin = app.profile()?.admin_key().ok();
    let signed = client.sign_orders(wanted, admin.as_ref()).await?;
    let keys = wanted.iter().map(|(key, ..)| key);
    ordered(app, signed, keys, done)
}

/// Takes note of what came of orders of these keys.
fn ordered<'a>(
    app: &App,
    signed: SignedOrders,
    keys: impl IntoIterator<Item = &'a Key>,
    done: &mut Done,
) -> Outcome<Refused> {
    for delivered in signed.in_force.iter().filter_map(|report| report.delivered.as_ref()) {
        app.keep_undelivered(delivered)?;
        done.ordered += 1;
    }
    let aliases: BTreeMap<KeyId, &str> = keys.into_iter().map(|k| (k.id(), k.alias())).collect();
    let mut refused = Refused::new();
    for RefusedOrder { key, version, error } in signed.refused {
        let alias = aliases.get(&key).map_or_else(|| key.to_string(), |alias| (*alias).to_owned());
        let chosen = Chosen { key, alias, version };
        done.failed.push(Left::new(&chosen, Some(error.code()), error.to_string()));
        refused.insert((key, version));
    }
    Ok(refused)
}

/// What a standing order refuses, and another may allow.
const NOT_DUE: [RefusalCode; 1] = [RefusalCode::RefreshNotDue];

/// What another order lets be done at once.
const TAKES_AN_ORDER: [RefusalCode; 2] =
    [RefusalCode::RefreshNotDue, RefusalCode::AttemptsExhausted];

/// Deals the shares of these anew. Returns those that nodes refuse for one of these reasons.
async fn deal(
    app: &App,
    client: &Client,
    chosen: &[Chosen],
    rate: Option<f64>,
    returned: &[RefusalCode],
    done: &mut Done,
) -> Vec<(Chosen, Error)> {
    let mut refused = Vec::new();
    let names = client.node_names().await;
    let mut take = |chosen: &Chosen, result: Result<Reshared, Error>| match result {
        Ok(it) => done.count(client, &names, chosen, &it),
        Err(error) if returned.iter().any(|code| error.code() == code.code()) => {
            refused.push((chosen.clone(), error));
        }
        Err(error) => {
            done.failed.push(Left::new(chosen, Some(error.code()), error.to_string()));
        }
    };
    if let [one] = chosen {
        let bar = app.out.steps();
        let progress = |p: quorate_sdk::Progress| {
            bar.set_message(format!("step {} of {}: {}", p.step, p.of, p.what));
        };
        let result = client.reshare_key(one.key, one.version, progress).await;
        bar.finish_and_clear();
        take(one, result);
        return refused;
    }
    let bar = app.out.counter(u64::try_from(chosen.len()).unwrap_or(u64::MAX), "shares");
    let keys = chosen.iter().map(|chosen| (chosen.key, chosen.version)).collect();
    let options = BulkOptions { rate, ..BulkOptions::default() };
    client
        .reshare_keys(keys, options, |at, result| {
            bar.inc(1);
            if let Some(chosen) = chosen.get(at) {
                take(chosen, result);
            }
        })
        .await;
    bar.finish_and_clear();
    refused
}

/// `quorate key refresh`.
pub async fn refresh(app: &App, args: RefreshArgs) -> Outcome {
    // A session is for the roster in force, which administrators of another tenant may have handed over.
    let client = newest(app).await?;
    app.carry(&client).await;
    let mut done = Done::default();
    let (mut not_due, mut waiting) = (Vec::new(), 0);
    for part in parts(args.chosen.file.as_deref())? {
        let of = (&args.chosen, &part);
        let keys = choose(&client, &args.keys, of, &[], &mut done).await?;
        not_due = refresh_some(app, &client, &args, &keys, &mut done).await?;
        waiting += not_due.len();
    }
    app.warnings(&client);
    // Whoever names a key wants it done; of all keys, those that are not due wait.
    if let [(chosen, error)] = not_due.as_slice()
        && done.dealt == 0
        && done.failed.is_empty()
        && !args.keys.is_empty()
    {
        let next = format!(
            "Wait, or run `quorate key refresh {} --now`, which signs an order for it; `--every 30d` lets it be \
             refreshed once in 30 days from now on.",
            chosen.alias
        );
        return Err(Failure::from(error.clone()).next(next));
    }
    done.not_due = Some(waiting);
    done.print(app, "refreshed")
}

/// Deals the shares of these keys anew. Returns those that are not due.
async fn refresh_some(
    app: &App,
    client: &Client,
    args: &RefreshArgs,
    keys: &[Key],
    done: &mut Done,
) -> Outcome<Vec<(Chosen, Error)>> {
    let mut all = versions(client, keys, args.now || args.every.is_some(), done);
    let change = |key: &Key, version: KeyVersion, anew: bool| {
        let versions = key.versions();
        let info = versions.iter().find(|v| v.number == version);
        // Of what counts no more the next order says the same: whoever has the shares keeps them.
        let members = info.and_then(|info| match &info.order {
            Some(order) => Some(order.members.clone()),
            None => (info.unadopted || info.stranger.is_some()).then(|| info.members.clone()),
        });
        let members = members.unwrap_or_default();
        let refresh_seconds = args.every;
        (key.clone(), version, OrderChange { members, refresh_seconds, anew, ..Default::default() })
    };
    let unadopted = |chosen: &Chosen, key: &Key| {
        let versions = key.versions();
        let mut of = versions.iter().filter(|v| v.number == chosen.version);
        of.any(|v| v.unadopted || (v.order.is_none() && v.stranger.is_some()))
    };
    // An order that the tenant's documents do not keep is adopted by the next one, and one of a node that there is not is
    // followed; nothing is dealt before.
    let wanted: Vec<_> = all
        .iter()
        .filter(|(chosen, key)| args.every.is_some() || unadopted(chosen, key))
        .map(|(chosen, key)| change(key, chosen.version, args.now))
        .collect();
    if !wanted.is_empty() {
        let refused = order(app, client, &wanted, done).await?;
        all.retain(|(chosen, _)| !refused.contains(&(chosen.key, chosen.version)));
    }
    let chosen: Vec<Chosen> = all.iter().map(|(chosen, _)| chosen.clone()).collect();
    let rate = args.chosen.rate;
    // Another order is due at once, and nodes count their promises under it anew.
    let returned: &[_] = if args.now { &TAKES_AN_ORDER } else { &NOT_DUE };
    let mut not_due = deal(app, client, &chosen, rate, returned, done).await;
    if args.now && !not_due.is_empty() {
        let wanted: Vec<_> = not_due
            .iter()
            .filter_map(|(chosen, error)| {
                let (_, key) =
                    all.iter().find(|(c, _)| (c.key, c.version) == (chosen.key, chosen.version))?;
                let (key, version, wanted) = change(key, chosen.version, true);
                let used_up = error.code() == RefusalCode::AttemptsExhausted.code();
                Some((key, version, OrderChange { used_up, ..wanted }))
            })
            .collect();
        let refused = order(app, client, &wanted, done).await?;
        let again = not_due.into_iter().map(|(chosen, _)| chosen);
        let again: Vec<Chosen> =
            again.filter(|it| !refused.contains(&(it.key, it.version))).collect();
        not_due = deal(app, client, &again, rate, &NOT_DUE, done).await;
    }
    Ok(not_due)
}
