//! `quorate tenant create --batch`.

use std::collections::HashMap;
use std::path::Path;

use quorate_sdk::{BatchedTenant, NewTenant, SignedTenant, TenantRequest};
use serde::Deserialize;

use super::{Created, administrator, proven, under};
use crate::app::App;
use crate::args::WaitArgs;
use crate::commands::confirmed::Confirmed;
use crate::commands::encrypt::is_dash;
use crate::commands::progress::Progress;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Bytes of a batch at most.
const MAX_BATCH_BYTES: u64 = 1 << 28;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    /// Without one the tenant is managed: its administrator is the one that makes it.
    #[serde(default)]
    request: Option<String>,
    #[serde(default)]
    support: Option<String>,
}

/// A tenant a line, with the line; none is made where one of them is wrong.
fn read(
    path: &Path,
    support: Option<&str>,
    own: TenantRequest,
) -> Outcome<Vec<(String, NewTenant)>> {
    let mut text = String::new();
    let read = |from: &mut dyn std::io::Read, text: &mut String| {
        std::io::Read::read_to_string(&mut std::io::Read::take(from, MAX_BATCH_BYTES), text)
    };
    let result = if is_dash(path) {
        read(&mut std::io::stdin(), &mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut text))
    };
    result.map_err(|e| Failure::reading(path, &e))?;
    let mut all = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let (number, text) = (number + 1, line.trim());
        let bad = |why: String| {
            Failure::new(Code::Usage, format!("{}, line {number}: {why}", path.display()))
        };
        let line: Line = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if let Some(before) = names.insert(line.name.clone(), number) {
            return Err(bad(format!("line {before} has a tenant of this name too")));
        }
        let request = match &line.request {
            Some(text) => {
                let request = TenantRequest::parse(text).map_err(|e| bad(e.to_string()))?;
                proven(request).map_err(|failure| bad(failure.message))?
            }
            None => own,
        };
        let support = line.support.as_deref().or(support);
        let new = NewTenant {
            name: line.name,
            requests: vec![request],
            quorum: None,
            recovery: None,
            support_contact: support.unwrap_or_default().to_owned(),
        };
        all.push((text.to_owned(), new));
    }
    if all.is_empty() {
        return Err(Failure::new(Code::Usage, format!("{} has no lines", path.display())));
    }
    Ok(all)
}

/// Runs a batch. What is signed is kept beside it before anything is sent, so that a second run sends the same; what
/// came without a file, or lost it, is known by its name.
pub async fn run(
    app: &App,
    path: &Path,
    support: Option<&str>,
    named: Option<&str>,
    wait: WaitArgs,
) -> Outcome {
    let lines = read(path, support, TenantRequest::by(&app.profile()?.admin_key()?))?;
    let (client, admin) = administrator(app).await?;
    let above = under(&client, named).await?;
    let mut progress = if is_dash(path) { None } else { Some(Progress::open(path)?) };
    let known = |line: &String| progress.as_ref().and_then(|progress| progress.signed.get(line));
    let wanted = lines.iter().map(|(line, new)| BatchedTenant {
        new: new.clone(),
        before: known(line).and_then(|text| SignedTenant::parse(text).ok()),
    });
    let signed = client.admin(&admin).sign_tenants(above, wanted.collect()).await?;
    if let Some(progress) = &mut progress {
        for ((line, _), tenant) in lines.iter().zip(&signed) {
            let text = tenant.tenant.to_text();
            if progress.signed.get(line) != Some(&text) {
                progress.signed(line, text)?;
            }
        }
        progress.settle()?;
    }
    let before = signed.iter().filter(|tenant| tenant.shown).count();
    let signed: Vec<SignedTenant> = signed.into_iter().map(|tenant| tenant.tenant).collect();
    let (made, delivered) = client.admin(&admin).make_tenants(above, &signed).await?;
    let delivered = app.settle(&client, delivered, wait).await?;
    let confirmed = Confirmed::control(&client, &delivered);
    let there = if before > 0 { format!(", {before} were there") } else { String::new() };
    let number = output::counted(made.len().saturating_sub(before), "tenant");
    app.out.note(&format!("made {number}{there}; {}", confirmed.text()));
    // A line each, so that a list of any length can be read piece by piece.
    for tenant in &made {
        let tenant = Created::new(&client, tenant, &delivered);
        output::print_line(&serde_json::to_string(&tenant).unwrap_or_default());
    }
    app.warnings(&client);
    confirmed.outcome(wait)
}
