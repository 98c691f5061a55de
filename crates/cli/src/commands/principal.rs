//! `quorate principal`.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_sdk::{
    Action, Client, Digest, Error, Invitation, InvitationError, Key, Permission, PrincipalId,
    PrincipalInfo, Profile, PublicKey, RefusalCode, UnixSeconds,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{Allow, Principal as Command, WaitArgs};
use crate::commands::confirmed::Confirmed;
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

const DAY: u64 = 86_400;

impl From<Allow> for Action {
    fn from(allow: Allow) -> Self {
        match allow {
            Allow::Create => Self::Create,
            Allow::Encrypt => Self::Encrypt,
            Allow::Decrypt => Self::Decrypt,
            Allow::Rewrap => Self::Rewrap,
            Allow::Coordinate => Self::Coordinate,
            Allow::Grant => Self::Grant,
            Allow::Change => Self::Change,
            Allow::Audit => Self::Audit,
        }
    }
}

fn days_from_now(days: u64) -> Option<UnixSeconds> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(UnixSeconds(now.saturating_add(days.saturating_mul(DAY))))
}

/// Reads a file or standard input, at most a megabyte.
pub fn read_text(path: &std::path::Path) -> Outcome<String> {
    read_text_to(path, 1 << 20)
}

/// The same, at most so many bytes.
pub fn read_text_to(path: &std::path::Path, most: u64) -> Outcome<String> {
    let mut text = String::new();
    let read = |from: &mut dyn Read, text: &mut String| from.take(most).read_to_string(text);
    let result = if is_dash(path) {
        read(&mut std::io::stdin(), &mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut text))
    };
    result.map_err(|e| Failure::reading(path, &e))?;
    Ok(text)
}

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Request => request(app),
        Command::Accept { invitation, fingerprint } => {
            let text = read_text(&invitation)?;
            let invitation = Invitation::parse(&text).map_err(quorate_sdk::Error::from)?;
            let expected: Digest = fingerprint
                .parse()
                .map_err(|e| Failure::new(Code::Usage, format!("--fingerprint: {e}")))?;
            let mut profile = app.profile()?;
            check(app, &profile, &invitation, expected).await?;
            profile.accept(&invitation, expected)?;
            let client = app.client()?;
            // Keeps what the principal stands on; where nodes cannot be reached, a later command does.
            let _ = client.check_own_principal().await;
            #[derive(Serialize)]
            struct Accepted {
                cluster: String,
                principal: String,
                nodes: usize,
            }
            let value = Accepted {
                cluster: client.cluster().to_string(),
                principal: client.principal().to_string(),
                nodes: client.roster().nodes.len(),
            };
            app.out.result(&value, || {
                format!("joined {} ({} nodes) as {}", value.cluster, value.nodes, value.principal)
            });
            Ok(())
        }
        Command::Add { name, public_key, allow, key, days } => {
            add(app, &name, &public_key, &allow, &key, days).await
        }
        Command::Invite { principal } => {
            let client = app.client()?;
            let invitation = client.invitation(&principal).await?;
            #[derive(Serialize)]
            struct Invited {
                id: String,
                invitation: String,
                fingerprint: String,
            }
            let value = Invited {
                id: invitation.principal.to_string(),
                invitation: invitation.to_text(),
                fingerprint: invitation.fingerprint().to_string(),
            };
            app.out.note(&format!(
                "The invitation of {principal} follows. Tell its fingerprint by another channel:\n  {}",
                value.fingerprint
            ));
            app.out.result(&value, || value.invitation.clone());
            app.warnings(&client);
            Ok(())
        }
        Command::Renew { principal, days } => {
            let admin = app.profile()?.admin_key()?;
            let client = app.administrator().await?;
            app.carry(&client).await;
            let delivered =
                client.admin(&admin).renew_principal(&principal, days_from_now(days)).await?;
            changed(app, &client, "renewed", &principal, None, delivered, WaitArgs::default()).await
        }
        Command::Permit { principal, allow, key, myself, wait } => {
            let admin = app.profile()?.admin_key()?;
            let client = app.administrator().await?;
            app.carry(&client).await;
            let permissions = permissions(&client, &allow, &key).await?;
            if !myself {
                spare_oneself(&client, &principal, &permissions).await?;
            }
            let delivered = client.admin(&admin).set_permissions(&principal, permissions).await?;
            changed(app, &client, "changed", &principal, None, delivered, wait).await
        }
        Command::Rotate { wait } => rotate(app, wait).await,
        Command::Revoke { principal, with_grants, myself, wait } => {
            let admin = app.profile()?.admin_key()?;
            let client = app.administrator().await?;
            app.carry(&client).await;
            if !myself {
                spare_the_last(&client, &principal).await?;
            }
            let keys = client.list_keys().await.ok();
            let target = named(&client.list_principals().await?, &principal);
            // Asked before: whoever revokes the own principal is shown nothing afterwards.
            let granted = match target {
                Some(target) => crate::commands::grant::signed_by(&client, target).await?,
                None => Vec::new(),
            };
            let delivered = client.admin(&admin).revoke_principal(&principal).await?;
            let delivered = app.settle(&client, delivered, wait).await?;
            let grants = left_by(app, &client, granted, with_grants.then_some(&admin)).await?;
            #[derive(Serialize)]
            struct Revoked {
                #[serde(flatten)]
                confirmed: Confirmed,
                #[serde(flatten)]
                grants: Left,
            }
            let confirmed = Confirmed::count(&client, keys, &delivered).await;
            let value = Revoked { confirmed, grants };
            app.out.result(&value, || {
                format!("revoked {principal}; {}{}", value.confirmed.text(), value.grants.text())
            });
            app.warnings(&client);
            value.confirmed.outcome(wait)
        }
        Command::List => list(app).await,
    }
}

