//! `quorate key`.

use std::collections::BTreeMap;

use quorate_sdk::{
    AdminKey, Client, CreatedKey, Jurisdiction, Key, KeyChange, KeySpecRequest, KeyState, NodeId,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{Key as Command, KeyChangeArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::shares::ShownShares;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

mod batch;
mod destruction;
mod signing;
mod spec;

use destruction::{SECONDS_PER_DAY, ShownDestruction};
use spec::Spec;

/// A key, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    alias: String,
    spec: &'static str,
    state: &'static str,
    /// Since when it is in this state, seconds since 1970.
    state_since: Option<u64>,
    tags: BTreeMap<String, String>,
    /// Where shares may be; empty for anywhere.
    jurisdictions: Vec<String>,
    /// Seconds after which a new version is due; 0 for never.
    rotation_seconds: u64,
    rotation_due: Option<u64>,
    destruction: Option<ShownDestruction>,
    tenant: String,
    origin: &'static str,
    /// Set where every object must be bound to a customer fragment.
    fragment_required: bool,
    fingerprint: Option<String>,
    /// Set where a single node can use the key alone.
    whole_at_each_node: bool,
    versions: Vec<ShownVersion>,
}

#[derive(Debug, Serialize)]
struct ShownVersion {
    number: u32,
    threshold: u16,
    nodes: u16,
    holders: Vec<String>,
    made: bool,
    generation: Option<String>,
    /// The number of the order by which its shares were dealt; 0 where it is not made.
    order: u32,
    /// How many times they were dealt; 0 where it is not made.
    height: u64,
    /// Every node of the committee must answer.
    fragile: bool,
    /// Who holds its shares by what the nodes say; only where one key is shown, to those who may coordinate.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<ShownShares>,
}

fn shown(client: &Client, key: &Key) -> Shown {
    let name = |id: &NodeId| {
        client
            .roster()
            .nodes
            .iter()
            .find(|n| n.id == *id)
            .map_or(id.to_string(), |n| n.name.clone())
    };
    let versions: Vec<ShownVersion> = key
        .versions()
        .iter()
        .map(|v| ShownVersion {
            number: v.number.get(),
            threshold: v.threshold.t(),
            nodes: v.threshold.n(),
            holders: v.members.iter().map(name).collect(),
            made: v.generation.is_some(),
            generation: v.generation.map(|g| g.to_string()),
            order: v.dealt_by,
            height: v.height,
            fragile: v.threshold.n() > 1 && v.threshold.spare() == 0,
            shares: None,
        })
        .collect();
    Shown {
        id: key.id().to_string(),
        alias: key.alias().to_owned(),
        spec: key.spec().name(),
        state: key.state().name(),
        state_since: key.state_since().map(|at| at.0),
        tags: key.tags().into_iter().collect(),
        jurisdictions: key.jurisdictions().iter().map(Jurisdiction::to_string).collect(),
        rotation_seconds: key.rotation_seconds(),
        rotation_due: key.rotation_due().map(|at| at.0),
        destruction: destruction::shown(key, &name),
        tenant: key.tenant().to_string(),
        origin: if versions.iter().any(|v| v.threshold == 1) {
            "made by the nodes; whole at each of them"
        } else {
            "made by the nodes; never whole"
        },
        fragment_required: key.fragment_required(),
        fingerprint: key.fingerprint().map(|f| f.to_string()),
        whole_at_each_node: versions.iter().any(|v| v.threshold == 1),
        versions,
    }
}

/// A node with whose law it answers to: "node-1 (DE)".
fn with_law(client: &Client, name: &str) -> String {
    let node = client.roster().nodes.iter().find(|node| node.name == name);
    node.map_or(name.to_owned(), |node| format!("{name} ({})", node.jurisdiction))
}

/// Prints a key that was made just now.
fn print_created(app: &App, client: &Client, made: &CreatedKey) {
    for (node, why) in &made.lacking {
        app.out.warn(&format!("{node} has its share but not the certificate yet: {why}"));
    }
    if !made.absent.is_empty() {
        app.out.warn(&format!(
            "{} gave no answer and {} no share: only {} nodes hold the key, and if fewer than {} of them are left, it \
             is lost. Once the others are back, run `quorate key refresh {}`",
            made.absent.join(", "),
            if made.absent.len() == 1 { "has" } else { "have" },
            made.holders.len(),
            made.key.versions().last().map_or(0, |v| v.threshold.t()),
            made.key.alias()
        ));
    }
    #[derive(Serialize)]
    struct Created<'a> {
        key: Shown,
        version: u32,
        fingerprint: String,
        holders: &'a [String],
        /// Nodes that gave no answer, and have no share until the next refresh.
        absent: &'a [String],
        lacking: Vec<&'a String>,
    }
    let value = Created {
        key: shown(client, &made.key),
        version: made.version.get(),
        fingerprint: made.fingerprint.to_string(),
        holders: &made.holders,
        absent: &made.absent,
        lacking: made.lacking.iter().map(|(n, _)| n).collect(),
    };
    app.out.result(&value, || {
        output::table(&[
            vec!["key".into(), format!("{} version {}", made.key.alias(), made.version)],
            vec!["id".into(), made.key.id().to_string()],
            vec!["certificate".into(), made.fingerprint.to_string()],
            vec!["shares".into(), made.holders.join(", ")],
        ])
        .trim_end()
        .to_owned()
            + &match made.absent.as_slice() {
                [] => String::new(),
                absent => format!("\nno share yet: {}", absent.join(", ")),
            }
    });
}

