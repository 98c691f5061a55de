//! `quorate doctor`: what is wrong, and what to paste.
//!
//! It gathers facts once ([`facts`]) and lets every check look at them ([`checks`]). It changes nothing.

pub mod checks;
mod credentials;
pub mod facts;
mod finding;
pub mod keys;
mod machine;
mod nodes;
mod roster;
mod standing;
#[cfg(test)]
mod tests;
mod versions;

use serde::Serialize;

use crate::app::App;
use crate::args::Doctor;
use crate::failure::{Code, Failure, Outcome};
pub use checks::CHECKS;
pub use finding::{Finding, Severity, quoted};

use facts::Facts;

#[derive(Serialize)]
struct Report<'a> {
    profile: &'a str,
    cluster: Option<&'a str>,
    checks: usize,
    findings: &'a [Finding],
    unchecked: &'a [String],
}

/// What all checks find, the worst first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS
        .iter()
        .flat_map(|check| {
            (check.find)(facts).into_iter().map(|found| Finding {
                code: check.code,
                severity: check.severity,
                found,
            })
        })
        .collect();
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.severity));
    findings
}

/// Fails where something is the matter, so that a script notices: by how bad the worst is.
pub fn verdict(findings: &[Finding]) -> Outcome {
    let worst = findings.iter().map(|finding| finding.severity).max();
    let code = match worst {
        None | Some(Severity::Notice) => return Ok(()),
        Some(Severity::Warning) => Code::Attention,
        Some(Severity::Critical) => Code::Unhealthy,
    };
    let mut codes: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity > Severity::Notice)
        .map(|finding| finding.code)
        .collect();
    codes.dedup();
    Err(Failure::new(code, format!("found {}", codes.join(", "))))
}

/// Runs it.
pub async fn run(app: &App, args: &Doctor) -> Outcome {
    let facts = match &args.data_dir {
        Some(dir) => Facts { local: Some(facts::of_machine(dir)), ..Facts::default() },
        None => remote(app, !args.quick).await?,
    };
    let findings = examine(&facts);
    let cluster = facts.cluster.as_ref();
    let report = Report {
        profile: &facts.profile,
        cluster: cluster.map(|cluster| cluster.id.as_str()),
        checks: CHECKS.len(),
        findings: &findings,
        unchecked: &facts.unchecked,
    };
    app.out.result(&report, || {
        let mut lines: Vec<String> = findings.iter().map(Finding::text).collect();
        let about = match (&facts.local, cluster) {
            (Some(local), _) => format!("the node in {}", local.data_dir.display()),
            (None, Some(cluster)) => cluster.name.clone(),
            (None, None) => format!("the profile \"{}\"", facts.profile),
        };
        lines.extend(facts.unchecked.iter().map(|what| format!("not looked at: {what}")));
        lines.push(match findings.len() {
            0 => format!("{about}: nothing is wrong, by {} checks", CHECKS.len()),
            1 => format!("{about}: 1 finding"),
            n => format!("{about}: {n} findings"),
        });
        lines.join("\n")
    });
    verdict(&findings)
}

/// What the profile and its cluster show.
async fn remote(app: &App, probe: bool) -> Outcome<Facts> {
    let client = match app.client() {
        Ok(client) => client,
        // What is wrong with a profile is a finding, where something can be pasted to mend it.
        Err(failure) => {
            let Some(path) = app.exposed_key() else { return Err(failure) };
            let command = format!("chmod 600 {}", finding::quoted(&path.display().to_string()));
            return Ok(Facts {
                profile: app.settings.profile.0.clone(),
                profile_problem: Some((failure.message, Some(command))),
                ..Facts::default()
            });
        }
    };
    Ok(facts::of_cluster(app, &client, probe).await)
}

/// The chapter on the checks in docs/errors.md.
pub fn document() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "\n## What the doctor finds\n\n`quorate doctor` looks at the cluster as the profile sees it, and \
         `quorate doctor --data-dir DIR` at a node's own files. Each finding names what it is about, and \
         has the remedy as commands with the names filled in; `cluster status` lists the same findings. \
         The exit status is that of the worst: 0 for notices, 8 for warnings, 9 for critical ones.\n\n\
         | Code | Severity | When | Remedy |\n|---|---|---|---|\n",
    );
    for check in CHECKS {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            check.code,
            check.severity.name(),
            check.meaning,
            check.remedy
        );
    }
    text
}
