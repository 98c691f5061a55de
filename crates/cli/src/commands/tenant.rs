//! `quorate tenant`.

mod batch;

use std::path::Path;

use quorate_sdk::{
    Above, Action, Client, CreatedTenant, Delivered, Digest, Error, NewTenant, Profile, Quota,
    TenantInfo, TenantInvitation, TenantRequest,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{CriticalAction, Tenant as Command, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::principal::read_text;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Request => request(app),
        Command::Create { name, request, under, support, quorum, recovery, batch, wait } => {
            if let Some(path) = batch {
                return batch::run(app, &path, support.as_deref(), under.as_deref(), wait).await;
            }
            let requests = request.iter().map(|path| read_request(path)).collect::<Outcome<_>>()?;
            let key = |text: String| {
                let request = TenantRequest::parse(&text).map_err(|_| {
                    let why = "--recovery is not a public key (ed25519-...)";
                    Failure::new(Code::Usage, why)
                })?;
                Ok::<_, Failure>(request.administrator)
            };
            let new = NewTenant {
                name: name.unwrap_or_default(),
                requests,
                quorum,
                recovery: recovery.map(key).transpose()?,
                support_contact: support.unwrap_or_default(),
            };
            create(app, under.as_deref(), new, wait).await
        }
        Command::Invite { tenant } => {
            let client = app.client()?;
            let invitation = client.tenant_invitation(&tenant).await?;
            #[derive(Serialize)]
            struct Invited {
                invitation: String,
                fingerprint: String,
            }
            let value = Invited {
                invitation: invitation.to_text(),
                fingerprint: invitation.fingerprint().to_string(),
            };
            app.out.note(&told(&tenant, &value.fingerprint));
            app.out.result(&value, || value.invitation.clone());
            app.warnings(&client);
            Ok(())
        }
        Command::Accept { invitation, fingerprint, principal, wait } => {
            accept(app, &invitation, &fingerprint, &principal, wait).await
        }
        Command::List => list(app).await,
        Command::Show { tenant } => show(app, tenant.as_deref()).await,
        Command::Usage { tenant, below } => {
            crate::commands::usage::run(app, tenant.as_deref(), below).await
        }
        Command::Suspend { tenant, reason, support, wait } => {
            let (client, admin) = administrator(app).await?;
            let delivered =
                client.admin(&admin).suspend_tenant(&tenant, &reason, support.as_deref()).await?;
            changed(app, &client, "suspended", &tenant, delivered, wait).await
        }
        Command::Resume { tenant, wait } => {
            let (client, admin) = administrator(app).await?;
            let delivered = client.admin(&admin).resume_tenant(&tenant).await?;
            changed(app, &client, "resumed", &tenant, delivered, wait).await
        }
        Command::Critical { set, none, wait } => critical(app, &set, none, wait).await,
        Command::Quota {
            tenant,
            tenants,
            principals,
            keys,
            document_bytes,
            requests_per_day,
            labels_per_day,
            support,
            wait,
        } => {
            let set = |quota: &mut Quota| {
                quota.tenants = tenants.unwrap_or(quota.tenants);
                quota.principals = principals.unwrap_or(quota.principals);
                quota.keys = keys.unwrap_or(quota.keys);
                quota.document_bytes = document_bytes.unwrap_or(quota.document_bytes);
                quota.requests_per_day = requests_per_day.unwrap_or(quota.requests_per_day);
                quota.labels_per_day = labels_per_day.unwrap_or(quota.labels_per_day);
            };
            let (client, admin) = administrator(app).await?;
            let delivered =
                client.admin(&admin).set_quota(&tenant, support.as_deref(), set).await?;
            changed(app, &client, "bounded", &tenant, delivered, wait).await
        }
    }
}

async fn administrator(app: &App) -> Outcome<(Client, quorate_sdk::AdminKey)> {
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    app.carry(&client).await;
    Ok((client, admin))
}

async fn changed(
    app: &App,
    client: &Client,
    verb: &str,
    tenant: &str,
    delivered: Delivered,
    wait: WaitArgs,
) -> Outcome {
    let delivered = app.settle(client, delivered, wait).await?;
    Confirmed::control(client, &delivered).tell(app, client, &format!("{verb} {tenant}"), wait)
}

fn told(tenant: &str, fingerprint: &str) -> String {
    format!(
        "The invitation of {tenant} follows. Tell its fingerprint by another channel:\n  {fingerprint}"
    )
}

fn request(app: &App) -> Outcome {
    let profile = if app.profile_dir().exists() {
        Profile::open(app.profile_dir())?
    } else {
        Profile::create(app.profile_dir())?
    };
    let request = TenantRequest::of(&profile)?;
    #[derive(Serialize)]
    struct Request {
        request: String,
        administrator: String,
        fingerprint: String,
        profile: String,
    }
    let value = Request {
        request: request.to_string(),
        administrator: request.administrator.to_string(),
        fingerprint: request.fingerprint().to_string(),
        profile: app.settings.profile.0.clone(),
    };
    app.out.result(&value, || value.request.clone());
    app.out.note(&format!(
        "Give this request to an administrator of the tenant above (the keys stay here), who runs\n  quorate tenant create NAME --request FILE\nand gives back an invitation and its fingerprint. Then run\n  quorate --profile {} tenant accept FILE --fingerprint FINGERPRINT",
        value.profile
    ));
    Ok(())
}

