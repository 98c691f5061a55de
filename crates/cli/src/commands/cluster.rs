//! `quorate cluster`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_sdk::{
    AdminKey, ClusterBundle, ClusterId, ClusterRequest, Digest, Envelope, NodeCard, Profile,
    create_cluster,
};
use quorate_server::JoinOptions;
use serde::Serialize;

use crate::app::{App, shown};
use crate::args::{Cluster as Command, NodeArgs, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::node::{root_key, whole};
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic;
use crate::output;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Create { name, cards, fingerprint, output } => {
            let cards = read_cards(&cards, &fingerprint)?;
            // A profile whose roster nobody gets would be of no use: first the place for the roster.
            let pending = atomic::Pending::begin(&output, false)?.uncut();
            let bundle = create(app, &name, cards)?;
            finish_roster(pending, &output, &bundle.roster).map_err(|failure| {
                failure.next(format!(
                    "The cluster is made; write its roster with `quorate --profile {} cluster export \
                     FILE`.",
                    app.settings.profile.0
                ))
            })?;
            #[derive(Serialize)]
            struct Created {
                cluster: String,
                roster: String,
                profile: String,
            }
            let value = Created {
                cluster: bundle.cluster.to_string(),
                roster: shown(&output),
                profile: app.settings.profile.0.clone(),
            };
            app.out.result(&value, || {
                output::table(&[
                    vec!["cluster".into(), value.cluster.clone()],
                    vec!["roster".into(), value.roster.clone()],
                ])
            });
            app.out.note(&format!(
                "Give the roster to each node's operator and tell them the fingerprint (the cluster \
                 line above) by another channel. Each runs, with the node stopped:\n  \
                 quorate cluster join {} --fingerprint {} --data-dir DIR\n\
                 This profile holds the administrator's key: {}",
                output.display(),
                value.cluster,
                shown(app.profile_dir())
            ));
            Ok(())
        }
        Command::Join { roster, fingerprint, node } => {
            let cluster = join(&roster, &fingerprint, &node).await?;
            #[derive(Serialize)]
            struct Joined {
                cluster: String,
            }
            let value = Joined { cluster: cluster.to_string() };
            app.out.result(&value, || format!("joined {}", value.cluster));
            Ok(())
        }
        Command::Status => crate::commands::status::run(app).await,
        Command::Membership(command) => crate::commands::membership::run(app, command).await,
        Command::Repair(args) => crate::commands::refresh::repair(app, args).await,
        Command::Sync => sync(app).await,
        Command::Renew { days } => renew(app, days).await,
        Command::Update { cards, fingerprint, hand_over, at_once, wait } => {
            let cards = read_cards(&cards, &fingerprint)?;
            let days = if at_once { 0 } else { hand_over };
            update(app, &cards, Duration::from_secs(days * 86_400), wait).await
        }
        Command::Export { output } => {
            let profile = app.profile()?;
            write_chain(&output, &profile)?;
            #[derive(Serialize)]
            struct Exported {
                cluster: String,
                roster: String,
            }
            let value = Exported {
                cluster: profile.membership().map_or_else(String::new, |m| m.cluster.to_string()),
                roster: shown(&output),
            };
            app.out.result(&value, || {
                output::table(&[
                    vec!["cluster".into(), value.cluster.clone()],
                    vec!["roster".into(), value.roster.clone()],
                ])
            });
            Ok(())
        }
    }
}

/// Reads the cards and holds them against the fingerprints that their operators told.
pub fn read_cards(paths: &[PathBuf], told: &[String]) -> Outcome<Vec<NodeCard>> {
    let mut told: Vec<Digest> = told
        .iter()
        .map(|t| t.parse().map_err(|e| Failure::new(Code::Usage, format!("--fingerprint: {e}"))))
        .collect::<Outcome<_>>()?;
    let mut cards = Vec::with_capacity(paths.len());
    for path in paths {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
        let card = NodeCard::parse(&text).map_err(quorate_sdk::Error::from)?;
        let found = card.fingerprint();
        let Some(at) = told.iter().position(|t| *t == found) else {
            return Err(Failure::new(
                Code::Fingerprint,
                format!(
                    "{} has the fingerprint {found}, which no --fingerprint says",
                    path.display()
                ),
            ));
        };
        told.swap_remove(at);
        cards.push(card);
    }
    if let Some(left) = told.first() {
        return Err(Failure::new(Code::Fingerprint, format!("no card has the fingerprint {left}")));
    }
    Ok(cards)
}

