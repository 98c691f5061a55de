//! Making keys: the document, then the rounds, then the certificate.

use std::collections::BTreeMap;

use quorate_coordinator::ceremony::{
    Blame, Certified, Dkg, Failed, Finish, FinishOutcome, Incomplete, Outcome, new_session,
};
use quorate_documents::{
    Body, Draft, Heads, Key as KeyBody, KeyVersionEntry, Kind, NodeEntry, Order, Roster,
    SignedDocument, StateChange, Tenant,
};
use quorate_types::{
    Action, DocumentId, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, TenantId,
    Threshold, UnixSeconds,
};

use crate::client::Client;
use crate::error::{
    CeremonyError, ClusterError, Error, KeyError, NodeRefusal, RequestError, WrongAnswer, code,
};
use crate::keys::{CreatedKey, Key, KeySpecRequest, Progress, fingerprint};
use crate::profile::AdminKey;
use crate::rng::os_rng;
use crate::rounds::{DKG_STEPS, OnProgress};
use crate::transport::Unreachable;

impl Client {
    /// Makes a key: stores its document at every node, and runs the ceremony in which its shares come to
    /// be. Every node that it names must take part, unless the request allows some to be away. `progress` is told of each step.
    ///
    /// # Errors
    /// [`CeremonyError`], with the key's id where its document is stored: then [`Self::resume_key`] goes
    /// on from there; [`KeyError::Exists`] where the caller sees a key of this alias.
    pub async fn create_key(
        &self,
        request: KeySpecRequest,
        progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        self.create_key_by(request, None, progress).await
    }

