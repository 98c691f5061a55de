//! `quorate admin`: the administrators of a tenant, or of the cluster.

use quorate_sdk::{Above, AdminKey, Client, Delivered, Error, PublicKey, TenantRequest};
use serde::Serialize;

use crate::app::App;
use crate::args::{Admin as Command, ScopeArgs, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::tenant::proven;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

fn above(scope: ScopeArgs) -> Above {
    if scope.cluster { Above::Cluster } else { Above::Tenant }
}

fn key(text: &str) -> Outcome<PublicKey> {
    let request = TenantRequest::parse(text).map_err(|_| {
        Failure::new(
            Code::Usage,
            format!("not a public key (ed25519-...): {}", text.escape_debug()),
        )
    })?;
    Ok(request.administrator)
}

/// A key that is to administer, with the proof that somebody has it.
fn added(text: &str) -> Outcome<PublicKey> {
    key(text)?;
    let request = TenantRequest::parse(text).map_err(Error::from)?;
    Ok(proven(request)?.administrator)
}

fn majority(keys: usize) -> u32 {
    u32::try_from(keys / 2 + 1).unwrap_or(u32::MAX)
}

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::List { scope } => list(app, scope).await,
        Command::Add { request: text, quorum, scope, wait } => {
            let added = added(&text)?;
            let what = format!("add {added} to the administrators");
            change(app, scope, wait, &what, move |keys, needed| {
                if !keys.contains(&added) {
                    keys.push(added);
                }
                *needed = quorum.unwrap_or_else(|| (*needed).max(majority(keys.len())));
            })
            .await
        }
        Command::Remove { key: text, quorum, scope, wait } => {
            let removed = key(&text)?;
            let client = app.administrator().await?;
            let known = client.administrators(above(scope)).await?;
            if !known.keys.contains(&removed) {
                return Err(Failure::new(
                    Code::Usage,
                    format!("{removed} is no administrator of {}", known.name),
                ));
            }
            let what = format!("remove {removed} from the administrators");
            change(app, scope, wait, &what, move |keys, needed| {
                keys.retain(|key| *key != removed);
                let most = u32::try_from(keys.len()).unwrap_or(u32::MAX);
                *needed = quorum.unwrap_or_else(|| (*needed).min(most));
            })
            .await
        }
        Command::Quorum { quorum, scope, wait } => {
            let what = format!("let {quorum} administrators sign");
            change(app, scope, wait, &what, move |_, needed| *needed = quorum).await
        }
        Command::Rotate { wait } => rotate(app, wait).await,
        Command::Recover { recovery_key_file, administrator, quorum, scope, wait } => {
            let recovery = AdminKey::read(&recovery_key_file)?;
            let keys = administrator.iter().map(|text| key(text)).collect::<Outcome<Vec<_>>>()?;
            let client = app.administrator().await?;
            app.carry(&client).await;
            let administrators = (!keys.is_empty()).then_some((keys, quorum));
            // Signed by the recovery key; the profile needs none of its own.
            let delivered =
                client.admin(&recovery).recover(above(scope), &recovery, administrators).await?;
            done(app, &client, wait, "recover", delivered).await
        }
    }
}

async fn change(
    app: &App,
    scope: ScopeArgs,
    wait: WaitArgs,
    what: &str,
    change: impl FnOnce(&mut Vec<PublicKey>, &mut u32),
) -> Outcome {
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    // Everything that counts must be at the nodes, since the next version lists it.
    app.carry(&client).await;
    let delivered = client.admin(&admin).change_administrators(above(scope), what, change).await?;
    done(app, &client, wait, what, delivered).await
}

async fn done(
    app: &App,
    client: &Client,
    wait: WaitArgs,
    what: &str,
    delivered: Delivered,
) -> Outcome {
    let delivered = app.settle(client, delivered, wait).await?;
    Confirmed::control(client, &delivered).tell(app, client, &format!("done: {what}"), wait)
}

async fn list(app: &App, scope: ScopeArgs) -> Outcome {
    let client = app.client()?;
    let found = client.administrators(above(scope)).await?;
    let own = app.profile()?.admin_key().ok().map(|key| key.public());
    #[derive(Serialize)]
    struct Shown {
        name: String,
        quorum: u32,
        administrators: Vec<String>,
        recovery: Vec<String>,
        contested: bool,
        version: u64,
        /// This profile's key, where it is one of them.
        own: Option<String>,
    }
    let value = Shown {
        name: found.name,
        quorum: found.quorum,
        administrators: found.keys.iter().map(ToString::to_string).collect(),
        recovery: found.recovery.iter().map(ToString::to_string).collect(),
        contested: found.contested,
        version: found.version,
        own: own.filter(|key| found.keys.contains(key)).map(|key| key.to_string()),
    };
    app.out.result(&value, || {
        let mut rows = vec![vec!["KEY".to_owned(), "MAY".to_owned()]];
        rows.extend(value.administrators.iter().map(|key| {
            let own = if value.own.as_ref() == Some(key) { " (this profile)" } else { "" };
            vec![key.clone(), format!("sign{own}")]
        }));
        rows.extend(value.recovery.iter().map(|key| vec![key.clone(), "recover".to_owned()]));
        let mut text = format!(
            "{}: {} of {} administrators must sign\n{}",
            value.name,
            value.quorum,
            value.administrators.len(),
            output::table(&rows)
        );
        if value.contested {
            text.push_str(
                "\ntwo versions contend: only recovery keys can go on, with `quorate admin recover`",
            );
        }
        text
    });
    app.warnings(&client);
    Ok(())
}

async fn rotate(app: &App, wait: WaitArgs) -> Outcome {
    let mut profile = app.profile()?;
    let client = app.administrator().await?;
    app.carry(&client).await;
    let rotated = profile.rotate_admin_key(&client).await?;
    let mut confirmed = Vec::new();
    for delivered in rotated.delivered {
        let delivered = app.settle(&client, delivered, wait).await?;
        confirmed.push(Confirmed::control(&client, &delivered));
    }
    for change in &rotated.unfinished {
        crate::commands::change::keep(app, change)?;
    }
    #[derive(Serialize)]
    struct Rotated {
        public_key: String,
        retired: String,
        /// Others must sign first; the profile has both keys until then.
        unfinished: bool,
        /// Tenants below that are administered with the old key, which stays beside the new one.
        managed_with_old: Vec<String>,
        confirmed: Vec<Confirmed>,
    }
    let value = Rotated {
        public_key: rotated.public_key.to_string(),
        retired: rotated.retired.to_string(),
        unfinished: !rotated.unfinished.is_empty(),
        managed_with_old: rotated.managed,
        confirmed,
    };
    if value.unfinished {
        app.out.note("When those are in force, say `quorate admin rotate` again.");
        return Ok(());
    }
    app.out.result(&value, || {
        let mut text = format!(
            "the administrator's key is {} from now on, in place of {}",
            value.public_key, value.retired
        );
        for confirmed in &value.confirmed {
            text.push_str(&format!("\n{}", confirmed.text()));
        }
        text
    });
    if !value.managed_with_old.is_empty() {
        app.out.warn(&format!(
            "tenants below that this profile manages still name the old key, which stays in \
             admin-former.key: {}",
            value.managed_with_old.join(", ")
        ));
    }
    app.out.note("Copy the profile's folder to its safe place again: a new admin.key is in it.");
    app.warnings(&client);
    value.confirmed.iter().try_for_each(|confirmed| confirmed.outcome(wait))
}