/// Whether an invitation is for this profile's key, as far as nodes can be reached to say so.
async fn check(app: &App, profile: &Profile, invitation: &Invitation, told: Digest) -> Outcome {
    let client = profile.candidate(invitation, told)?.build()?;
    match client.check_own_principal().await {
        Ok(()) => Ok(()),
        Err(Error::NotQuorate(missing)) => {
            app.out.warn(&format!(
                "it could not be checked that the invitation is for this profile's key: {missing}"
            ));
            Ok(())
        }
        Err(Error::Refused(refused))
            if refused.refusal.code == RefusalCode::PrincipalUnknown.code() =>
        {
            let mut failure = Failure::from(Error::from(InvitationError::OtherKey));
            failure.message = "no node knows this profile's key: the invitation is for another \
                               machine, or the principal has not arrived at the nodes yet"
                .to_owned();
            Err(failure)
        }
        Err(error) => Err(error.into()),
    }
}

/// The one principal that is meant, revoked or not.
fn named(principals: &[PrincipalInfo], selector: &str) -> Option<PrincipalId> {
    let by_id = principals.iter().find(|p| p.id.to_string() == selector);
    let mut by_name: Vec<_> = principals.iter().filter(|p| p.name == selector).collect();
    by_name.sort_by_key(|p| p.revoked);
    by_id.or_else(|| by_name.first().copied()).map(|p| p.id)
}

/// What a revoked principal granted by itself.
#[derive(Default, Serialize)]
struct Left {
    /// Grants that go on.
    grants_left: Vec<String>,
    /// Grants that were revoked with it.
    grants_revoked: Vec<String>,
}

impl Left {
    fn text(&self) -> String {
        let mut text = String::new();
        for grant in &self.grants_revoked {
            text.push_str(&format!("\nrevoked with it: {grant}"));
        }
        for grant in &self.grants_left {
            text.push_str(&format!("\nit granted, and this goes on: {grant}"));
        }
        if !self.grants_left.is_empty() {
            text.push_str("\n  take them back with `quorate grant revoke ID`, or all with `quorate principal revoke NAME --with-grants`");
        }
        text
    }
}