/// The failure of a ceremony, with the command that goes on from there.
fn resumable(error: quorate_sdk::Error, alias: &str) -> Failure {
    let stored = matches!(&error, quorate_sdk::Error::Ceremony(stopped) if stopped.key.is_some());
    let failure = Failure::from(error);
    if !stored {
        return failure;
    }
    failure.next(format!(
        "Resolve what the message names, then go on with `quorate key create {alias} --resume`."
    ))
}

/// The profile's administrator key, where a change must be signed by administrators.
fn critical(app: &App, critical: bool) -> Outcome<Option<AdminKey>> {
    critical.then(|| Ok(app.profile()?.admin_key()?)).transpose()
}

/// Makes a new version of one key.
async fn rotate(
    app: &App,
    client: &Client,
    key: &Key,
    threshold: Option<u16>,
    admin: Option<&AdminKey>,
) -> Outcome {
    let bar = app.out.steps();
    let progress = |p: quorate_sdk::Progress| {
        bar.set_message(format!("step {} of {}: {}", p.step, p.of, p.what));
    };
    let made = client.rotate_key_by(key, threshold, admin, progress).await;
    bar.finish_and_clear();
    print_created(app, client, &made.map_err(|e| resumable(e, key.alias()))?);
    Ok(())
}

/// Makes new versions of all keys that are due. One that fails holds up no other.
async fn rotate_due(app: &App, client: &Client, admin: Option<&AdminKey>) -> Outcome {
    let keys = client.keys_due().await?;
    let mut failed = Vec::new();
    for key in &keys {
        if let Err(failure) = rotate(app, client, key, None, admin).await {
            app.out.warn(&format!("{}: {}", key.alias(), failure.message));
            failed.push(key.alias());
        }
    }
    if keys.is_empty() {
        app.out.result(&Vec::<()>::new(), || "no key is due".to_owned());
    }
    if failed.is_empty() {
        return Ok(());
    }
    let why =
        format!("{} of {} keys were not rotated: {}", failed.len(), keys.len(), failed.join(", "));
    Err(Failure::new(Code::Partial, why))
}

/// Changes a key, and says who has confirmed it.
async fn change(app: &App, args: KeyChangeArgs, change: KeyChange, done: &str) -> Outcome {
    let client = app.administrator().await?;
    let key = client.key(&args.key).await?;
    // A profile without one changes what its principal may change.
    let admin = app.profile()?.admin_key().ok();
    let delivered = client.change_key(&key, &change, admin.as_ref()).await?;
    let delivered = app.settle(&client, delivered, args.wait).await?;
    let confirmed = Confirmed::count(&client, Some(vec![key.clone()]), &delivered).await;
    #[derive(Serialize)]
    struct Changed<'a> {
        #[serde(flatten)]
        confirmed: &'a Confirmed,
        key: Option<Shown>,
    }
    let changed = client.key(key.id().to_string()).await.ok();
    let value =
        Changed { confirmed: &confirmed, key: changed.as_ref().map(|key| shown(&client, key)) };
    app.out.result(&value, || {
        let mut text = format!("{} {done}; {}", key.alias(), confirmed.text());
        if let Some(key) = &value.key
            && let Some(destruction) = &key.destruction
        {
            text.push('\n');
            text.push_str(&output::table(&destruction.rows(&key.alias)));
        }
        text
    });
    app.warnings(&client);
    confirmed.outcome(args.wait)
}

