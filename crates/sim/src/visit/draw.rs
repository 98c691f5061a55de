//! Documents that visitors bring: successors of the roster, of tenants and of keys with something in them changed, and
//! tenants that have nothing to do with the others.

use quorate_documents::{
    Administrators, Body, DocumentError, DocumentSet, Draft, Key, KeyVersionEntry, Kind, Order,
    Permission, Principal, Roster, SignedDocument, Tenant,
};
use quorate_types::{Action, Digest, KeySpec, KeyState, KeyUsage, KeyVersion, UnixSeconds};
use quorate_wire::{PublicKey, SigningKey};
use rand_core::CryptoRng;

use crate::cluster::{Cluster, EPOCH, OrderedKey};

/// Seconds in 80 days.
const LIFETIME: u64 = 80 * 86_400;

/// A tenant, and a principal of it that may do everything with its keys.
pub(super) struct Stranger {
    pub(super) tenant: SignedDocument,
    pub(super) principal: SignedDocument,
    pub(super) key: SigningKey,
}

/// A principal of a tenant that may do these things with all of its keys.
fn principal(
    cluster: &Cluster,
    of: &SignedDocument,
    (name, key): (&str, PublicKey),
    may: &[Action],
    now: UnixSeconds,
    rng: &mut dyn CryptoRng,
) -> Result<SignedDocument, DocumentError> {
    let body = Body::Principal(Principal {
        tenant: of.id().into(),
        name: name.to_owned(),
        public_key: key,
        expires_at: EPOCH.plus(LIFETIME),
        permissions: may.iter().map(|action| Permission::all_keys(*action)).collect(),
        attributes: Vec::new(),
        revoked: false,
        next_public_key: None,
        retired_keys: Vec::new(),
    });
    Draft::first(body, Some(of.digest()), now, rng)?.sign(&[cluster.administrator()])
}

impl Stranger {
    pub(super) fn new(
        (cluster, roster): (&Cluster, Digest),
        name: &str,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, DocumentError> {
        let keys = vec![cluster.administrator().public()];
        let administrators = Administrators::new(keys, 1)
            .map_err(|source| DocumentError::Body { kind: Kind::Tenant, source })?;
        let body = Body::Tenant(Tenant {
            name: name.to_owned(),
            parent: None,
            administrators,
            recovery: None,
            support_contact: String::new(),
            suspended: false,
            critical: Vec::new(),
        });
        let draft = Draft::first(body, Some(roster), now, rng)?;
        let tenant = draft.sign(&[cluster.administrator()])?;
        let key = SigningKey::generate(rng);
        let named = (name, key.public());
        let principal = principal(cluster, &tenant, named, &Action::ALL, now, rng)?;
        Ok(Self { tenant, principal, key })
    }
}

/// One more principal of the tenant that may drive ceremonies.
pub(super) fn courier(
    cluster: &Cluster,
    name: &str,
    now: UnixSeconds,
    rng: &mut dyn CryptoRng,
) -> Result<(SignedDocument, SigningKey), DocumentError> {
    let key = SigningKey::generate(rng);
    let may = [Action::Coordinate];
    let document =
        principal(cluster, cluster.tenant_document(), (name, key.public()), &may, now, rng)?;
    Ok((document, key))
}

/// A key of the cluster's tenant, or of another's, with something in it changed.
pub(super) fn key(
    cluster: &Cluster,
    of: Option<&Stranger>,
    order: Order,
    now: UnixSeconds,
    rng: &mut dyn CryptoRng,
    change: impl FnOnce(&mut Key),
) -> Result<(SignedDocument, OrderedKey), DocumentError> {
    let tenant = of.map_or(cluster.tenant_document(), |stranger| &stranger.tenant);
    let signer = of.map_or(&cluster.owner, |stranger| &stranger.key);
    let entry =
        KeyVersionEntry { number: KeyVersion::FIRST, created_at: now, order: order.clone() };
    let mut key = Key {
        tenant: tenant.id().into(),
        alias: "visited".to_owned(),
        spec: KeySpec::PrfRistretto255Sha512,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Active,
        minimum_committee: 1,
        allow_fragile: true,
        jurisdictions: Vec::new(),
        fragment_required: false,
        versions: vec![entry],
        tags: Vec::new(),
        rotation_seconds: 0,
        state_history: Vec::new(),
        coordinator: None,
        destruction: None,
    };
    change(&mut key);
    let draft = Draft::first(Body::Key(key), Some(tenant.digest()), now, rng)?;
    let document = draft.sign(&[signer])?;
    let id = document.id().into();
    Ok((document, OrderedKey { id, version: KeyVersion::FIRST, order }))
}

/// The next version of a key's document.
pub(super) fn next_key(
    cluster: &Cluster,
    before: &SignedDocument,
    now: UnixSeconds,
    change: impl FnOnce(&mut Key),
) -> Result<SignedDocument, DocumentError> {
    let mut body = before.body().clone();
    if let Body::Key(key) = &mut body {
        change(key);
    }
    let authority = Some(cluster.tenant_document().digest());
    let draft = Draft::succeed(&[before], body, authority, Vec::new(), now)?;
    draft.sign(&[cluster.administrator()])
}

/// Everything of the cluster, for the frontier of what comes after it.
fn whole(cluster: &Cluster, rosters: &[SignedDocument], others: &[SignedDocument]) -> DocumentSet {
    let mut set = DocumentSet::whole(cluster.id());
    let own = [&cluster.roster, &cluster.newest].into_iter().chain(cluster.signed());
    set.insert_all(own.chain(rosters).chain(others).cloned());
    set
}

/// A successor of a roster.
pub(super) fn roster(
    cluster: &Cluster,
    (rosters, others): (&[SignedDocument], &[SignedDocument]),
    now: UnixSeconds,
    change: impl FnOnce(&mut Roster),
) -> Result<SignedDocument, DocumentError> {
    let before = rosters.last().unwrap_or(&cluster.newest);
    let mut body = before.body().clone();
    if let Body::Roster(roster) = &mut body {
        change(roster);
    }
    let frontier = whole(cluster, rosters, others).frontier(&cluster.roster.id());
    let draft = Draft::succeed(&[before], body, None, frontier, now)?;
    draft.sign(&[cluster.administrator()])
}

/// A successor of the tenant.
pub(super) fn tenant(
    cluster: &Cluster,
    others: &[SignedDocument],
    now: UnixSeconds,
    change: impl FnOnce(&mut Tenant),
) -> Result<SignedDocument, DocumentError> {
    let before = cluster.tenant_document();
    let mut body = before.body().clone();
    if let Body::Tenant(tenant) = &mut body {
        change(tenant);
    }
    let frontier = whole(cluster, &[], others).frontier(&before.id());
    let draft = Draft::succeed(&[before], body, Some(before.digest()), frontier, now)?;
    draft.sign(&[cluster.administrator()])
}