/// The grants of a principal that was revoked, taken back by an administrator if there is one here.
async fn left_by(
    app: &App,
    client: &Client,
    granted: Vec<quorate_sdk::GrantInfo>,
    administrator: Option<&quorate_sdk::AdminKey>,
) -> Outcome<Left> {
    let mut left = Left::default();
    for grant in granted {
        let what = format!(
            "{} to {} until {}",
            grant.id,
            grant.grantee,
            crate::output::time(grant.expires_at.0)
        );
        if administrator.is_none() {
            left.grants_left.push(what);
            continue;
        }
        match client.revoke_grant(grant.id, administrator).await {
            Ok(delivered) => {
                app.keep_undelivered(&delivered)?;
                left.grants_revoked.push(what);
            }
            Err(Error::Unfinished(change)) => {
                crate::commands::change::keep(app, &change)?;
                left.grants_left.push(what);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(left)
}

/// Refuses to take from this profile's own principal what it may do.
async fn spare_oneself(client: &Client, selector: &str, after: &[Permission]) -> Outcome {
    let principals = client.list_principals().await?;
    if named(&principals, selector) != Some(client.principal()) {
        return Ok(());
    }
    let own = principals.iter().filter(|p| p.id == client.principal());
    let stays = |before: &Permission| {
        after.iter().any(|p| p.action == before.action && (p.key.is_none() || p.key == before.key))
    };
    let mut lost = own.flat_map(|p| &p.permissions).filter(|before| !stays(before)).peekable();
    if lost.peek().is_none() {
        return Ok(());
    }
    let lost: Vec<String> = lost.map(|p| p.action.to_string()).collect();
    let why =
        format!("{selector} is this profile's own principal, and would lose {}", lost.join(", "));
    Err(Failure::new(Code::Usage, why).next("Say --myself if it must be."))
}

/// Refuses to revoke what nobody could go on without: oneself, and the last principal that may do
/// everything.
async fn spare_the_last(client: &Client, selector: &str) -> Outcome {
    let principals = client.list_principals().await?;
    let chosen =
        |p: &&PrincipalInfo| !p.revoked && (p.name == selector || p.id.to_string() == selector);
    let everything = |p: &PrincipalInfo| {
        let may = |action: &Action| {
            p.permissions.iter().any(|given| given.action == *action && given.key.is_none())
        };
        !p.revoked && Action::ALL.iter().all(may)
    };
    let now = days_from_now(0).unwrap_or(UnixSeconds(0));
    for target in principals.iter().filter(chosen) {
        let why = if target.id == client.principal() {
            "is this profile's own principal: it could do nothing any more"
        } else if everything(target)
            && !principals.iter().any(|p| p.id != target.id && everything(p) && p.expires_at > now)
        {
            "is the last principal that may do everything"
        } else {
            continue;
        };
        return Err(Failure::new(Code::Usage, format!("{selector} {why}"))
            .next("Add another principal first; or say --myself if it must be."));
    }
    Ok(())
}

fn request(app: &App) -> Outcome {
    let profile = if app.profile_dir().exists() {
        Profile::open(app.profile_dir())?
    } else {
        Profile::create(app.profile_dir())?
    };
    #[derive(Serialize)]
    struct Request {
        public_key: String,
        profile: String,
    }
    let value = Request {
        public_key: profile.public_key().to_string(),
        profile: app.settings.profile.0.clone(),
    };
    app.out.result(&value, || value.public_key.clone());
    app.out.note(&format!(
        "Give this public key to an administrator, who runs\n  quorate principal add NAME --public-key {}\nand gives back an invitation and its fingerprint. Then run\n  quorate --profile {} principal accept FILE --fingerprint FINGERPRINT",
        value.public_key, value.profile
    ));
    Ok(())
}

/// These actions on these keys, or on all keys.
async fn permissions(
    client: &Client,
    allow: &[Allow],
    keys: &[String],
) -> Outcome<Vec<Permission>> {
    let mut permissions = Vec::new();
    if keys.is_empty() {
        permissions
            .extend(allow.iter().map(|a| Permission { action: Action::from(*a), key: None }));
    }
    for key in keys {
        let id = client.key(key).await?.id();
        permissions
            .extend(allow.iter().map(|a| Permission { action: Action::from(*a), key: Some(id) }));
    }
    permissions.sort_by_key(|p| (p.action.number(), p.key));
    permissions.dedup();
    Ok(permissions)
}

/// Replaces this profile's own key.
async fn rotate(app: &App, wait: WaitArgs) -> Outcome {
    let mut profile = app.profile()?;
    let client = app.client()?;
    let rotated = profile.rotate_key(&client).await?;
    // With the new key from here on.
    let client = app.client()?;
    let delivered = app.settle(&client, rotated.delivered, wait).await?;
    #[derive(Serialize)]
    struct Shown {
        public_key: String,
        retired: Option<String>,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let value = Shown {
        public_key: rotated.public_key.to_string(),
        retired: rotated.retired.map(|key| key.to_string()),
        confirmed: Confirmed::count(&client, None, &delivered).await,
    };
    app.out.result(&value, || {
        format!("this profile's key is {} now; {}", value.public_key, value.confirmed.text())
    });
    app.warnings(&client);
    value.confirmed.outcome(wait)
}

async fn add(
    app: &App,
    name: &str,
    public_key: &str,
    allow: &[Allow],
    keys: &[String],
    days: u64,
) -> Outcome {
    let public_key: PublicKey = public_key
        .parse()
        .map_err(|_| Failure::new(Code::Usage, "--public-key is not a public key (ed25519-...)"))?;
    let admin = app.profile()?.admin_key()?;
    let client = app.administrator().await?;
    app.carry(&client).await;
    let permissions = permissions(&client, allow, keys).await?;
    let added = client
        .admin(&admin)
        .add_principal(name, public_key, permissions, days_from_now(days))
        .await?;
    app.keep_undelivered(&added.delivered)?;
    let confirmed = Confirmed::count(&client, None, &added.delivered).await;
    #[derive(Serialize)]
    struct Added {
        id: String,
        invitation: String,
        fingerprint: String,
        #[serde(flatten)]
        confirmed: Confirmed,
    }
    let value = Added {
        id: added.id.to_string(),
        invitation: added.invitation.to_text(),
        fingerprint: added.invitation.fingerprint().to_string(),
        confirmed,
    };
    app.out.note(&format!(
        "added {name} as {}; {}\nIts invitation follows. Tell its fingerprint by another channel:\n  {}",
        value.id,
        value.confirmed.text(),
        value.fingerprint
    ));
    app.out.result(&value, || value.invitation.clone());
    app.warnings(&client);
    Ok(())
}

async fn changed(
    app: &App,
    client: &Client,
    verb: &str,
    principal: &str,
    keys: Option<Vec<Key>>,
    delivered: quorate_sdk::Delivered,
    wait: WaitArgs,
) -> Outcome {
    let delivered = app.settle(client, delivered, wait).await?;
    let confirmed = Confirmed::count(client, keys, &delivered).await;
    confirmed.tell(app, client, &format!("{verb} {principal}"), wait)
}

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    public_key: String,
    expires_at: u64,
    permissions: Vec<String>,
    revoked: bool,
    /// Two changes were made at once; only what both allow is allowed.
    contested: bool,
}

async fn list(app: &App) -> Outcome {
    let client = app.administrator().await?;
    let principals = client.list_principals().await?;
    let permission = |p: &Permission| match p.key {
        None => p.action.to_string(),
        Some(key) => format!("{} on {key}", p.action),
    };
    let shown = |p: &PrincipalInfo| Shown {
        id: p.id.to_string(),
        name: p.name.clone(),
        public_key: p.public_key.to_string(),
        expires_at: p.expires_at.0,
        permissions: p.permissions.iter().map(permission).collect(),
        revoked: p.revoked,
        contested: p.contested,
    };
    let all: Vec<Shown> = principals.iter().map(shown).collect();
    app.out.result(&all, || {
        let mut rows = vec![["NAME", "EXPIRES", "MAY", "ID"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|p| {
            let expires = if p.revoked { "revoked".to_owned() } else { output::time(p.expires_at) };
            vec![p.name.clone(), expires, p.permissions.join(", "), p.id.clone()]
        }));
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}