fn tag(text: &str) -> Outcome<(String, Option<String>)> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::new(Code::Usage, format!("\"{text}\" is not NAME=VALUE")))?;
    Ok((name.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
}

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Create {
            alias,
            threshold,
            allow_fragile,
            refresh_every,
            minimum_committee,
            allow_absent,
            jurisdiction,
            fragment_required,
            critical: by_administrators,
            resume,
            batch,
        } => {
            if let Some(batch) = batch {
                return batch::run(app, &batch, threshold, allow_fragile).await;
            }
            let alias = alias.unwrap_or_default();
            let admin = critical(app, by_administrators)?;
            let spec = Spec {
                alias: alias.clone(),
                threshold,
                jurisdictions: spec::jurisdictions(&jurisdiction)?,
                fragment_required,
            };
            let client = app.administrator().await?;
            let bar = app.out.steps();
            let progress = |p: quorate_sdk::Progress| {
                bar.set_message(format!("step {} of {}: {}", p.step, p.of, p.what));
            };
            let made = if resume {
                client.resume_key(&alias, progress).await.map_err(|e| resumable(e, &alias))?
            } else {
                let request = KeySpecRequest {
                    minimum_committee,
                    allow_absent,
                    refresh_seconds: refresh_every,
                    ..spec::request(&client, spec, allow_fragile)?
                };
                let made = client.create_key_by(request, admin.as_ref(), progress).await;
                made.map_err(|e| resumable(e, &alias))?
            };
            bar.finish_and_clear();
            print_created(app, &client, &made);
            app.warnings(&client);
        }
        Command::Order { alias, coordinator, threshold, jurisdiction, fragment_required } => {
            let jurisdictions = spec::jurisdictions(&jurisdiction)?;
            let spec = Spec { alias, threshold, jurisdictions, fragment_required };
            batch::order(app, spec, &coordinator).await?;
        }
        Command::List => {
            let client = app.client()?;
            let keys = client.list_keys().await?;
            let all: Vec<Shown> = keys.iter().map(|k| shown(&client, k)).collect();
            app.out.result(&all, || {
                let mut rows =
                    vec![["ALIAS", "NODES", "VERSION", "STATE", "ID"].map(str::to_owned).to_vec()];
                rows.extend(all.iter().map(|k| {
                    let newest = k.versions.iter().rev().find(|v| v.made);
                    vec![
                        k.alias.clone(),
                        newest.map_or("-".into(), |v| format!("{}-of-{}", v.threshold, v.nodes)),
                        newest.map_or("unfinished".into(), |v| v.number.to_string()),
                        {
                            let word = k.destruction.as_ref().and_then(ShownDestruction::word);
                            word.unwrap_or(k.state).to_owned()
                        },
                        k.id.clone(),
                    ]
                }));
                output::table(&rows)
            });
            app.warnings(&client);
        }
        Command::Show { key } => {
            let client = app.client()?;
            let key = client.key(&key).await?;
            let mut value = shown(&client, &key);
            for (version, shown) in key.versions().iter().zip(&mut value.versions) {
                shown.shares = ShownShares::of(&client, &key, version).await;
            }
            app.out.result(&value, || {
                let mut rows = vec![
                    vec!["alias".into(), value.alias.clone()],
                    vec!["id".into(), value.id.clone()],
                    vec!["spec".into(), value.spec.into()],
                    vec![
                        "state".into(),
                        match (
                            value.destruction.as_ref().and_then(ShownDestruction::word),
                            value.state_since,
                        ) {
                            (Some(word), _) => word.to_owned(),
                            (None, Some(at)) => {
                                format!("{} since {}", value.state, output::time(at))
                            }
                            (None, None) => value.state.into(),
                        },
                    ],
                    vec!["origin".into(), value.origin.into()],
                    vec![
                        "certificate".into(),
                        value.fingerprint.clone().unwrap_or("none yet".into()),
                    ],
                ];
                if value.fragment_required {
                    rows.push(vec![
                        "fragment".into(),
                        "required: nothing is encrypted without a customer fragment".into(),
                    ]);
                }
                if !value.tags.is_empty() {
                    let tags = value.tags.iter().map(|(name, value)| format!("{name}={value}"));
                    rows.push(vec!["tags".into(), tags.collect::<Vec<_>>().join(", ")]);
                }
                if !value.jurisdictions.is_empty() {
                    let laws = value.jurisdictions.join(", ");
                    rows.push(vec!["jurisdictions".into(), format!("shares only in {laws}")]);
                }
                if let Some(due) = value.rotation_due {
                    let days = value.rotation_seconds / SECONDS_PER_DAY;
                    rows.push(vec![
                        "rotation".into(),
                        format!("every {days} days; due at {}", output::time(due)),
                    ]);
                }
                if let Some(destruction) = &value.destruction {
                    rows.extend(destruction.rows(&value.alias));
                }
                for v in &value.versions {
                    let mut marks = Vec::new();
                    if !v.made {
                        marks.push(format!(
                            "unfinished: finish it with `quorate key create {} --resume`",
                            value.alias
                        ));
                    }
                    if v.threshold == 1 {
                        marks.push("whole at each node".to_owned());
                    }
                    if v.fragile {
                        marks.push("fragile: every node must answer".to_owned());
                    }
                    let holders = v.holders.iter().map(|name| with_law(&client, name));
                    let holders = holders.collect::<Vec<_>>().join(", ");
                    let mut text = format!("{}-of-{}: {holders}", v.threshold, v.nodes);
                    if !marks.is_empty() {
                        text.push_str(&format!(" ({})", marks.join("; ")));
                    }
                    rows.push(vec![format!("version {}", v.number), text]);
                    if let Some(shares) = &v.shares {
                        let lines =
                            shares.lines().into_iter().map(|line| vec![String::new(), line]);
                        rows.extend(lines);
                        rows.push(vec![String::new(), format!("refreshed {}", shares.refresh())]);
                    }
                }
                output::table(&rows)
            });
            app.warnings(&client);
        }
        Command::Rotate { key, due: _, threshold, critical: by_administrators } => {
            // A principal may not lower the threshold, so an administrator signs.
            let admin = critical(app, by_administrators || threshold.is_some())?;
            let client = app.administrator().await?;
            let rotated = match key {
                Some(key) => {
                    let key = client.key(&key).await?;
                    rotate(app, &client, &key, threshold, admin.as_ref()).await
                }
                None => rotate_due(app, &client, admin.as_ref()).await,
            };
            app.warnings(&client);
            rotated?;
        }
        Command::Refresh(args) => crate::commands::refresh::refresh(app, args).await?,
        Command::Move(args) => crate::commands::membership::move_keys(app, args).await?,
        Command::Minimum { key, nodes } => {
            let done = format!("has at least {nodes} nodes");
            change(app, key, KeyChange::Minimum(nodes), &done).await?;
        }
        Command::Rotation { key, every } => {
            let done = match every {
                0 => "is rotated by hand only".to_owned(),
                every => format!("is due for a new version every {} days", every / SECONDS_PER_DAY),
            };
            change(app, key, KeyChange::Rotation(every), &done).await?;
        }
        Command::Suspend(key) => {
            change(app, key, KeyChange::State(KeyState::Suspended), "is suspended").await?;
        }
        Command::Resume(key) => {
            change(app, key, KeyChange::State(KeyState::Active), "is active").await?;
        }
        Command::Deactivate(key) => {
            change(app, key, KeyChange::State(KeyState::Deactivated), "is deactivated").await?;
        }
        Command::Compromised(key) => {
            let state = KeyChange::State(KeyState::Compromised);
            change(app, key, state, "is marked as compromised").await?;
        }
        Command::Destroy { key, days } => {
            let destroy = KeyChange::Destroy { wait_seconds: days * SECONDS_PER_DAY };
            change(app, key, destroy, "is to be destroyed, and used for nothing until then")
                .await?;
        }
        Command::Keep(key) => {
            change(app, key, KeyChange::Keep, "is kept").await?;
        }
        Command::Alias { key, alias } => {
            let done = format!("is called {alias}");
            change(app, key, KeyChange::Alias(alias), &done).await?;
        }
        Command::Tag { key, tags } => {
            let tags = tags.iter().map(|text| tag(text)).collect::<Outcome<_>>()?;
            change(app, key, KeyChange::Tags(tags), "has other tags").await?;
        }
    }
    Ok(())
}