fn read_request(path: &Path) -> Outcome<TenantRequest> {
    let text = read_text(path)?;
    let request =
        TenantRequest::parse(&text).map_err(|e| Failure::from(Error::from(e)).of(path))?;
    proven(request).map_err(|failure| failure.of(path))
}

/// A request that the key's owner signed.
pub fn proven(request: TenantRequest) -> Outcome<TenantRequest> {
    if request.is_proven() {
        return Ok(request);
    }
    let why = "it is a public key alone, and nothing shows that anybody has the private one: a slip would lock the tenant";
    Err(Failure::new(Code::Usage, why)
        .next("Give the text that `quorate tenant request` prints on the administrator's machine."))
}

/// Under whom: this profile's own tenant, or the cluster.
async fn under(client: &Client, named: Option<&str>) -> Outcome<Above> {
    match named {
        None => Ok(Above::Tenant),
        Some("cluster") => Ok(Above::Cluster),
        Some(name) => {
            let found = client.tenant_info(name).await?;
            if found.id == client.tenant() {
                return Ok(Above::Tenant);
            }
            Err(Failure::new(
                Code::Usage,
                format!("{name} is not this profile's tenant, and only its own administrators make tenants below it"),
            )
            .next("Use a profile of that tenant."))
        }
    }
}

#[derive(Serialize)]
struct Created {
    id: String,
    name: String,
    invitation: String,
    fingerprint: String,
    #[serde(flatten)]
    confirmed: Confirmed,
}

impl Created {
    fn new(client: &Client, tenant: &CreatedTenant, delivered: &Delivered) -> Self {
        Self {
            id: tenant.id.to_string(),
            name: tenant.name.clone(),
            invitation: tenant.invitation.to_text(),
            fingerprint: tenant.invitation.fingerprint().to_string(),
            confirmed: Confirmed::control(client, delivered),
        }
    }
}

async fn create(app: &App, named: Option<&str>, new: NewTenant, wait: WaitArgs) -> Outcome {
    let (client, admin) = administrator(app).await?;
    let above = under(&client, named).await?;
    let (made, delivered) = client.admin(&admin).create_tenants(above, vec![new]).await?;
    let delivered = app.settle(&client, delivered, wait).await?;
    for tenant in &made {
        let one = Created::new(&client, tenant, &delivered);
        app.out.note(&format!("made {} as {}; {}", one.name, one.id, one.confirmed.text()));
        app.out.note(&told(&one.name, &one.fingerprint));
        app.out.result(&one, || one.invitation.clone());
    }
    app.warnings(&client);
    Confirmed::control(&client, &delivered).outcome(wait)
}

async fn accept(
    app: &App,
    file: &Path,
    fingerprint: &str,
    principal: &str,
    wait: WaitArgs,
) -> Outcome {
    let text = read_text(file)?;
    let invitation = TenantInvitation::parse(&text).map_err(Error::from)?;
    let told: Digest = fingerprint
        .parse()
        .map_err(|e| Failure::new(Code::Usage, format!("--fingerprint: {e}")))?;
    let mut profile = app.profile()?;
    let joined = profile.prepare_tenant(&invitation, told, principal).await?;
    // Kept before anything is sent, so that a crash loses nothing.
    if joined.complete {
        app.keep_pending(&joined.documents())?;
    }
    profile.join_tenant(&joined, &invitation)?;
    let client = app.client()?;
    if !joined.complete {
        return Err(Error::Unfinished(Box::new(joined.change)).into());
    }
    let delivered = client.put_documents(&joined.documents()).await;
    let delivered = app.settle(&client, delivered, wait).await?;
    if delivered.confirmed() == delivered.of() {
        app.forget_pending()?;
    }
    // Keeps what the principal stands on; where nodes cannot be reached, a later command does.
    let _ = client.check_own_principal().await;
    #[derive(Serialize)]
    struct Accepted {
        cluster: String,
        tenant: String,
        name: String,
        principal: String,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let value = Accepted {
        cluster: client.cluster().to_string(),
        tenant: joined.tenant.to_string(),
        name: joined.name,
        principal: joined.principal.to_string(),
        confirmed: Confirmed::control(&client, &delivered),
    };
    app.out.result(&value, || {
        format!(
            "joined {} as {} of {}; {}",
            value.cluster,
            value.principal,
            value.name,
            value.confirmed.text()
        )
    });
    app.warnings(&client);
    value.confirmed.outcome(wait)
}

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    /// "own", "above", "below" or "beside" this profile's tenant.
    place: &'static str,
    parent: Option<String>,
    administrators: Vec<String>,
    quorum: u32,
    recoverable: bool,
    support_contact: String,
    state: &'static str,
    reason: String,
    quota: ShownQuota,
    contested: bool,
}

#[derive(Serialize)]
struct ShownQuota {
    tenants: u32,
    principals: u32,
    keys: u32,
    document_bytes: u64,
    requests_per_day: u64,
    labels_per_day: u64,
}

