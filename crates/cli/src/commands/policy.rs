//! `quorate policy`.

use std::path::{Path, PathBuf};

use quorate_authz::policy::{
    Effect, MAX_CASES, PolicyCases, PolicyHead, PolicySet, PolicySetError, PolicySource,
};
use quorate_sdk::{Client, Delivered, PolicyInfo};
use serde::Serialize;

use crate::app::App;
use crate::args::{Policy as Command, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::principal::read_text;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Check { files, deployed } => check(app, &files, deployed).await,
        Command::Test { cases, policy } => test(app, &cases, &policy).await,
        Command::Set { name, file, wait } => set(app, &name, &file, wait).await,
        Command::Explain { what, principal, key, at, refused } => {
            let asked = crate::commands::explain::Asked { what, principal, key, at, refused };
            crate::commands::explain::run(app, asked).await
        }
        Command::List => list(app).await,
        Command::Show { policy } => show(app, &policy).await,
        Command::Disable { policy, wait } => {
            let admin = app.profile()?.admin_key()?;
            let client = app.administrator().await?;
            let delivered = client.admin(&admin).disable_policy(&policy).await?;
            done(app, &client, &format!("disabled {policy}"), wait, delivered).await
        }
    }
}

/// A text that is no policy: each error at its place in the file.
fn wrong(file: &Path, error: &PolicySetError) -> Failure {
    let message = match error {
        PolicySetError::Text { errors, .. } => {
            let line = |e: &quorate_authz::policy::PolicyError| {
                let help = e.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{}:{}:{}: {}{help}", file.display(), e.line, e.column, e.message)
            };
            errors.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        other => format!("{}: {other}", file.display()),
    };
    Failure::new(Code::PolicyInvalid, message)
}

/// What a file of policies is called: its name without the ending.
fn called(file: &Path) -> String {
    file.file_stem().map_or_else(|| "policy".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The texts of files, each checked by itself, so that an error names its file.
fn drafts(files: &[PathBuf]) -> Outcome<Vec<PolicySource>> {
    let mut drafts: Vec<PolicySource> = Vec::with_capacity(files.len());
    for file in files {
        let draft = PolicySource::draft(&called(file), &read_text(file)?);
        PolicySet::parse(std::slice::from_ref(&draft)).map_err(|error| wrong(file, &error))?;
        if drafts.iter().any(|other| other.name == draft.name) {
            let message = format!("two files are called {}", draft.name);
            return Err(Failure::new(Code::Usage, message));
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

/// The set that would result where these take the place of those in force that have their names.
fn resulting(drafts: Vec<PolicySource>, deployed: &[PolicyInfo]) -> Outcome<PolicySet> {
    let replaced = |policy: &&PolicyInfo| drafts.iter().all(|draft| draft.name != policy.name);
    let mut all: Vec<PolicySource> = deployed.iter().filter(replaced).map(source).collect();
    let alone = all.is_empty();
    all.extend(drafts);
    PolicySet::parse(&all).map_err(|error| {
        let with = if alone { "together" } else { "with those in force" };
        Failure::new(Code::PolicyInvalid, format!("{with}: {error}"))
            .next("Put less into them, or disable one that is in force.")
    })
}

async fn check(app: &App, files: &[PathBuf], deployed: bool) -> Outcome {
    let drafts = drafts(files)?;
    let in_force = if deployed { app.client()?.list_policies().await? } else { Vec::new() };
    let set = resulting(drafts, &in_force)?;
    for warning in set.warnings() {
        app.out.warn(warning);
    }
    #[derive(Serialize)]
    struct Checked {
        policies: usize,
        /// About how many steps one decision takes.
        steps: u64,
        warnings: Vec<String>,
    }
    let value =
        Checked { policies: set.len(), steps: set.cost(), warnings: set.warnings().to_vec() };
    app.out.result(&value, || {
        let policies = if value.policies == 1 { "policy" } else { "policies" };
        format!("{} {policies}, in order", value.policies)
    });
    Ok(())
}

pub(super) fn source(policy: &PolicyInfo) -> PolicySource {
    let heads = policy.heads.iter();
    PolicySource {
        document: policy.id,
        name: policy.name.clone(),
        heads: heads
            .map(|head| PolicyHead { disabled: head.disabled, text: head.text.clone() })
            .collect(),
    }
}

async fn test(app: &App, cases: &Path, files: &[PathBuf]) -> Outcome {
    let text = read_text(cases)?;
    let is_json = text.trim_start().starts_with('{');
    let parsed: Result<PolicyCases, String> = if is_json {
        serde_json::from_str(&text).map_err(|e| e.to_string())
    } else {
        toml::from_str(&text).map_err(|e| e.to_string())
    };
    let bad = |why: String| Failure::new(Code::Usage, format!("{}: {why}", cases.display()));
    let parsed = parsed.map_err(bad)?;
    if parsed.cases.len() > MAX_CASES {
        return Err(bad(format!("{} cases; at most {MAX_CASES}", parsed.cases.len())));
    }
    let drafts = drafts(files)?;
    let in_force = if files.is_empty() { app.client()?.list_policies().await? } else { Vec::new() };
    let set = resulting(drafts, &in_force)?;
    #[derive(Serialize)]
    struct Case {
        name: String,
        passed: bool,
        allowed: bool,
        policies: &'static str,
        because: Vec<String>,
    }
    let mut run = Vec::with_capacity(parsed.cases.len());
    for case in &parsed.cases {
        let result = case.run(&set).map_err(|e| bad(format!("case \"{}\": {e}", case.name)))?;
        let decision = result.explanation.decision;
        run.push(Case {
            name: case.name.clone(),
            passed: result.passed,
            allowed: result.allowed,
            policies: match decision.effect {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
                Effect::Silent => "silent",
                Effect::Error => "error",
            },
            because: decision.determining,
        });
    }
    app.out.result(&run, || {
        let mut rows =
            vec![["CASE", "", "ALLOWED", "POLICIES", "BECAUSE"].map(str::to_owned).to_vec()];
        rows.extend(run.iter().map(|case| {
            vec![
                case.name.clone(),
                if case.passed { "passed" } else { "FAILED" }.to_owned(),
                if case.allowed { "yes" } else { "no" }.to_owned(),
                case.policies.to_owned(),
                case.because.join(", "),
            ]
        }));
        output::table(&rows)
    });
    let failed = run.iter().filter(|case| !case.passed).count();
    if failed > 0 {
        let message = format!("{failed} of {} cases came out differently", run.len());
        return Err(Failure::new(Code::PolicyCases, message));
    }
    Ok(())
}

async fn set(app: &App, name: &str, file: &Path, wait: WaitArgs) -> Outcome {
    let text = read_text(file)?;
    let new = PolicySource::draft(name, &text);
    let checked = PolicySet::parse(std::slice::from_ref(&new)).map_err(|e| wrong(file, &e))?;
    if checked.is_empty() {
        let message = format!(
            "{} has no policy in it, and would take away all that {name} says; `quorate policy disable \
             {name}` does that",
            file.display()
        );
        return Err(Failure::new(Code::PolicyInvalid, message));
    }
    for warning in checked.warnings() {
        app.out.warn(warning);
    }
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    // A set that outgrows a bound denies everything, which no single text shows.
    resulting(vec![new], &client.list_policies().await?)?;
    let delivered = client.admin(&admin).set_policy(name, &text).await?;
    done(app, &client, &format!("set {name}"), wait, delivered).await
}

async fn done(
    app: &App,
    client: &Client,
    what: &str,
    wait: WaitArgs,
    delivered: Delivered,
) -> Outcome {
    let delivered = app.settle(client, delivered, wait).await?;
    let confirmed = Confirmed::count(client, None, &delivered).await;
    confirmed.tell(app, client, what, wait)
}

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    disabled: bool,
    /// Several versions contend: the strictest of what they say counts.
    contested: bool,
    changed_at: u64,
    /// What each version in force says.
    texts: Vec<String>,
}

fn shown(policy: &PolicyInfo) -> Shown {
    Shown {
        id: policy.id.to_string(),
        name: policy.name.clone(),
        disabled: policy.disabled(),
        contested: policy.heads.len() > 1,
        changed_at: policy.changed_at.0,
        texts: policy.heads.iter().map(|head| head.text.clone()).collect(),
    }
}

async fn list(app: &App) -> Outcome {
    let client = app.client()?;
    let all: Vec<Shown> = client.list_policies().await?.iter().map(shown).collect();
    app.out.result(&all, || {
        let mut rows = vec![["NAME", "STATE", "CHANGED", "ID"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|p| {
            let state = match (p.disabled, p.contested) {
                (true, _) => "disabled",
                (false, true) => "contested",
                (false, false) => "in force",
            };
            vec![p.name.clone(), state.to_owned(), output::time(p.changed_at), p.id.clone()]
        }));
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}

async fn show(app: &App, selector: &str) -> Outcome {
    let client = app.client()?;
    let policy = shown(&client.policy(selector).await?);
    app.out.result(&policy, || {
        if policy.disabled {
            app.out.note("It is disabled.");
        }
        policy.texts.join("\n// Another version, made at the same time:\n").trim_end().to_owned()
    });
    app.warnings(&client);
    Ok(())
}
