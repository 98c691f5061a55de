//! `quorate change`: what several administrators sign.

use std::path::{Path, PathBuf};

use quorate_sdk::{Change, ChangeSummary, ClusterError, Error};
use serde::Serialize;

use crate::app::{App, shown};
use crate::args::{Change as Command, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::principal::read_text_to;
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Show { file, offline } => {
            let change = read(&file)?;
            if offline || !has_joined(app) {
                let value = Shown::new(&change, &change.explain_offline()?);
                app.out.result(&value, || value.text());
                by_its_file(app, &change, !value.keeps.is_empty());
                return Ok(());
            }
            let client = app.client()?;
            let summary = client.explain_change(&change).await?;
            let value = Shown::new(&change, &summary);
            app.out.result(&value, || value.text());
            app.warnings(&client);
            Ok(())
        }
        Command::List { folder } => {
            list(app, folder.as_deref().unwrap_or_else(|| Path::new("."))).await
        }
        Command::Sign { file, offline } => {
            let mut change = read(&file)?;
            let admin = app.profile()?.admin_key()?;
            let client = match offline || !has_joined(app) {
                true => None,
                false => Some(app.administrator().await?),
            };
            let explain = async |change: &Change| match &client {
                Some(client) => client.explain_change(change).await,
                None => change.explain_offline(),
            };
            let before = Shown::new(&change, &explain(&change).await?);
            app.out.note(&before.text());
            match &client {
                Some(client) => client.admin(&admin).sign_change(&mut change).await?,
                None => change.sign_offline(&admin)?,
            }
            atomic::write_private(&file, change.to_json().as_bytes(), true)?;
            let value = Shown::new(&change, &explain(&change).await?);
            app.out.result(&value, || {
                let next = if value.have >= value.need {
                    format!("hand it over with `quorate change submit {}`", file.display())
                } else {
                    "another administrator runs `quorate change sign` on it".to_owned()
                };
                format!("signed: {} of {}; {next}", value.have, value.need)
            });
            match &client {
                Some(client) => app.warnings(client),
                None => by_its_file(app, &change, !before.keeps.is_empty()),
            }
            Ok(())
        }
        Command::Submit { files, wait } => submit(app, &files, wait).await,
    }
}

/// Whether the profile knows a cluster, so that nodes can be asked.
fn has_joined(app: &App) -> bool {
    app.profile().is_ok_and(|profile| profile.membership().is_some())
}

/// Says what an explanation without nodes rests on.
fn by_its_file(app: &App, change: &Change, keeps: bool) {
    app.out.warn(&format!(
        "This is by what the file itself holds, verified from the first roster of {}: see that this is the cluster that you \
         mean. No node was asked, and what the file's maker left out of it CANNOT BE SEEN HERE: a newer version of what is \
         changed, or documents of the last days. {}",
        change.cluster(),
        if keeps {
            "All that the change keeps is listed; whatever is absent there, a policy or a key, counts no more once enough \
             have signed. If you miss something, do not sign; a profile that has joined the cluster asks the nodes."
        } else {
            "A profile that has joined the cluster asks the nodes."
        }
    ));
}