/// Makes the cluster's documents and the profile that administers it.
pub fn create(app: &App, name: &str, cards: Vec<NodeCard>) -> Outcome<ClusterBundle> {
    let mut profile = if app.profile_dir().exists() {
        let profile = Profile::open(app.profile_dir())?;
        if profile.membership().is_some() {
            return Err(Failure::new(
                Code::Usage,
                format!("the profile \"{}\" belongs to a cluster already", app.settings.profile.0),
            )
            .next("Choose another name with --profile."));
        }
        profile
    } else {
        Profile::create(app.profile_dir())?
    };
    let admin = match profile.admin_key() {
        Ok(key) => key,
        Err(_) => {
            let key = AdminKey::generate();
            profile.store_admin_key(&key)?;
            key
        }
    };
    let bundle = create_cluster(ClusterRequest {
        name: name.to_owned(),
        cards,
        admin: &admin,
        recovery: None,
        principal_name: "admin".to_owned(),
        principal_key: profile.public_key(),
    })?;
    app.keep_pending(&bundle.documents)?;
    profile.keep_documents(&bundle.documents)?;
    let invitation = bundle.invitation();
    profile.accept(&invitation, invitation.fingerprint())?;
    Ok(bundle)
}

/// Writes a roster for the nodes' operators; it is public.
pub fn write_roster(path: &Path, roster: &Envelope) -> Outcome {
    finish_roster(atomic::Pending::begin(path, false)?.uncut(), path, roster)
}

fn finish_roster(mut pending: atomic::Pending, path: &Path, roster: &Envelope) -> Outcome {
    let bytes = serde_json::to_vec_pretty(roster)
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    pending
        .file()
        .and_then(|f| std::io::Write::write_all(f, &bytes))
        .map_err(|e| Failure::writing(path, &e))?;
    pending.finish(None, true)
}

/// The rosters in a file: the first alone, or all since.
fn rosters(text: &str) -> Result<Vec<Envelope>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        Ok(vec![serde_json::from_str(text)?])
    }
}

/// Writes all rosters of a profile's cluster, for nodes that only a later one names; the first alone where there is
/// no other.
pub fn write_chain(path: &Path, profile: &Profile) -> Outcome {
    write_rosters(path, &profile.roster_chain()?, false)
}

/// The same in the place of a file with fewer rosters of the same cluster; any other file stays, and is in the way.
pub fn write_newest_chain(path: &Path, profile: &Profile) -> Outcome {
    let chain = profile.roster_chain()?;
    match rosters_of(path, &chain) {
        0 => write_rosters(path, &chain, false),
        all if all == chain.len() => Ok(()),
        _ => write_rosters(path, &chain, true),
    }
}

/// Fails where [`write_newest_chain`] would.
pub fn check_newest_chain(path: &Path, profile: &Profile) -> Outcome {
    if rosters_of(path, &profile.roster_chain()?) > 0 {
        return Ok(());
    }
    atomic::Pending::begin(path, false).map(drop)
}

/// How many of the first rosters of a chain a file holds, where it holds nothing else.
fn rosters_of(path: &Path, chain: &[Envelope]) -> usize {
    let known = std::fs::read_to_string(path).ok().and_then(|text| rosters(&text).ok());
    let known = known.unwrap_or_default();
    // Administrators may have added signatures since.
    let same = known.iter().zip(chain).all(|(one, other)| one.payload == other.payload);
    if same && known.len() <= chain.len() { known.len() } else { 0 }
}

fn write_rosters(path: &Path, chain: &[Envelope], replace: bool) -> Outcome {
    let mut pending = atomic::Pending::begin(path, replace)?.uncut();
    let bytes = match chain {
        [first] => serde_json::to_vec_pretty(first),
        all => serde_json::to_vec_pretty(all),
    };
    let bytes = bytes.map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    pending
        .file()
        .and_then(|f| std::io::Write::write_all(f, &bytes))
        .map_err(|e| Failure::writing(path, &e))?;
    pending.finish(None, true)
}

/// Joins a node to the cluster of a roster.
pub async fn join(roster: &Path, fingerprint: &str, node: &NodeArgs) -> Outcome<ClusterId> {
    let text = std::fs::read_to_string(roster).map_err(|e| Failure::reading(roster, &e))?;
    let mut later = rosters(&text).map_err(|e| {
        Failure::new(Code::Input, format!("{} is no roster: {e}", roster.display()))
    })?;
    if later.is_empty() {
        let why = format!("{} is no roster: it is empty", roster.display());
        return Err(Failure::new(Code::Input, why));
    }
    let envelope = later.remove(0);
    let cluster: ClusterId = fingerprint
        .parse()
        .map_err(|e| Failure::new(Code::Usage, format!("--fingerprint: {e}")))?;
    let options = JoinOptions {
        data_dir: node.data_dir.clone(),
        root_key: root_key(node)?,
        roster: envelope,
        pinned: Digest::from_bytes(*cluster.as_bytes()),
    };
    quorate_server::join_by(options, later).await.map_err(|e| {
        let text = whole(&e);
        let code = if text.contains("digest") { Code::Fingerprint } else { Code::NodeFailed };
        Failure::new(code, text)
    })
}