fn shown(client: &Client, t: &TenantInfo) -> Shown {
    let place = if t.id == client.tenant() {
        "own"
    } else if t.parent == Some(client.tenant()) {
        "below"
    } else if t.parent.is_none() {
        "root"
    } else {
        "above"
    };
    Shown {
        id: t.id.to_string(),
        name: t.name.clone(),
        place,
        parent: t.parent.map(|p| p.to_string()),
        administrators: t.administrators.iter().map(ToString::to_string).collect(),
        quorum: t.quorum,
        recoverable: t.recoverable,
        support_contact: t.support_contact.clone(),
        state: match (t.suspended_from_above, t.suspends_itself) {
            (true, _) => "suspended from above",
            (false, true) => "suspended by itself",
            (false, false) => "active",
        },
        reason: t.reason.clone(),
        quota: ShownQuota {
            tenants: t.quota.tenants,
            principals: t.quota.principals,
            keys: t.quota.keys,
            document_bytes: t.quota.document_bytes,
            requests_per_day: t.quota.requests_per_day,
            labels_per_day: t.quota.labels_per_day,
        },
        contested: t.contested,
    }
}

async fn list(app: &App) -> Outcome {
    let client = app.administrator().await?;
    let all: Vec<Shown> = client.list_tenants().await?.iter().map(|t| shown(&client, t)).collect();
    app.out.result(&all, || {
        let mut rows =
            vec![["NAME", "PLACE", "STATE", "SUPPORT", "ID"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|t| {
            vec![
                t.name.clone(),
                t.place.to_owned(),
                t.state.to_owned(),
                t.support_contact.clone(),
                t.id.clone(),
            ]
        }));
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}

async fn show(app: &App, tenant: Option<&str>) -> Outcome {
    let client = app.administrator().await?;
    let own = client.tenant().to_string();
    let found = client.tenant_info(tenant.unwrap_or(&own)).await?;
    let value = shown(&client, &found);
    app.out.result(&value, || {
        let mut rows = vec![
            vec!["name".into(), value.name.clone()],
            vec!["id".into(), value.id.clone()],
            vec!["state".into(), value.state.into()],
        ];
        let mut row = |name: &str, text: String| {
            if !text.is_empty() {
                rows.push(vec![name.to_owned(), text]);
            }
        };
        row("reason", value.reason.clone());
        row("support", value.support_contact.clone());
        row("parent", value.parent.clone().unwrap_or_else(|| "none: a root tenant".to_owned()));
        row(
            "administrators",
            format!("{} of {} must sign", value.quorum, value.administrators.len()),
        );
        for key in &value.administrators {
            row("", key.clone());
        }
        let quota = [
            ("tenants", u64::from(value.quota.tenants)),
            ("principals", u64::from(value.quota.principals)),
            ("keys", u64::from(value.quota.keys)),
            ("bytes of documents", value.quota.document_bytes),
            ("requests a day", value.quota.requests_per_day),
            ("labels a day", value.quota.labels_per_day),
        ];
        for (what, bound) in quota.into_iter().filter(|(_, bound)| *bound != 0) {
            row("at most", format!("{bound} {what}"));
        }
        if value.contested {
            row("contested", "two versions contend; recovery keys settle it".to_owned());
        }
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}

async fn critical(app: &App, set: &[CriticalAction], none: bool, wait: WaitArgs) -> Outcome {
    #[derive(Serialize)]
    struct Shown {
        critical: Vec<String>,
        #[serde(flatten)]
        confirmed: Option<Confirmed>,
    }
    let text = |value: &Shown| match value.critical.as_slice() {
        [] => "nothing takes administrators that a principal may be permitted".to_owned(),
        actions => format!("only administrators sign: {}", actions.join(", ")),
    };
    if set.is_empty() && !none {
        let client = app.client()?;
        let known = client.administrators(Above::Tenant).await?;
        let critical = known.critical.iter().map(ToString::to_string).collect();
        let value = Shown { critical, confirmed: None };
        app.out.result(&value, || text(&value));
        app.warnings(&client);
        return Ok(());
    }
    let mut actions: Vec<Action> = set
        .iter()
        .map(|action| match action {
            CriticalAction::Create => Action::Create,
            CriticalAction::Change => Action::Change,
            CriticalAction::Grant => Action::Grant,
        })
        .collect();
    actions.sort_unstable();
    actions.dedup();
    let (client, admin) = administrator(app).await?;
    let delivered = client.admin(&admin).set_critical(&actions).await?;
    let delivered = app.settle(&client, delivered, wait).await?;
    let value = Shown {
        critical: actions.iter().map(ToString::to_string).collect(),
        confirmed: Some(Confirmed::control(&client, &delivered)),
    };
    app.out.result(&value, || {
        let confirmed = value.confirmed.as_ref().map(Confirmed::text).unwrap_or_default();
        format!("{}; {confirmed}", text(&value))
    });
    app.warnings(&client);
    value.confirmed.map_or(Ok(()), |confirmed| confirmed.outcome(wait))
}