async fn submit(app: &App, files: &[PathBuf], wait: WaitArgs) -> Outcome {
    let mut changes = files.iter().map(|file| read(file)).collect::<Outcome<Vec<_>>>()?.into_iter();
    let mut change =
        changes.next().ok_or_else(|| Failure::new(Code::Usage, "no change was named"))?;
    for other in changes {
        change.absorb(&other).map_err(Error::from)?;
    }
    let client = app.administrator().await?;
    let summary = client.explain_change(&change).await?;
    if summary.have < summary.need as usize {
        let mut failure = Failure::from(Error::Unfinished(Box::new(change)));
        // The file is there already.
        failure.change = None;
        failure.message =
            format!("{} of {} administrators have signed the change", summary.have, summary.need);
        return Err(failure);
    }
    let delivered = client.submit_change(&change).await?;
    let delivered = app.settle(&client, delivered, wait).await?;
    #[derive(Serialize)]
    struct Submitted {
        operation: String,
        effects: Vec<String>,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let value = Submitted {
        operation: change.operation().to_owned(),
        effects: summary.effects,
        confirmed: Confirmed::control(&client, &delivered),
    };
    app.out.result(&value, || format!("{}\n{}", value.effects.join("\n"), value.confirmed.text()));
    app.warnings(&client);
    value.confirmed.outcome(wait)
}

/// Where a change of the folder stands.
#[derive(Serialize)]
struct Listed {
    file: String,
    operation: String,
    /// `done`, `ready`, `waiting`, `stale`, or `unreadable`.
    state: &'static str,
    effects: Vec<String>,
    have: usize,
    need: usize,
    /// Who could sign; this profile's own key among them where that has not signed.
    may_sign: Vec<String>,
    /// Whether this profile's administrator's key could sign and has not.
    waits_for_this_profile: bool,
    problem: Option<String>,
}

async fn list(app: &App, folder: &Path) -> Outcome {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Failure::reading(folder, &e))? {
        let name = entry.map_err(|e| Failure::reading(folder, &e))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("quorate-change-") && name.ends_with(".json") {
            files.push(folder.join(name.as_ref()));
        }
    }
    files.sort();
    let client = app.client()?;
    let own = app.profile()?.admin_key().ok().map(|key| key.public());
    let mut listed = Vec::new();
    for file in files {
        let name = shown(&file);
        let unexplained = |state, operation: &str, problem: String| Listed {
            file: name.clone(),
            operation: operation.to_owned(),
            state,
            effects: Vec::new(),
            have: 0,
            need: 0,
            may_sign: Vec::new(),
            waits_for_this_profile: false,
            problem: Some(problem),
        };
        let change = match read(&file) {
            Ok(change) => change,
            Err(failure) => {
                listed.push(unexplained("unreadable", "", failure.message));
                continue;
            }
        };
        let operation = change.operation();
        listed.push(match client.explain_change(&change).await {
            Ok(summary) => {
                let state = match () {
                    () if summary.done => "done",
                    () if summary.have >= summary.need as usize => "ready",
                    () => "waiting",
                };
                let may_sign = own.is_some_and(|own| summary.others.contains(&own));
                let value = Shown::new(&change, &summary);
                Listed {
                    file: name,
                    operation: value.operation,
                    state,
                    effects: value.effects,
                    have: value.have,
                    need: value.need,
                    may_sign: value.may_sign,
                    waits_for_this_profile: state == "waiting" && may_sign,
                    problem: None,
                }
            }
            Err(Error::Cluster(
                why @ (ClusterError::ChangeStale(_) | ClusterError::ChangeInvalid(_)),
            )) => unexplained("stale", operation, why.to_string()),
            Err(error) => return Err(error.into()),
        });
    }
    #[derive(Serialize)]
    struct Changes {
        changes: Vec<Listed>,
    }
    let value = Changes { changes: listed };
    app.out.result(&value, || {
        if value.changes.is_empty() {
            return "no changes here".to_owned();
        }
        let mut rows = vec![["FILE", "WHAT", "SIGNED", "STATE"].map(str::to_owned).to_vec()];
        rows.extend(value.changes.iter().map(|change| {
            let state = match (change.state, &change.problem) {
                ("ready", _) => "ready: quorate change submit".to_owned(),
                ("waiting", _) if change.waits_for_this_profile => {
                    "waits for you: quorate change sign".to_owned()
                }
                ("waiting", _) => "waits for other administrators".to_owned(),
                ("done", _) => "done; the file may go".to_owned(),
                (state, Some(problem)) => format!("{state}: {problem}"),
                (state, None) => state.to_owned(),
            };
            let signed = match change.need {
                0 => "-".to_owned(),
                need => format!("{} of {need}", change.have),
            };
            vec![change.file.clone(), change.operation.clone(), signed, state]
        }));
        crate::output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}

/// Bytes of a change file at most, with what it stands on.
const MAX_FILE_BYTES: u64 = 1 << 26;

fn read(file: &Path) -> Outcome<Change> {
    let text = read_text_to(file, MAX_FILE_BYTES)?;
    Ok(Change::parse(&text).map_err(Error::from)?)
}

/// Keeps a change in a file of this folder, for other administrators.
pub fn keep(app: &App, change: &Change) -> Outcome {
    let fingerprint = change.fingerprint().to_string();
    let short: String = fingerprint.chars().skip_while(|c| *c != '-').skip(1).take(12).collect();
    let path = PathBuf::from(format!("quorate-change-{short}.json"));
    let mut change = change.clone();
    // The same change made again has the signatures that it had.
    if let Ok(known) = read(&path) {
        let _ = change.absorb(&known);
    }
    atomic::write_private(&path, change.to_json().as_bytes(), true)?;
    #[derive(Serialize)]
    struct Kept {
        /// Set: nothing is changed yet.
        unfinished: bool,
        operation: String,
        change: String,
    }
    let value =
        Kept { unfinished: true, operation: change.operation().to_owned(), change: shown(&path) };
    app.out.result(&value, || {
        format!(
            "not done yet: to {}, more administrators must sign {}",
            value.operation, value.change
        )
    });
    app.out.note(&format!(
        "Give the file to another administrator, who looks at it and signs it:\n  quorate change show {0}\n  quorate change sign {0}\nWhen enough have signed, anybody of the tenant hands it over:\n  quorate change submit {0}",
        value.change
    ));
    Ok(())
}

#[derive(Serialize)]
struct Shown {
    operation: String,
    fingerprint: String,
    effects: Vec<String>,
    have: usize,
    need: usize,
    signed: Vec<String>,
    may_sign: Vec<String>,
    /// Of a roster or tenant, where no node was asked: all that it keeps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keeps: Vec<Keeps>,
}

/// Documents of one kind that a roster or tenant keeps.
#[derive(Serialize)]
struct Keeps {
    by: String,
    kind: &'static str,
    names: Vec<String>,
}

impl Shown {
    fn new(change: &Change, summary: &ChangeSummary) -> Self {
        Self {
            operation: summary.operation.clone(),
            fingerprint: change.fingerprint().to_string(),
            effects: summary.effects.clone(),
            have: summary.have,
            need: summary.need as usize,
            signed: summary.signed.iter().map(ToString::to_string).collect(),
            may_sign: summary.others.iter().map(ToString::to_string).collect(),
            keeps: summary
                .keeps
                .iter()
                .map(|kept| Keeps {
                    by: kept.by.clone(),
                    kind: kept.kind,
                    names: kept.names.clone(),
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("This change ({})", self.fingerprint);
        for effect in &self.effects {
            text.push_str(&format!("\n  {effect}"));
        }
        for kept in &self.keeps {
            let Keeps { by, kind, names } = kept;
            let names = if names.is_empty() { "NONE".to_owned() } else { names.join(", ") };
            text.push_str(&format!("\n  keeps {} {kind} of {by}: {names}", kept.names.len()));
        }
        text.push_str(&format!("\nsigned by {} of {} administrators", self.have, self.need));
        for key in &self.signed {
            text.push_str(&format!("\n  {key}"));
        }
        if self.have < self.need {
            text.push_str("\nmay sign:");
            for key in &self.may_sign {
                text.push_str(&format!("\n  {key}"));
            }
        }
        text
    }
}
