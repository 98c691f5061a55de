//! Policies: rules of a tenant for its keys, in the Cedar language.

use quorate_documents::{Body, DocumentSet, Draft, Heads, Kind, Lookup, Policy, SignedDocument};
use quorate_types::{DocumentId, TenantId, UnixSeconds};

use crate::admin::Admin;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::rng::os_rng;
use crate::tenants::Above;

/// What is known of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its document.
    pub id: DocumentId,
    /// What people call it.
    pub name: String,
    /// What its versions in force say: one as a rule, several after a race. What any of them forbids is
    /// forbidden, and only what all of them permit is permitted.
    pub heads: Vec<PolicyText>,
    /// When the newest of them was made, by whom signed it.
    pub changed_at: UnixSeconds,
}

/// What one version of a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Whether it is switched off.
    pub disabled: bool,
    /// The rules.
    pub text: String,
}

impl PolicyInfo {
    /// Whether it says nothing, under every version.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.heads.iter().all(|head| head.disabled)
    }
}

fn info(heads: &Heads<Policy>) -> PolicyInfo {
    let text =
        |policy: &Policy| PolicyText { disabled: policy.disabled, text: policy.text.clone() };
    PolicyInfo {
        id: heads.id(),
        name: heads.name().to_owned(),
        heads: heads.iter().map(|head| text(head.body())).collect(),
        changed_at: heads.iter().map(|head| head.created_at()).max().unwrap_or(UnixSeconds(0)),
    }
}

fn policies(set: &DocumentSet, tenant: TenantId) -> Vec<Heads<Policy>> {
    let mut found: Vec<Heads<Policy>> = set
        .ids(Kind::Policy)
        .filter_map(|id| set.heads::<Policy>(&id))
        .filter(|heads| heads.tenant() == tenant)
        .collect();
    found.sort_by(|a, b| (a.name(), a.id()).cmp(&(b.name(), b.id())));
    found
}

/// The policy of this name or id.
fn find(
    set: &DocumentSet,
    tenant: TenantId,
    selector: &str,
) -> Result<Option<Heads<Policy>>, Error> {
    let mut all = policies(set, tenant);
    if let Some(at) = all.iter().position(|heads| heads.id().to_string() == selector) {
        return Ok(Some(all.swap_remove(at)));
    }
    all.retain(|heads| heads.name() == selector);
    if all.len() > 1 {
        let ids: Vec<String> = all.iter().map(|heads| heads.id().to_string()).collect();
        let why = format!("{} policies are called \"{selector}\": {}", all.len(), ids.join(", "));
        return Err(RequestError::Invalid(why).into());
    }
    Ok(all.pop())
}

impl Client {
    /// The policies of this client's tenant, by name.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn list_policies(&self) -> Result<Vec<PolicyInfo>, Error> {
        let set = self.set_with_below(vec![Kind::Policy]).await?;
        Ok(policies(&set, self.tenant()).iter().map(info).collect())
    }

    /// What the policies of this client's tenant were after each time that one of them was made or changed, the
    /// newest first: all that were there then, as their newest versions said. An audit record names a set by its
    /// digest, and this finds what it said.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn policy_history(&self) -> Result<Vec<Vec<PolicyInfo>>, Error> {
        let set = self.set_with_below(vec![Kind::Policy]).await?;
        let tenant = self.tenant();
        let mut all: Vec<(&SignedDocument, &Policy)> = set
            .iter()
            .filter_map(|document| match document.body() {
                Body::Policy(policy) if policy.tenant == tenant => Some((document, policy)),
                _ => None,
            })
            .collect();
        // Several may be of one second.
        all.sort_by_key(|(document, _)| (document.created_at(), document.version(), document.id()));
        let after = |changes: usize| {
            let mut then: std::collections::BTreeMap<DocumentId, (&SignedDocument, &Policy)> =
                std::collections::BTreeMap::new();
            for (document, policy) in all.iter().take(changes) {
                let newest = then.entry(document.id()).or_insert((document, policy));
                if newest.0.version() < document.version() {
                    *newest = (document, policy);
                }
            }
            let info = |(document, policy): (&SignedDocument, &Policy)| PolicyInfo {
                id: document.id(),
                name: policy.name.clone(),
                heads: vec![PolicyText { disabled: policy.disabled, text: policy.text.clone() }],
                changed_at: document.created_at(),
            };
            then.into_values().map(info).collect()
        };
        Ok((1..=all.len()).rev().map(after).collect())
    }

    /// One of them, by name or id.
    ///
    /// # Errors
    /// [`ClusterError::PolicyUnknown`], and as [`Self::list_policies`].
    pub async fn policy(&self, selector: &str) -> Result<PolicyInfo, Error> {
        let set = self.set_with_below(vec![Kind::Policy]).await?;
        let found = find(&set, self.tenant(), selector)?;
        let unknown = || ClusterError::PolicyUnknown(selector.to_owned()).into();
        found.as_ref().map(info).ok_or_else(unknown)
    }
}

impl Admin<'_> {
    /// Sets what a policy of this client's tenant says, and makes it where there is none of this name. One that
    /// was disabled counts again. Nodes refuse a text that is no policy.
    ///
    /// # Errors
    /// [`ClusterError::NotAdministrator`], [`Error::Unfinished`] where more administrators must sign, and as
    /// [`Self::add_principal`].
    pub async fn set_policy(&self, name: &str, text: &str) -> Result<Delivered, Error> {
        let client = self.client();
        let (set, authority) = self.authority(Above::Tenant, vec![Kind::Policy]).await?;
        let at = client.document_time().await?;
        let draft = match find(&set, client.tenant(), name)? {
            None => {
                let body = Policy {
                    tenant: client.tenant(),
                    name: name.to_owned(),
                    text: text.to_owned(),
                    disabled: false,
                };
                Draft::first(Body::Policy(body), Some(authority), at, &mut os_rng())
            }
            Some(heads) => {
                let body = Policy {
                    tenant: client.tenant(),
                    name: heads.name().to_owned(),
                    text: text.to_owned(),
                    disabled: false,
                };
                let before = versions(&set, &heads);
                Draft::succeed(&before, Body::Policy(body), Some(authority), Vec::new(), at)
            }
        };
        let document = self.signed(draft)?;
        self.publish(&format!("set the policy {name}"), &set, vec![document]).await
    }

    /// Lets a policy say nothing any more, until it is set again.
    ///
    /// # Errors
    /// [`ClusterError::PolicyUnknown`], and as [`Self::set_policy`].
    pub async fn disable_policy(&self, selector: &str) -> Result<Delivered, Error> {
        let client = self.client();
        let (set, authority) = self.authority(Above::Tenant, vec![Kind::Policy]).await?;
        let at = client.document_time().await?;
        let unknown = || ClusterError::PolicyUnknown(selector.to_owned());
        let heads = find(&set, client.tenant(), selector)?.ok_or_else(unknown)?;
        let mut body = heads.iter().next().ok_or_else(unknown)?.body().clone();
        body.disabled = true;
        let before = versions(&set, &heads);
        let draft = Draft::succeed(&before, Body::Policy(body), Some(authority), Vec::new(), at);
        let document = self.signed(draft)?;
        self.publish(&format!("disable the policy {}", heads.name()), &set, vec![document]).await
    }
}

fn versions<'a>(set: &'a DocumentSet, heads: &Heads<Policy>) -> Vec<&'a SignedDocument> {
    heads.digests().iter().filter_map(|digest| set.version(digest)).collect()
}
