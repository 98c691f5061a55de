//! `quorate grant`.

use quorate_sdk::{Action, Client, DocumentId, GrantInfo, NewGrant, PrincipalId, TenantId};
use serde::Serialize;

use crate::app::{self, App};
use crate::args::{Grant as Command, Grantable, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

impl From<Grantable> for Action {
    fn from(allow: Grantable) -> Self {
        match allow {
            Grantable::Encrypt => Self::Encrypt,
            Grantable::Decrypt => Self::Decrypt,
            Grantable::Rewrap => Self::Rewrap,
        }
    }
}

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Create { to, key, allow, context, days, wait } => {
            let context = app::context(&context)?;
            let client = app.administrator().await?;
            let (grantee, grantee_tenant) = grantee(&client, &to).await?;
            let new = NewGrant {
                grantee,
                grantee_tenant,
                actions: allow.into_iter().map(Action::from).collect(),
                key: client.key(&key).await?.id(),
                context,
                days,
            };
            create(app, &client, &new, wait).await
        }
        Command::Address => {
            let client = app.client()?;
            #[derive(Serialize)]
            struct Address {
                address: String,
            }
            let value = Address { address: format!("{}@{}", client.principal(), client.tenant()) };
            app.out.result(&value, || value.address.clone());
            Ok(())
        }
        Command::List => list(app).await,
        Command::Revoke { grant, wait } => {
            let id: DocumentId = grant.parse().map_err(|_| {
                let what = format!("not a grant's id (doc-...): {}", grant.escape_debug());
                Failure::new(Code::Usage, what).next("`quorate grant list` shows the ids.")
            })?;
            let admin = app.profile()?.admin_key().ok();
            let client = app.administrator().await?;
            let delivered = client.revoke_grant(id, admin.as_ref()).await?;
            let delivered = app.settle(&client, delivered, wait).await?;
            let confirmed = Confirmed::count(&client, None, &delivered).await;
            confirmed.tell(app, &client, &format!("revoked {grant}"), wait)
        }
    }
}

/// Whom `--to` means.
async fn grantee(client: &Client, to: &str) -> Outcome<(PrincipalId, TenantId)> {
    let usage = |what: &str| {
        Failure::new(Code::Usage, format!("--to {}: {what}", to.escape_debug()))
            .next("Ask the grantee for what `quorate grant address` prints.")
    };
    if let Some((principal, tenant)) = to.split_once('@')
        && let Ok(principal) = principal.parse()
    {
        let tenant = tenant.parse().map_err(|_| usage("the part after @ is no tenant's id"))?;
        return Ok((principal, tenant));
    }
    let principals = client.list_principals().await?;
    let mut found = principals
        .iter()
        .filter(|p| !p.revoked && (p.name == to || p.id.to_string() == to))
        .map(|p| (p.id, p.tenant));
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(usage("no principal of this profile's tenant, and not PRINCIPAL@TENANT")),
        (Some(_), Some(_)) => Err(usage("several principals are called so; give the id")),
    }
}

async fn create(app: &App, client: &Client, new: &NewGrant, wait: WaitArgs) -> Outcome {
    let admin = app.profile()?.admin_key().ok();
    let (id, delivered) = client.create_grant(new, admin.as_ref()).await?;
    let delivered = app.settle(client, delivered, wait).await?;
    #[derive(Serialize)]
    struct Created {
        id: String,
        key: String,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let value = Created {
        id: id.to_string(),
        key: new.key.to_string(),
        confirmed: Confirmed::count(client, None, &delivered).await,
    };
    app.out.result(&value, || value.id.clone());
    app.out.note(&format!(
        "granted the use of {} for {} days; {}\nTake it back with\n  quorate grant revoke {}",
        value.key,
        new.days,
        value.confirmed.text(),
        value.id
    ));
    app.warnings(client);
    value.confirmed.outcome(wait)
}

#[derive(Serialize)]
struct Shown {
    id: String,
    grantee: String,
    grantee_tenant: String,
    allow: Vec<String>,
    key: String,
    context: Vec<(String, String)>,
    not_before: u64,
    expires_at: u64,
    revoked: bool,
    /// Two changes were made at once; only what both allow is allowed.
    contested: bool,
    /// Principals that granted it by themselves; administrators, where there is none.
    granted_by: Vec<GrantedBy>,
}

#[derive(Serialize)]
struct GrantedBy {
    id: String,
    name: String,
}

impl Shown {
    fn granted_by(&self) -> String {
        match self.granted_by.as_slice() {
            [] => "administrators".to_owned(),
            all => all.iter().map(|by| by.name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }
}

fn shown(grant: &GrantInfo) -> Shown {
    Shown {
        id: grant.id.to_string(),
        grantee: grant.grantee.to_string(),
        grantee_tenant: grant.grantee_tenant.to_string(),
        allow: grant.actions.iter().map(ToString::to_string).collect(),
        key: grant.key.to_string(),
        context: grant.context.pairs().to_vec(),
        not_before: grant.not_before.0,
        expires_at: grant.expires_at.0,
        revoked: grant.revoked,
        contested: grant.contested,
        granted_by: grant
            .granted_by
            .iter()
            .map(|by| GrantedBy { id: by.id.to_string(), name: by.name.clone() })
            .collect(),
    }
}

/// The grants of a tenant that a principal signed by itself and that allow something still.
pub async fn signed_by(client: &Client, principal: PrincipalId) -> Outcome<Vec<GrantInfo>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let mut all = client.list_grants().await?;
    all.retain(|grant| {
        let by = grant.granted_by.iter().any(|by| by.id == principal);
        by && !grant.revoked && grant.expires_at.0 > now
    });
    Ok(all)
}

async fn list(app: &App) -> Outcome {
    let client = app.client()?;
    let all: Vec<Shown> = client.list_grants().await?.iter().map(shown).collect();
    app.out.result(&all, || {
        let heading = ["TO", "OF", "MAY", "WITH", "WHERE", "EXPIRES", "GRANTED BY", "ID"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|g| {
            let pairs: Vec<String> = g.context.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let expires = if g.revoked { "revoked".to_owned() } else { output::time(g.expires_at) };
            vec![
                g.grantee.clone(),
                g.grantee_tenant.clone(),
                g.allow.join(", "),
                g.key.clone(),
                pairs.join(" "),
                expires,
                g.granted_by(),
                g.id.clone(),
            ]
        }));
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}
