//! `quorate key`.

use quorate_sdk::{Client, CreatedKey, Key, KeySpecRequest, NodeId};
use serde::Serialize;

use crate::app::App;
use crate::args::Key as Command;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// A key, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    alias: String,
    spec: &'static str,
    state: &'static str,
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
    /// Every node of the committee must answer.
    fragile: bool,
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
            fragile: v.threshold.n() > 1 && v.threshold.spare() == 0,
        })
        .collect();
    Shown {
        id: key.id().to_string(),
        alias: key.alias().to_owned(),
        spec: key.spec().name(),
        state: key.state().name(),
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

/// Prints a key that was made just now.
fn print_created(app: &App, client: &Client, made: &CreatedKey) {
    for (node, why) in &made.lacking {
        app.out.warn(&format!("{node} has its share but not the certificate yet: {why}"));
    }
    #[derive(Serialize)]
    struct Created<'a> {
        key: Shown,
        version: u32,
        fingerprint: String,
        holders: &'a [String],
        lacking: Vec<&'a String>,
    }
    let value = Created {
        key: shown(client, &made.key),
        version: made.version.get(),
        fingerprint: made.fingerprint.to_string(),
        holders: &made.holders,
        lacking: made.lacking.iter().map(|(n, _)| n).collect(),
    };
    app.out.result(&value, || {
        output::table(&[
            vec!["key".into(), format!("{} version {}", made.key.alias(), made.version)],
            vec!["id".into(), made.key.id().to_string()],
            vec!["certificate".into(), made.fingerprint.to_string()],
            vec!["shares".into(), made.holders.join(", ")],
        ])
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

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Create { alias, threshold, allow_fragile, fragment_required, resume } => {
            let client = app.administrator().await?;
            let bar = app.out.steps();
            let progress = |p: quorate_sdk::Progress| {
                bar.set_message(format!("step {} of {}: {}", p.step, p.of, p.what));
            };
            let made = if resume {
                client.resume_key(&alias, progress).await.map_err(|e| resumable(e, &alias))?
            } else {
                let n = client.roster().nodes.len() as u16;
                let threshold = threshold.unwrap_or(n / 2 + 1);
                if threshold == n && n > 1 && !allow_fragile {
                    return Err(Failure::new(
                        Code::Usage,
                        format!("the key would be fragile: all {n} nodes would have to answer, and losing one would lose it"),
                    )
                    .next("Choose a lower --threshold, or add --allow-fragile."));
                }
                let request = KeySpecRequest {
                    alias: alias.clone(),
                    threshold,
                    allow_fragile,
                    fragment_required,
                    ..KeySpecRequest::default()
                };
                client.create_key(request, progress).await.map_err(|e| resumable(e, &alias))?
            };
            bar.finish_and_clear();
            print_created(app, &client, &made);
            app.warnings(&client);
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
                        k.state.to_owned(),
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
            let value = shown(&client, &key);
            app.out.result(&value, || {
                let mut rows = vec![
                    vec!["alias".into(), value.alias.clone()],
                    vec!["id".into(), value.id.clone()],
                    vec!["spec".into(), value.spec.into()],
                    vec!["state".into(), value.state.into()],
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
                    let mut text =
                        format!("{}-of-{}: {}", v.threshold, v.nodes, v.holders.join(", "));
                    if !marks.is_empty() {
                        text.push_str(&format!(" ({})", marks.join("; ")));
                    }
                    rows.push(vec![format!("version {}", v.number), text]);
                }
                output::table(&rows)
            });
            app.warnings(&client);
        }
        Command::Rotate { key, threshold } => {
            let client = app.administrator().await?;
            let key = client.key(&key).await?;
            // A principal may not lower it, so an administrator signs.
            let admin = threshold.map(|_| app.profile()?.admin_key().map_err(Failure::from));
            let admin = admin.transpose()?;
            let bar = app.out.steps();
            let made = client
                .rotate_key_to(&key, threshold.zip(admin.as_ref()), |p| {
                    bar.set_message(format!("step {} of {}: {}", p.step, p.of, p.what));
                })
                .await
                .map_err(|e| resumable(e, key.alias()))?;
            bar.finish_and_clear();
            print_created(app, &client, &made);
            app.warnings(&client);
        }
    }
    Ok(())
}