async fn sync(app: &App) -> Outcome {
    let client = app.administrator().await?;
    let synced = client.sync_documents().await?;
    #[derive(Serialize)]
    struct Node {
        name: String,
        lacked: Option<usize>,
        accepted: usize,
        problem: Option<String>,
    }
    #[derive(Serialize)]
    struct Sync {
        documents: usize,
        carried: usize,
        complete: usize,
        of: usize,
        nodes: Vec<Node>,
    }
    let value = Sync {
        documents: synced.documents,
        carried: synced.carried(),
        complete: synced.complete(),
        of: synced.nodes.len(),
        nodes: synced
            .nodes
            .iter()
            .map(|n| Node {
                name: n.name.clone(),
                lacked: n.lacked,
                accepted: n.accepted,
                problem: n.result.as_ref().err().map(ToString::to_string),
            })
            .collect(),
    };
    app.out.result(&value, || {
        let mut rows = vec![["NODE", "LACKED", "TAKEN", "STATE"].map(str::to_owned).to_vec()];
        rows.extend(value.nodes.iter().map(|n| {
            vec![
                n.name.clone(),
                n.lacked.map_or("-".to_owned(), |lacked| lacked.to_string()),
                n.accepted.to_string(),
                n.problem.clone().unwrap_or_else(|| "has all".to_owned()),
            ]
        }));
        format!(
            "{} documents; {} of {} nodes have all\n{}",
            value.documents,
            value.complete,
            value.of,
            output::table(&rows)
        )
    });
    app.warnings(&client);
    Ok(())
}

async fn renew(app: &App, days: u64) -> Outcome {
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    app.carry(&client).await;
    let (delivered, expires_at) = client.admin(&admin).renew_roster(days).await?;
    app.keep_undelivered(&delivered)?;
    // Under the new roster: nodes that have it may have refused to show anything under the old one.
    let client = app.client()?;
    #[derive(Serialize)]
    struct Renewed {
        expires_at: u64,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let confirmed = Confirmed::count(&client, None, &delivered).await;
    let value = Renewed { expires_at: expires_at.0, confirmed };
    app.out.result(&value, || {
        format!(
            "the roster is renewed until {}; {}",
            output::time(value.expires_at),
            value.confirmed.text()
        )
    });
    app.warnings(&client);
    Ok(())
}

async fn update(app: &App, cards: &[NodeCard], hand_over: Duration, wait: WaitArgs) -> Outcome {
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    // Everything that counts must be at the nodes, since the next roster lists it.
    app.carry(&client).await;
    let (delivered, changes) = client.admin(&admin).update_nodes(cards, hand_over).await?;
    let delivered = app.settle(&client, delivered, wait).await?;
    #[derive(Serialize)]
    struct Replaced {
        purpose: &'static str,
        key: String,
        old: String,
        /// Seconds since 1970: up to when the node uses the old one too.
        old_until: u64,
    }
    #[derive(Serialize)]
    struct Node {
        name: String,
        keys: Vec<Replaced>,
        urls: bool,
        new_log: bool,
    }
    #[derive(Serialize)]
    struct Updated {
        nodes: Vec<Node>,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let nodes = changes.iter().map(|change| Node {
        name: change.name.clone(),
        keys: change
            .replaced
            .iter()
            .zip(&change.keys)
            .map(|(former, key)| Replaced {
                purpose: former.purpose.name(),
                key: key.to_string(),
                old: former.key.to_string(),
                old_until: former.until.0,
            })
            .collect(),
        urls: change.urls,
        new_log: change.log,
    });
    let nodes = nodes.collect();
    let value = Updated { nodes, confirmed: Confirmed::control(&client, &delivered) };
    app.out.result(&value, || {
        let mut rows = vec![["NODE", "NEW", "OLD IN USE UNTIL"].map(str::to_owned).to_vec()];
        for node in &value.nodes {
            for key in &node.keys {
                let until = if hand_over.is_zero() {
                    "refused from now on".to_owned()
                } else {
                    output::time(key.old_until)
                };
                rows.push(vec![node.name.clone(), format!("{} key", key.purpose), until]);
            }
            for (is, what) in [(node.urls, "addresses"), (node.new_log, "audit log")] {
                if is {
                    rows.push(vec![node.name.clone(), what.to_owned(), "-".to_owned()]);
                }
            }
        }
        format!("{}\n{}", output::table(&rows), value.confirmed.text())
    });
    app.warnings(&client);
    value.confirmed.outcome(wait)
}
