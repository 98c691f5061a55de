//! Administrators of a tenant and of the cluster: who they are, changing them, and recovery.

use quorate_documents::{
    Administrators, Authority, Body, BodyOf, DocumentSet, Draft, Kind, Lookup, Roster,
    SignedDocument, Tenant,
};
use quorate_types::limits::{MAX_FRONTIER, ROSTER_DAYS};
use quorate_types::{Action, DocumentId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::admin::Admin;
use crate::client::Client;
use crate::cluster::SECONDS_PER_DAY;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::profile::AdminKey;
use crate::tenants::{Above, sees_roots};

/// What a tenant may leave to its administrators.
pub const CRITICAL: [Action; 3] = [Action::Create, Action::Grant, Action::Change];

/// Who administers a tenant or the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdministratorsInfo {
    /// What the tenant or the cluster is called.
    pub name: String,
    /// Their keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub quorum: u32,
    /// The keys that settle what they cannot; may be none.
    pub recovery: Vec<PublicKey>,
    /// Whether several versions contend: then only recovery keys can go on.
    pub contested: bool,
    /// The version in force, the first where several contend.
    pub version: u64,
    /// What only a quorum of a tenant's administrators may sign.
    pub critical: Vec<Action>,
}

fn id(client: &Client, of: Above) -> DocumentId {
    match of {
        Above::Tenant => client.tenant().into(),
        Above::Cluster => client.cluster().into(),
    }
}

/// The versions in force.
fn in_force(set: &DocumentSet, id: DocumentId) -> Result<Vec<&SignedDocument>, Error> {
    match quorate_documents::authority(&id, set) {
        Authority::Unknown => {
            Err(ClusterError::Document("no node shows the document".to_owned()).into())
        }
        found => Ok(found.versions().to_vec()),
    }
}

impl Client {
    /// Who administers this client's tenant, or the cluster.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn administrators(&self, of: Above) -> Result<AdministratorsInfo, Error> {
        let set = self.set_with_below(Vec::new()).await?;
        let versions = in_force(&set, id(self, of))?;
        let none = || ClusterError::Document("no version is in force".to_owned());
        let first = versions.first().ok_or_else(none)?;
        let administrators = first.body().administrators().ok_or_else(none)?;
        let name = match first.body() {
            Body::Roster(roster) => roster.name.clone(),
            Body::Tenant(tenant) => tenant.name.clone(),
            _ => String::new(),
        };
        Ok(AdministratorsInfo {
            name,
            keys: administrators.keys().to_vec(),
            quorum: administrators.quorum(),
            recovery: first.body().recovery().map(|r| r.keys().to_vec()).unwrap_or_default(),
            contested: versions.len() > 1,
            version: first.version(),
            critical: Tenant::of(first.body()).map(|t| t.critical.clone()).unwrap_or_default(),
        })
    }
}

/// The same document with other administrators.
fn with_administrators(body: &Body, administrators: Administrators) -> Result<Body, Error> {
    match body {
        Body::Roster(roster) => Ok(Body::Roster(Roster { administrators, ..roster.clone() })),
        Body::Tenant(tenant) => Ok(Body::Tenant(Tenant { administrators, ..tenant.clone() })),
        _ => Err(ClusterError::Document("it has no administrators".to_owned()).into()),
    }
}

