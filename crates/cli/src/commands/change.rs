//! `quorate change`: what several administrators sign.

use std::path::{Path, PathBuf};

use quorate_sdk::{Change, ChangeSummary, Error};
use serde::Serialize;

use crate::app::{App, shown};
use crate::args::{Change as Command, WaitArgs};
use crate::commands::principal::{Confirmed, read_text};
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Show { file } => {
            let change = read(&file)?;
            let client = app.client()?;
            let summary = client.explain_change(&change).await?;
            let value = Shown::new(&change, &summary);
            app.out.result(&value, || value.text());
            app.warnings(&client);
            Ok(())
        }
        Command::Sign { file } => {
            let mut change = read(&file)?;
            let admin = app.profile()?.admin_key()?;
            let client = app.administrator().await?;
            let before = client.explain_change(&change).await?;
            app.out.note(&Shown::new(&change, &before).text());
            client.admin(&admin).sign_change(&mut change).await?;
            atomic::write_private(&file, change.to_json().as_bytes(), true)?;
            let value = Shown::new(&change, &client.explain_change(&change).await?);
            app.out.result(&value, || {
                let next = if value.have >= value.need {
                    format!("hand it over with `quorate change submit {}`", file.display())
                } else {
                    "another administrator runs `quorate change sign` on it".to_owned()
                };
                format!("signed: {} of {}; {next}", value.have, value.need)
            });
            app.warnings(&client);
            Ok(())
        }
        Command::Submit { files, wait } => submit(app, &files, wait).await,
    }
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
    App::waited(&delivered, wait)
}

fn read(file: &Path) -> Outcome<Change> {
    let text = read_text(file)?;
    Ok(Change::parse(&text).map_err(Error::from)?)
}

/// Keeps a change in a file of this folder, for other administrators.
pub fn keep(app: &App, change: &Change) -> Outcome {
    let fingerprint = change.fingerprint().to_string();
    let short: String = fingerprint.chars().skip_while(|c| *c != '-').skip(1).take(12).collect();
    let path = PathBuf::from(format!("quorate-change-{short}.json"));
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
        }
    }

    fn text(&self) -> String {
        let mut text = format!("This change ({})", self.fingerprint);
        for effect in &self.effects {
            text.push_str(&format!("\n  {effect}"));
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