    /// The same, with the key's document signed by an administrator where one is given, as it must be where
    /// the tenant marks new keys as critical.
    ///
    /// # Errors
    /// As [`Self::create_key`], and [`Error::Unfinished`] where more administrators must sign: once they have
    /// and the change is submitted, [`Self::resume_key`] goes on.
    pub async fn create_key_by(
        &self,
        request: KeySpecRequest,
        administrator: Option<&AdminKey>,
        mut progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        // What is wrong in itself is said before any node is asked.
        key_body(self.roster(), self.tenant(), request.clone(), UnixSeconds(0))?;
        let alias = request.alias.clone();
        if !request.alias.is_empty() {
            self.called(&request.alias).await?.free(&request.alias, None)?;
        }
        let at = self.document_time().await?;
        let allow_absent = request.allow_absent;
        let (mut body, mut order) = key_body(self.roster(), self.tenant(), request, at)?;
        if allow_absent {
            order = self.without_absent(order, body.minimum_committee).await?;
            for version in &mut body.versions {
                version.order = order.clone();
            }
        }
        let authority = Some(self.tenant_heads().await?.digests().first().copied())
            .flatten()
            .ok_or_else(|| ClusterError::Document("the tenant has no document".into()))?;
        let signer = administrator.map_or(&self.inner.key, AdminKey::signing_key);
        let document = Draft::first(Body::Key(body), Some(authority), at, &mut os_rng())
            .and_then(|draft| draft.sign(&[signer]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        let id = KeyId::from(document.id());
        if let Some(administrator) = administrator {
            let (what, set) = (format!("make the key {alias}"), self.control_set().await?);
            self.admin(administrator).publish(&what, &set, vec![document.clone()]).await?;
        }
        self.store_and_run(id, KeyVersion::FIRST, &order, &document, &mut progress).await
    }

    /// Adds a version to a key, with the same nodes and T, and makes it. New objects are sealed under it;
    /// old ones open as before, and [`Self::rewrap`] brings them over.
    ///
    /// # Errors
    /// As [`Self::create_key`]; the old version serves on.
    pub async fn rotate_key(
        &self,
        key: &Key,
        progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        self.rotate_key_by(key, None, None, progress).await
    }

    /// The same with another T for the new version, signed by an administrator: a principal may not lower it.
    ///
    /// # Errors
    /// As [`Self::rotate_key`].
    pub async fn rotate_key_to(
        &self,
        key: &Key,
        threshold: Option<(u16, &AdminKey)>,
        progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        let (threshold, administrator) = threshold.unzip();
        self.rotate_key_by(key, threshold, administrator, progress).await
    }

    /// The same, signed by an administrator where one is given, as it must be where the tenant marks new
    /// versions as critical.
    ///
    /// # Errors
    /// As [`Self::rotate_key`], and [`Error::Unfinished`] where more administrators must sign: once they have
    /// and the change is submitted, [`Self::resume_key`] goes on.
    pub async fn rotate_key_by(
        &self,
        key: &Key,
        threshold: Option<u16>,
        administrator: Option<&AdminKey>,
        mut progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        let key = self.fetch_key(key.id()).await?;
        let id = key.id();
        let invalid = |why: String| Error::from(RequestError::Invalid(why));
        // The nodes would store the version and then refuse to make it.
        if !key.verified().heads().state_allows(Action::Create) {
            let state = key.state().name();
            return Err(invalid(format!("the key is {state}, and gets no new version")));
        }
        let last =
            key.last_version().ok_or(KeyError::NotReady { id, version: KeyVersion::FIRST })?;
        if key.committee(last).is_err() {
            return Err(KeyError::NotReady { id, version: last }.into());
        }
        let at = self.document_time().await?;
        let mut body = key.merged(false, at)?;
        let before = key.repeated_order(last)?;
        let mut members = Vec::new();
        for member in before.members() {
            let node = self
                .roster()
                .node(&member.node)
                .ok_or_else(|| invalid(format!("{} is not in the roster any more", member.node)))?;
            members.push((node.id, node.identity_key));
        }
        let order = Order::new(threshold.unwrap_or(before.threshold().t()), members)
            .map_err(|e| invalid(e.to_string()))?
            .with_refresh_seconds(before.refresh_seconds());
        // Behind those too that are never made.
        let newest = body.versions.last();
        let version = newest.and_then(|newest| newest.number.next());
        let version = version.ok_or_else(|| invalid("the key has too many versions".into()))?;
        if let Some(newest) = newest.filter(|_| administrator.is_none()) {
            let (old, new) = (newest.order.threshold(), order.threshold());
            if new.t() < old.t() || new.n() < old.n() {
                return Err(invalid(format!(
                    "version {} of {} was to have {old} and the next has {new}, which takes administrators: `quorate key \
                     rotate {} --critical`",
                    newest.number,
                    key.alias(),
                    key.alias()
                )));
            }
        }
        body.versions.push(KeyVersionEntry {
            number: version,
            created_at: at,
            order: order.clone(),
        });
        let authority = self.tenant_heads().await?.digests().first().copied();
        let heads: Vec<&SignedDocument> = key.heads().iter().collect();
        let signer = administrator.map_or(&self.inner.key, AdminKey::signing_key);
        let document = Draft::succeed(&heads, Body::Key(body), authority, Vec::new(), at)
            .and_then(|draft| draft.sign(&[signer]))
            .map_err(|e| invalid(e.to_string()))?;
        if let Some(administrator) = administrator {
            let mut set = self.control_set().await?;
            set.insert_all(self.documents(vec![DocumentId::from(id)], Vec::new()).await?);
            let what = format!("rotate the key {}", key.alias());
            self.admin(administrator).publish(&what, &set, vec![document.clone()]).await?;
        }
        self.store_and_run(id, version, &order, &document, &mut progress).await
    }

    /// Finishes the newest version of a key whose making was interrupted, by whomever: collects what the
    /// nodes have signed, or begins again where nothing was signed; and delivers the certificate to nodes
    /// that lack it.
    ///
    /// # Errors
    /// As [`Self::create_key`].
    pub async fn resume_key(
        &self,
        selector: impl AsRef<str>,
        mut progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<CreatedKey, Error> {
        let id = self.key(selector).await?.id();
        let key = self.fetch_key(id).await?;
        // Nodes that were away may lack documents: whoever has them carries them there.
        let kinds = vec![Kind::Tenant, Kind::Principal];
        self.carry(vec![self.cluster().into(), id.into()], kinds).await?;
        let version =
            key.last_version().ok_or(KeyError::NotReady { id, version: KeyVersion::FIRST })?;
        let order = key.order(version)?.clone();
        self.finish_or_run(id, version, &order, &mut progress).await
    }

    /// A time that most nodes accept as not in the future.
    pub(crate) async fn document_time(&self) -> Result<UnixSeconds, Error> {
        let nodes: Vec<NodeId> = self.roster().nodes.iter().map(|n| n.id).collect();
        let n = nodes.len().min(usize::from(quorate_types::limits::MAX_COMMITTEE)) as u16;
        let most = Threshold::new(n / 2 + 1, n).map_err(RequestError::from)?;
        self.stamp(most, &nodes).await
    }

    /// The tenant's document as it is in force.
    pub(crate) async fn tenant_heads(&self) -> Result<Heads<Tenant>, Error> {
        let tenant = DocumentId::from(self.tenant());
        let set = self.control_set().await?;
        set.heads::<Tenant>(&tenant).ok_or_else(|| {
            ClusterError::Document("no node shows this principal's tenant".into()).into()
        })
    }

    async fn store_and_run(
        &self,
        id: KeyId,
        version: KeyVersion,
        order: &Order,
        document: &SignedDocument,
        progress: OnProgress<'_>,
    ) -> Result<CreatedKey, Error> {
        progress(Progress {
            step: 1,
            of: DKG_STEPS,
            what: "the key's document to be stored".into(),
        });
        let delivered = self.put_documents(core::slice::from_ref(document.envelope())).await;
        let mut stopped = CeremonyError {
            what: "not every node of the key has stored its document".into(),
            code: code::CEREMONY_FAILED,
            key: delivered.nodes.iter().any(|n| n.result.is_ok()).then_some(id),
            unreachable: Vec::new(),
            refused: Vec::new(),
            wrong: Vec::new(),
        };
        for confirmation in delivered.nodes {
            let member = order.founder(&confirmation.node).is_some();
            match confirmation.result {
                Err(crate::NodeFailure::Unreachable(u)) if member => stopped.unreachable.push(u),
                Err(crate::NodeFailure::Refused(r)) if member => stopped.refused.push(*r),
                _ => {}
            }
        }
        if stopped.key.is_none() && stopped.unreachable.is_empty() && !stopped.refused.is_empty() {
            return Err(Error::Refused(Box::new(stopped.refused.swap_remove(0))));
        }
        if !stopped.unreachable.is_empty() || !stopped.refused.is_empty() {
            return Err(stopped.into_error());
        }
        self.forget_key(id);
        self.run(id, version, order, progress).await
    }

    /// Finishes what was signed; begins anew where nothing was.
    async fn finish_or_run(
        &self,
        id: KeyId,
        version: KeyVersion,
        order: &Order,
        progress: OnProgress<'_>,
    ) -> Result<CreatedKey, Error> {
        let (outcome, reasons) =
            self.drive_ceremony(Finish::new(id, version, order), progress).await;
        match outcome {
            FinishOutcome::Certified(certified) => {
                self.made(id, version, *certified, &reasons).await
            }
            FinishOutcome::Incomplete(incomplete) if incomplete.signed.is_empty() => {
                let unreachable = !incomplete.unreachable.is_empty();
                if unreachable {
                    return Err(self.incomplete(id, *incomplete, &reasons));
                }
                self.run(id, version, order, progress).await
            }
            FinishOutcome::Incomplete(incomplete) => {
                Err(self.incomplete(id, *incomplete, &reasons))
            }
        }
    }

    /// Runs one session. Nodes count sessions by themselves, so that the attempt's number need not be new;
    /// its nonce is.
    async fn run(
        &self,
        id: KeyId,
        version: KeyVersion,
        order: &Order,
        progress: OnProgress<'_>,
    ) -> Result<CreatedKey, Error> {
        let session = new_session(id, version, order, self.roster_digest(), 1, &mut os_rng());
        let dkg = Dkg::new(&session, order).map_err(|e| RequestError::Invalid(e.to_string()))?;
        let (outcome, reasons) = self.drive_ceremony(dkg, progress).await;
        match outcome {
            Outcome::Certified(certified) => self.made(id, version, *certified, &reasons).await,
            Outcome::Failed(failed) => Err(self.failed(id, *failed, &reasons)),
        }
    }

    async fn made(
        &self,
        id: KeyId,
        version: KeyVersion,
        certified: Certified,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Result<CreatedKey, Error> {
        for blame in &certified.blamed {
            self.warn(crate::Warning::WrongAnswer(self.blamed(blame)));
        }
        self.forget_key(id);
        let key = self.fetch_key(id).await?;
        let order = key.order(version)?;
        let absent = order.members().iter().filter(|member| order.founder(&member.node).is_none());
        let absent = absent.map(|member| self.node_name(member.node)).collect();
        if !key.alias().is_empty()
            && let Some(pins) = self.alias_pins()
        {
            let mut all = pins.read()?;
            // An alias that is pinned to another key stays so, and says so when it is used.
            all.entry(key.alias().to_owned()).or_insert(id);
            pins.write(&all)?;
        }
        Ok(CreatedKey {
            version,
            certificate: certified.certificate.envelope().clone(),
            fingerprint: fingerprint(&certified.certificate),
            holders: certified
                .certificate
                .statement()
                .participants()
                .iter()
                .map(|member| self.node_name(member.node))
                .collect(),
            absent,
            lacking: certified
                .lacking
                .iter()
                .map(|(node, why)| {
                    let why =
                        reasons.get(node).map_or_else(|| why.to_string(), |u| u.reason.to_string());
                    (self.node_name(*node), why)
                })
                .collect(),
            key,
        })
    }

    pub(crate) fn blamed(&self, blame: &Blame) -> WrongAnswer {
        let provable = if blame.evidence.is_some() { " (provable)" } else { "" };
        WrongAnswer {
            name: self.node_name(blame.node),
            what: format!("{}{provable}", blame.finding),
        }
    }

    pub(crate) fn failed(
        &self,
        id: KeyId,
        failed: Failed,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Error {
        let provable = failed.blamed.iter().any(|b| b.evidence.is_some());
        CeremonyError {
            what: if failed.signed.is_empty() {
                "the key was not made".into()
            } else {
                format!("{} nodes have signed and the others not yet", failed.signed.len())
            },
            code: if provable { code::DEALER_FAULT } else { code::CEREMONY_FAILED },
            key: Some(id),
            unreachable: failed
                .unreachable
                .iter()
                .map(|(node, why)| self.unreachable(*node, why, reasons))
                .collect(),
            refused: self.refusals(failed.refusals),
            wrong: failed.blamed.iter().map(|b| self.blamed(b)).collect(),
        }
        .into_error()
    }

    pub(crate) fn incomplete(
        &self,
        id: KeyId,
        incomplete: Incomplete,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Error {
        let signed: usize = incomplete.signed.iter().map(|(_, nodes)| nodes.len()).sum();
        CeremonyError {
            what: format!("{signed} nodes have signed, and all must"),
            code: code::CEREMONY_FAILED,
            key: Some(id),
            unreachable: incomplete
                .unreachable
                .iter()
                .map(|(node, why)| self.unreachable(*node, why, reasons))
                .collect(),
            refused: self.refusals(incomplete.refusals),
            wrong: incomplete.blamed.iter().map(|b| self.blamed(b)).collect(),
        }
        .into_error()
    }

    pub(crate) fn refusals(
        &self,
        refusals: Vec<(NodeId, quorate_wire::proto::v1::Refusal)>,
    ) -> Vec<NodeRefusal> {
        refusals
            .into_iter()
            .map(|(node, refusal)| NodeRefusal { name: self.node_name(node), refusal })
            .collect()
    }
}

/// What the first version of a key's document says, and the order in it.
pub(crate) fn key_body(
    roster: &Roster,
    tenant: TenantId,
    request: KeySpecRequest,
    at: UnixSeconds,
) -> Result<(KeyBody, Order), Error> {
    let nodes = members(roster, &request)?;
    let n = nodes.len();
    Threshold::new(request.threshold, n.min(usize::from(u16::MAX)) as u16)
        .map_err(RequestError::from)?;
    let invalid = |e: quorate_documents::BodyError| RequestError::Invalid(e.to_string());
    let order = Order::new(request.threshold, nodes.iter().map(|n| (n.id, n.identity_key)))
        .map_err(invalid)?
        .with_refresh_seconds(request.refresh_seconds);
    let mut jurisdictions = request.jurisdictions;
    jurisdictions.sort_unstable();
    jurisdictions.dedup();
    let body = KeyBody {
        tenant,
        alias: request.alias,
        spec: KeySpec::PrfRistretto255Sha512,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Active,
        minimum_committee: match request.minimum_committee {
            Some(minimum) => minimum.into(),
            None if request.allow_absent => request.threshold.into(),
            None => n as u32,
        },
        allow_fragile: request.allow_fragile,
        jurisdictions,
        fragment_required: request.fragment_required,
        versions: vec![KeyVersionEntry {
            number: KeyVersion::FIRST,
            created_at: at,
            order: order.clone(),
        }],
        tags: Vec::new(),
        rotation_seconds: 0,
        state_history: vec![StateChange { at, state: KeyState::Active }],
        coordinator: None,
        destruction: None,
    };
    Ok((body, order))
}

/// The nodes of a new key.
fn members(roster: &Roster, request: &KeySpecRequest) -> Result<Vec<NodeEntry>, RequestError> {
    let allowed = |node: &NodeEntry| {
        request.jurisdictions.is_empty() || request.jurisdictions.contains(&node.jurisdiction)
    };
    let Some(names) = &request.members else {
        return Ok(roster.nodes.iter().filter(|n| allowed(n)).cloned().collect());
    };
    let mut nodes = Vec::with_capacity(names.len());
    for name in names {
        let node = roster
            .nodes
            .iter()
            .find(|n| n.name == *name || n.id.to_string() == *name)
            .ok_or_else(|| RequestError::NodeUnknown(name.clone()))?;
        if !allowed(node) {
            return Err(RequestError::Invalid(format!(
                "{} is in {}, where the key's shares may not be",
                node.name, node.jurisdiction
            )));
        }
        nodes.push(node.clone());
    }
    Ok(nodes)
}