impl Admin<'_> {
    /// Everything that this client is shown, of which nothing that counts under the document may be missing:
    /// its next version keeps what it lists and nothing else.
    pub(crate) async fn everything(&self, of: Above) -> Result<DocumentSet, Error> {
        let client = self.client();
        let set = client.set_with_below(Kind::ALL.to_vec()).await?;
        if of == Above::Cluster && !sees_roots(&set, client.tenant()) {
            let why = "this profile is not shown all root tenants, and a new roster would drop those \
                       that it does not see; use a profile of a root tenant that one of the cluster's \
                       administrators administers";
            return Err(ClusterError::RosterInvalid(why.to_owned()).into());
        }
        Ok(set)
    }

    /// Changes the administrators of this client's tenant, or of the cluster. `change` gets their keys and how many
    /// must sign, and says who shall follow them; everything that counts stays.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] unless the quorum is a majority, [`Error::Unfinished`] where more
    /// administrators must sign, and as [`Self::add_principal`].
    pub async fn change_administrators(
        &self,
        of: Above,
        operation: &str,
        change: impl FnOnce(&mut Vec<PublicKey>, &mut u32),
    ) -> Result<Delivered, Error> {
        let set = self.everything(of).await?;
        let before = self.settled(&set, of)?;
        let administrators = before
            .body()
            .administrators()
            .ok_or_else(|| ClusterError::Document("it has no administrators".to_owned()))?;
        let (mut keys, mut quorum) = (administrators.keys().to_vec(), administrators.quorum());
        change(&mut keys, &mut quorum);
        let after =
            Administrators::new(keys, quorum).map_err(|e| RequestError::Invalid(e.to_string()))?;
        let body = with_administrators(before.body(), after)?;
        self.succeed(operation, set.clone(), &[&before], body, self.key()).await
    }

    pub(crate) fn settled(&self, set: &DocumentSet, of: Above) -> Result<SignedDocument, Error> {
        let digest = crate::tenants::authority_in(set, of, self.client().tenant())?;
        let before = set.version(&digest).cloned();
        let before =
            before.ok_or_else(|| ClusterError::Document("no version is in force".to_owned()))?;
        if before.body().administrators().is_none_or(|a| !a.has(&self.key().public())) {
            let whose = match of {
                Above::Tenant => "this profile's tenant",
                Above::Cluster => "the cluster",
            };
            return Err(ClusterError::NotAdministrator(whose.to_owned()).into());
        }
        Ok(before)
    }

    /// Sets what only a quorum of the administrators of this client's tenant may sign: new keys and versions
    /// (`create`), changes of keys (`change`), grants (`grant`). Whatever is not named here is for principals
    /// that have the permission, too.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] for an action that is none of these or where nothing would change, and as
    /// [`Self::change_administrators`].
    pub async fn set_critical(&self, actions: &[Action]) -> Result<Delivered, Error> {
        let invalid = |why: String| Error::from(RequestError::Invalid(why));
        let mut critical = actions.to_vec();
        critical.sort_unstable();
        critical.dedup();
        if let Some(other) = critical.iter().find(|action| !CRITICAL.contains(action)) {
            return Err(invalid(format!("{other} is for principals always")));
        }
        let set = self.everything(Above::Tenant).await?;
        let before = self.settled(&set, Above::Tenant)?;
        let Body::Tenant(tenant) = before.body() else {
            return Err(ClusterError::Document("it is no tenant".to_owned()).into());
        };
        if tenant.critical == critical {
            return Err(invalid("that is how it is already".to_owned()));
        }
        let body = Body::Tenant(Tenant { critical, ..tenant.clone() });
        let what = "set what only administrators may sign";
        self.succeed(what, set.clone(), &[&before], body, self.key()).await
    }

    /// Renews the cluster's roster: the same nodes and administrators, for another 400 days, keeping every
    /// document in force under it. Clients that trust the old one take over the new one by
    /// [`Client::refresh_roster`].
    ///
    /// # Errors
    /// [`ClusterError::RosterInvalid`] where successors contend, and as [`Self::change_administrators`].
    pub async fn renew_roster(&self, days: u64) -> Result<(Delivered, UnixSeconds), Error> {
        let client = self.client();
        let at = client.document_time().await?;
        let expires_at = at.plus(days.min(ROSTER_DAYS) * SECONDS_PER_DAY);
        let (set, before) = match self.everything(Above::Cluster).await {
            Ok(set) => {
                let before = self.settled(&set, Above::Cluster)?;
                (set, before)
            }
            // Under a roster that has expired nodes show nothing: what the profile has kept must do.
            Err(Error::Refused(refused)) => {
                let set = client.control_set().await?;
                if set.heads::<Tenant>(&client.tenant().into()).is_none() {
                    return Err(Error::Refused(refused));
                }
                let before = self.settled(&set, Above::Cluster)?;
                (set, before)
            }
            Err(error) => return Err(error),
        };
        let Some(body) = Roster::of(before.body()) else {
            return Err(ClusterError::RosterInvalid("it is no roster".into()).into());
        };
        let body = Body::Roster(Roster { expires_at, ..body.clone() });
        let delivered = self.succeed("renew the roster", set, &[&before], body, self.key()).await?;
        Ok((delivered, expires_at))
    }

    /// Writes the next version of a roster or tenant, which keeps everything that counts.
    pub(crate) async fn succeed(
        &self,
        operation: &str,
        mut set: DocumentSet,
        before: &[&SignedDocument],
        body: Body,
        key: &AdminKey,
    ) -> Result<Delivered, Error> {
        let client = self.client();
        let at = client.document_time().await?;
        let none = || ClusterError::Document("no version is in force".to_owned());
        let first = before.first().ok_or_else(none)?;
        let frontier = set.frontier_within(&first.id(), at, MAX_FRONTIER);
        // A tenant is its own authority from its second version on.
        let authority = (first.kind() == Kind::Tenant).then(|| first.digest());
        let document = Draft::succeed(before, body, authority, frontier, at)
            .and_then(|draft| draft.sign(&[key.signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        let delivered = self.publish(operation, &set, vec![document.clone()]).await?;
        set.insert_all([document.clone()]);
        client.keep(&set)?;
        if document.kind() == Kind::Roster {
            client.trust_roster(document)?;
        }
        Ok(delivered)
    }

    /// Settles versions that contend, or puts administrators in place of others who are lost or cannot be trusted:
    /// signed by a recovery key. None for `administrators` leaves them as they are in the first version.
    ///
    /// # Errors
    /// [`ClusterError::NotAdministrator`] where `recovery` is no recovery key, and as
    /// [`Self::change_administrators`].
    pub async fn recover(
        &self,
        of: Above,
        recovery: &AdminKey,
        administrators: Option<(Vec<PublicKey>, Option<u32>)>,
    ) -> Result<Delivered, Error> {
        let set = self.everything(of).await?;
        let versions: Vec<SignedDocument> =
            in_force(&set, id(self.client(), of))?.into_iter().cloned().collect();
        let named = |v: &SignedDocument| {
            v.body().recovery().is_some_and(|recovery_keys| recovery_keys.has(&recovery.public()))
        };
        if !versions.iter().all(named) {
            let what = "those that may recover it".to_owned();
            return Err(ClusterError::NotAdministrator(what).into());
        }
        let none = || ClusterError::Document("no version is in force".to_owned());
        let mut body = versions.first().ok_or_else(none)?.body().clone();
        if let Some((keys, quorum)) = administrators {
            let most = u32::try_from(keys.len() / 2 + 1).unwrap_or(u32::MAX);
            let after = Administrators::new(keys, quorum.unwrap_or(most))
                .map_err(|e| RequestError::Invalid(e.to_string()))?;
            body = with_administrators(&body, after)?;
        }
        let before: Vec<&SignedDocument> = versions.iter().collect();
        self.succeed("recover", set.clone(), &before, body, recovery).await
    }
}
