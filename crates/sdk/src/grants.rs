//! Grants: what a principal of this or another tenant may do with one key, for a time.

use quorate_documents::{
    Body, DocumentSet, Draft, Grant, Heads, Kind, Lookup, Principal, SignedDocument,
};
use quorate_types::limits::GRANT_DAYS;
use quorate_types::{Action, DocumentId, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;

use crate::admin::deliver;
use crate::client::Client;
use crate::cluster::SECONDS_PER_DAY;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::profile::AdminKey;
use crate::rng::os_rng;

/// A grant that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// Who may.
    pub grantee: PrincipalId,
    /// The grantee's tenant, this client's own or any other.
    pub grantee_tenant: TenantId,
    /// What: of encrypt, decrypt and rewrap.
    pub actions: Vec<Action>,
    /// With which key of this client's tenant.
    pub key: KeyId,
    /// What the encryption context must contain; empty for any.
    pub context: EncryptionContext,
    /// For how many days from now, at most 400.
    pub days: u64,
}

/// What is known of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantInfo {
    /// Its document.
    pub id: DocumentId,
    /// Who may.
    pub grantee: PrincipalId,
    /// The grantee's tenant.
    pub grantee_tenant: TenantId,
    /// What.
    pub actions: Vec<Action>,
    /// With which key.
    pub key: KeyId,
    /// What the encryption context must contain; empty for any.
    pub context: EncryptionContext,
    /// From when.
    pub not_before: UnixSeconds,
    /// Until when.
    pub expires_at: UnixSeconds,
    /// Whether nothing is allowed by it any more.
    pub revoked: bool,
    /// Whether several versions contend; then it only allows what all of them allow.
    pub contested: bool,
    /// Principals of the granting tenant that signed a version of it by themselves, by id; administrators signed
    /// the others, or all of them where there is none.
    pub granted_by: Vec<Granter>,
}

/// A principal that granted by itself. What it granted goes on when it is revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Granter {
    /// Its id.
    pub id: PrincipalId,
    /// What it is called.
    pub name: String,
}

/// Who signed the versions of a grant, but for administrators.
fn granters(set: &DocumentSet, id: DocumentId) -> Vec<Granter> {
    let mut found = Vec::new();
    for version in set.versions(&id) {
        let authority = version.authority().and_then(|digest| set.version(&digest));
        let administrators = authority.and_then(|a| a.body().administrators());
        if administrators.is_some_and(|all| all.quorum_of(version.signers())) {
            continue;
        }
        for principal in version.signers().iter().flat_map(|key| set.principals(key)) {
            if let Body::Principal(body) = principal.body()
                && Some(body.tenant) == version.body().tenant()
            {
                let name = set.heads::<Principal>(&principal.id());
                let name = name.map_or_else(|| body.name.clone(), |heads| heads.name().to_owned());
                found.push(Granter { id: principal.id().into(), name });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn info(set: &DocumentSet, heads: &Heads<Grant>) -> Option<GrantInfo> {
    let first = heads.iter().next()?.body();
    let actions = first.actions.iter().copied();
    let every = |action: &Action| heads.iter().all(|head| head.body().actions.contains(action));
    Some(GrantInfo {
        id: heads.id(),
        grantee: heads.grantee(),
        grantee_tenant: heads.grantee_tenant(),
        actions: actions.filter(every).collect(),
        key: heads.key(),
        context: first.context.clone(),
        not_before: heads.not_before(),
        expires_at: heads.expires_at(),
        revoked: heads.revoked(),
        contested: heads.single().is_none(),
        granted_by: granters(set, heads.id()),
    })
}

fn invalid(why: impl Into<String>) -> Error {
    RequestError::Invalid(why.into()).into()
}

/// Who signs a grant: this client's principal by itself, or an administrator.
struct Signing<'a> {
    client: &'a Client,
    set: DocumentSet,
    by_principal: bool,
    administrator: Option<&'a AdminKey>,
}

impl Signing<'_> {
    async fn finish(
        self,
        what: &str,
        draft: Result<Draft, quorate_documents::DocumentError>,
    ) -> Result<(DocumentId, Delivered), Error> {
        let draft = draft.map_err(|e| invalid(e.to_string()))?;
        let sign = |key| draft.sign(&[key]).map_err(|e| invalid(e.to_string()));
        if self.by_principal {
            let document: SignedDocument = sign(&self.client.inner.key)?;
            let id = document.id();
            return Ok((id, deliver(self.client, &self.set, &[document]).await?));
        }
        let whose = "this profile's tenant, and its principal may not do this by itself";
        let administrator =
            self.administrator.ok_or_else(|| ClusterError::NotAdministrator(whose.to_owned()))?;
        let document = sign(administrator.signing_key())?;
        let id = document.id();
        let admin = self.client.admin(administrator);
        Ok((id, admin.publish(what, &self.set, vec![document]).await?))
    }
}

impl Client {
    /// The grants that this client's tenant has given, those that expire first at the top.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn list_grants(&self) -> Result<Vec<GrantInfo>, Error> {
        let set = self.set_with_below(vec![Kind::Grant, Kind::Key, Kind::Principal]).await?;
        let mut all: Vec<GrantInfo> = set
            .ids(Kind::Grant)
            .filter_map(|id| set.heads::<Grant>(&id))
            .filter(|heads| heads.tenant() == self.tenant())
            .filter_map(|heads| info(&set, &heads))
            .collect();
        all.sort_by_key(|grant| (grant.expires_at, grant.id));
        Ok(all)
    }

    /// Lets a principal use a key of this tenant for some days. Signed by this client's principal where it has
    /// `grant` and each of the actions on the key for as long, and otherwise by the administrator.
    ///
    /// # Errors
    /// [`ClusterError::NotAdministrator`] where it takes an administrator and there is none,
    /// [`Error::Unfinished`] where it takes several, [`RequestError::Invalid`], and [`crate::NotQuorate`].
    pub async fn create_grant(
        &self,
        new: &NewGrant,
        administrator: Option<&AdminKey>,
    ) -> Result<(DocumentId, Delivered), Error> {
        let at = self.document_time().await?;
        if new.days == 0 || new.days > GRANT_DAYS {
            return Err(invalid(format!("a grant lasts from 1 to {GRANT_DAYS} days")));
        }
        let mut actions = new.actions.clone();
        actions.sort_by_key(|action| action.number());
        actions.dedup();
        let grant = Grant {
            tenant: self.tenant(),
            grantee: new.grantee,
            grantee_tenant: new.grantee_tenant,
            actions,
            key: new.key,
            context: new.context.clone(),
            not_before: at,
            expires_at: at.plus(new.days * SECONDS_PER_DAY),
            revoked: false,
        };
        let tenant = self.tenant_heads().await?;
        let authority = tenant.digests().first().copied();
        let set = self.set_with_below(vec![Kind::Principal]).await?;
        let own = set.heads::<Principal>(&DocumentId::from(self.principal()));
        let may = own.is_some_and(|own| {
            let key = Some(&grant.key);
            own.permits(Action::Grant, key)
                && grant.actions.iter().all(|action| own.permits(*action, key))
                && grant.expires_at <= own.expires_at()
        });
        let by_principal = may && !tenant.is_critical(Action::Grant);
        let what = format!("grant the use of {} to {}", grant.key, grant.grantee);
        let draft = Draft::first(Body::Grant(grant), authority, at, &mut os_rng());
        Signing { client: self, set, by_principal, administrator }.finish(&what, draft).await
    }

    /// Lets nothing be done by a grant any more. Signed by this client's principal where it has `grant` on the
    /// key, and otherwise by the administrator. One that is revoked already is handed to all nodes again.
    ///
    /// # Errors
    /// [`ClusterError::GrantUnknown`], and as [`Self::create_grant`].
    pub async fn revoke_grant(
        &self,
        id: DocumentId,
        administrator: Option<&AdminKey>,
    ) -> Result<Delivered, Error> {
        let at = self.document_time().await?;
        let tenant = self.tenant_heads().await?;
        let set = self.set_with_below(vec![Kind::Grant, Kind::Key, Kind::Principal]).await?;
        let unknown = || ClusterError::GrantUnknown(id.to_string());
        let heads = set.heads::<Grant>(&id).filter(|heads| heads.tenant() == self.tenant());
        let heads = heads.ok_or_else(unknown)?;
        if heads.revoked() {
            let versions = set.iter().filter(|d| d.id() == id).cloned();
            let versions = crate::documents::in_order(versions);
            return deliver(self, &set, &versions).await;
        }
        let mut body = heads.iter().next().ok_or_else(unknown)?.body().clone();
        body.revoked = true;
        let own = set.heads::<Principal>(&DocumentId::from(self.principal()));
        let may = own.is_some_and(|own| own.permits(Action::Grant, Some(&body.key)));
        // Versions that contend differ, and a principal may only revoke.
        let by_principal = may && heads.single().is_some() && !tenant.is_critical(Action::Grant);
        let before: Vec<&SignedDocument> =
            heads.digests().iter().filter_map(|digest| set.version(digest)).collect();
        let authority = tenant.digests().first().copied();
        let draft = Draft::succeed(&before, Body::Grant(body), authority, Vec::new(), at);
        let signing = Signing { client: self, set: set.clone(), by_principal, administrator };
        Ok(signing.finish("revoke the grant", draft).await?.1)
    }
}
