//! What a next version of a roster or tenant keeps, by name, and what it must keep: whatever is not in its frontier
//! counts no more.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{
    Body, DocumentSet, FrontierEntry, Key, Kind, Lookup, Principal, SignedDocument, Tenant,
};
use quorate_types::{Digest, DocumentId, KeyState};

use crate::changes::Change;
use crate::error::ClusterError;

/// Documents of one kind that a version of a roster or tenant keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDocuments {
    /// By which roster or tenant.
    pub by: String,
    /// What they are, in the plural.
    pub kind: &'static str,
    /// Each by its name, with its version where that is not the first, and whether it is out of use. Sorted.
    pub names: Vec<String>,
}

const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Roster => "rosters",
        Kind::Tenant => "tenants",
        Kind::Principal => "principals",
        Kind::Key => "keys",
        Kind::KeyOrder => "orders",
        Kind::Policy => "policies",
        Kind::Grant => "grants",
        Kind::Terms => "terms",
    }
}

/// What a document is called, and whether it is out of use.
fn called(set: &DocumentSet, document: &SignedDocument) -> String {
    let key = |id: &DocumentId| {
        set.heads::<Key>(id).map_or_else(|| id.to_string(), |heads| heads.alias().to_owned())
    };
    let principal = |id: &DocumentId| {
        set.heads::<Principal>(id).map_or_else(|| id.to_string(), |h| h.name().to_owned())
    };
    let (name, out) = match document.body() {
        Body::Roster(_) => (document.id().to_string(), None),
        Body::Tenant(tenant) => (tenant.name.clone(), tenant.suspended.then_some("suspended")),
        Body::Principal(it) => (it.name.clone(), it.revoked.then_some("revoked")),
        Body::Key(it) => {
            let out = match (it.destruction, it.state) {
                (Some(_), _) => Some("to be destroyed"),
                (None, KeyState::Active) => None,
                (None, state) => Some(state.name()),
            };
            (it.alias.clone(), out)
        }
        Body::KeyOrder(it) => {
            let (number, version) = (it.order.number(), it.version);
            (format!("order {number} of version {version} of {}", key(&it.key.into())), None)
        }
        Body::Policy(it) => (it.name.clone(), it.disabled.then_some("disabled")),
        Body::Grant(it) => {
            let (grantee, key) = (principal(&it.grantee.into()), key(&it.key.into()));
            (format!("{key} to {grantee}"), it.revoked.then_some("revoked"))
        }
        Body::Terms(it) => {
            let tenant = set.heads::<Tenant>(&it.tenant.into());
            let tenant = tenant.map_or_else(|| it.tenant.to_string(), |h| h.name().to_owned());
            (format!("of {tenant}"), it.suspended.then_some("suspended"))
        }
    };
    let mut more: Vec<String> = out.map(str::to_owned).into_iter().collect();
    if document.version() > 1 {
        more.push(format!("version {}", document.version()));
    }
    if more.is_empty() { name } else { format!("{name} ({})", more.join(", ")) }
}

/// The versions of rosters and tenants of a change that say what is kept.
fn keeping(change: &Change) -> impl Iterator<Item = &SignedDocument> {
    let later = |d: &&SignedDocument| d.kind().is_authority() && d.version() > 1;
    change.documents().iter().filter(later)
}

/// A version that a set has, or the change itself.
fn version<'a>(
    set: &'a DocumentSet,
    change: &'a Change,
    digest: &Digest,
) -> Option<&'a SignedDocument> {
    let own = change.documents().iter().find(|d| d.digest() == *digest);
    own.or_else(|| set.version(digest))
}

/// What a change keeps, by kind and name: so that people see what is absent.
pub(crate) fn kept(set: &DocumentSet, change: &Change) -> Vec<KeptDocuments> {
    let mut all = Vec::new();
    for document in keeping(change) {
        let by = match document.body() {
            Body::Tenant(tenant) => format!("the tenant {}", tenant.name),
            _ => "the cluster".to_owned(),
        };
        let mut names: BTreeMap<u32, (&'static str, Vec<String>)> = BTreeMap::new();
        for entry in document.frontier() {
            let Some(kept) = version(set, change, &entry.digest) else { continue };
            let of_kind = names.entry(kept.kind().number());
            let of_kind = of_kind.or_insert_with(|| (plural(kept.kind()), Vec::new()));
            of_kind.1.push(called(set, kept));
        }
        // Those of which there is none are what somebody may look for.
        if document.kind() == Kind::Tenant {
            for kind in [Kind::Principal, Kind::Key, Kind::Policy] {
                names.entry(kind.number()).or_insert_with(|| (plural(kind), Vec::new()));
            }
        }
        all.extend(names.into_values().map(|(kind, mut names)| {
            names.sort();
            KeptDocuments { by: by.clone(), kind, names }
        }));
    }
    all
}

/// Whether some of these versions stand on another, or are it.
fn stand_on(set: &DocumentSet, change: &Change, from: &[Digest], on: Digest) -> bool {
    let (mut next, mut seen) = (from.to_vec(), BTreeSet::new());
    while let Some(digest) = next.pop() {
        if digest == on {
            return true;
        }
        if seen.insert(digest) {
            let version = version(set, change, &digest);
            next.extend(version.map(|v| v.predecessors()).unwrap_or_default());
        }
    }
    false
}

/// Refuses a version of a roster or tenant that does not keep what the version before it keeps: a later version of
/// each document, at the least. That list is signed, so whoever made the change cannot have shortened it, whatever was
/// left out beside it. What is revoked or over allows nothing, and may go.
pub(crate) fn keeps_what_was_kept(set: &DocumentSet, change: &Change) -> Result<(), ClusterError> {
    for document in keeping(change) {
        let before: Vec<&SignedDocument> =
            document.predecessors().iter().filter_map(|d| version(set, change, d)).collect();
        let Some((first, rest)) = before.split_first() else { continue };
        let of = |frontier: &[FrontierEntry]| {
            let mut by_id: BTreeMap<DocumentId, Vec<Digest>> = BTreeMap::new();
            frontier.iter().for_each(|e| by_id.entry(e.id).or_default().push(e.digest));
            by_id
        };
        let (now, others) = (
            of(document.frontier()),
            rest.iter().map(|version| of(version.frontier())).collect::<Vec<_>>(),
        );
        let dropped = |entry: &&FrontierEntry| {
            // Of versions that contend only what all of them keep counts.
            if !others.iter().all(|other| other.contains_key(&entry.id)) {
                return false;
            }
            let kept = now.get(&entry.id).map(Vec::as_slice).unwrap_or_default();
            let stays =
                !kept.is_empty() && (!rest.is_empty() || stand_on(set, change, kept, entry.digest));
            !stays && !set.is_over(&entry.id, document.created_at())
        };
        let dropped: Vec<&FrontierEntry> = first.frontier().iter().filter(dropped).collect();
        if let Some(entry) = dropped.first() {
            let what = match set.version(&entry.digest) {
                Some(version) => format!("the {} {}", version.kind(), called(set, version)),
                None => format!("the document {}, of which the file has nothing", entry.id),
            };
            return Err(ClusterError::ChangeInvalid(format!(
                "it would drop {} of the documents that the version before it keeps, which would count no more; \
                 the first is {what}",
                dropped.len()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_documents::{BodyOf, Draft};
    use quorate_types::ClusterId;
    use quorate_wire::proto::v1::Envelope;

    use super::*;
    use crate::cluster::{
        ClusterRequest, all_permissions, create_cluster, principal_body, tests::card,
    };
    use crate::profile::AdminKey;
    use crate::rng::{now, os_rng};

    struct World {
        admin: AdminKey,
        cluster: ClusterId,
        set: DocumentSet,
        tenant: SignedDocument,
    }

    impl World {
        fn new() -> Self {
            let admin = AdminKey::generate();
            let bundle = create_cluster(ClusterRequest {
                name: "test".into(),
                cards: vec![card(1), card(2)],
                admin: &admin,
                recovery: None,
                principal_name: "founder".into(),
                principal_key: AdminKey::generate().public(),
            })
            .unwrap();
            let parse = |e: &Envelope| SignedDocument::parse(e.clone()).unwrap();
            let all: Vec<_> =
                core::iter::once(&bundle.roster).chain(&bundle.documents).map(parse).collect();
            let mut set = DocumentSet::partial(bundle.cluster);
            assert!(set.insert_all(all.clone()).is_empty());
            Self { admin, cluster: bundle.cluster, set, tenant: all[1].clone() }
        }

        fn principal(&mut self, name: &str) -> SignedDocument {
            let body = principal_body(
                self.tenant.id().into(),
                name.into(),
                AdminKey::generate().public(),
                now().plus(86_400),
                all_permissions(),
            );
            let draft = Draft::first(body, Some(self.tenant.digest()), now(), &mut os_rng());
            let document = draft.unwrap().sign(&[self.admin.signing_key()]).unwrap();
            self.set.insert(document.clone()).unwrap();
            document
        }

        /// The tenant's next version with another contact, which keeps what the set shows but for one document.
        fn next(&self, without: Option<&SignedDocument>) -> SignedDocument {
            let mut body = Tenant::of(self.tenant.body()).unwrap().clone();
            body.support_contact.push('x');
            let mut frontier = self.set.frontier(&self.tenant.id());
            frontier.retain(|entry| without.is_none_or(|document| document.id() != entry.id));
            let authority = Some(self.tenant.digest());
            let before = [&self.tenant];
            let draft = Draft::succeed(&before, Body::Tenant(body), authority, frontier, now());
            draft.unwrap().sign(&[self.admin.signing_key()]).unwrap()
        }

        fn change(&self, document: SignedDocument, set: &DocumentSet) -> Change {
            Change::new(self.cluster, "changes the contact", vec![document]).on(set)
        }

        /// What is there, as far as its maker shows it.
        fn shown(&self, shown: impl Fn(&SignedDocument) -> bool) -> DocumentSet {
            let mut set = DocumentSet::partial(self.cluster);
            let some: Vec<_> = self.set.iter().filter(|version| shown(version)).cloned().collect();
            assert!(set.insert_all(some).is_empty());
            set
        }

        /// Without one document.
        fn stripped(&self, of: &SignedDocument) -> DocumentSet {
            self.shown(|version| version.id() != of.id())
        }

        /// Without one version.
        fn without(&self, of: &SignedDocument) -> DocumentSet {
            self.shown(|version| version.digest() != of.digest())
        }
    }

    /// Attack 32: one of several administrators leaves a document out of a tenant's next version, and out of the file.
    /// Fails where the list of the version before is not compared, or what is kept is not said.
    #[test]
    fn attack_32_a_file_without_a_document_drops_nothing_unseen() {
        let mut world = World::new();
        let carol = world.principal("carol");

        // Newer than the tenant's version: nothing signed names it, and only a person can miss it.
        let dropping = world.change(world.next(Some(&carol)), &world.stripped(&carol));
        let summary = dropping.explain_offline().unwrap();
        let kept = |summary: &crate::ChangeSummary, kind| {
            let found = summary.keeps.iter().find(|kept| kept.kind == kind).unwrap();
            found.names.clone()
        };
        assert_eq!(kept(&summary, "principals"), ["founder"]);
        assert!(kept(&summary, "policies").is_empty(), "what there is none of is said");
        let honest = world.change(world.next(None), &world.set);
        assert_eq!(kept(&honest.explain_offline().unwrap(), "principals"), ["carol", "founder"]);

        // Kept by the version before: it cannot be dropped, shown or not.
        let second = world.next(None);
        world.set.insert(second.clone()).unwrap();
        world.tenant = second;
        world.principal("dave");
        for set in [world.stripped(&carol), world.set.clone()] {
            let mut dropping = world.change(world.next(Some(&carol)), &set);
            let error = dropping.explain_offline().unwrap_err();
            assert!(error.to_string().contains("would drop 1 of the documents"), "{error}");
            assert!(dropping.sign_offline(&world.admin).is_err());
        }

        // Nor taken back to what it was before.
        let mut body = quorate_documents::Principal::of(carol.body()).unwrap().clone();
        body.attributes = vec![("ward".to_owned(), "7".to_owned())];
        let authority = Some(world.tenant.digest());
        let draft =
            Draft::succeed(&[&carol], Body::Principal(body), authority, Vec::new(), now()).unwrap();
        let changed = draft.sign(&[world.admin.signing_key()]).unwrap();
        world.set.insert(changed.clone()).unwrap();
        let third = world.next(None);
        world.set.insert(third.clone()).unwrap();
        world.tenant = third;
        let mut frontier = world.set.frontier(&world.tenant.id());
        for entry in frontier.iter_mut().filter(|entry| entry.id == carol.id()) {
            *entry = carol.frontier_entry();
        }
        let body = Body::Tenant(Tenant::of(world.tenant.body()).unwrap().clone());
        let authority = Some(world.tenant.digest());
        let draft = Draft::succeed(&[&world.tenant], body, authority, frontier, now()).unwrap();
        let back = draft.sign(&[world.admin.signing_key()]).unwrap();
        let error = world.change(back, &world.without(&changed)).explain_offline().unwrap_err();
        assert!(error.to_string().contains("would drop 1 of the documents"), "{error}");
        let honest = world.change(world.next(None), &world.set).explain_offline().unwrap();
        assert_eq!(kept(&honest, "principals"), ["carol (version 2)", "dave", "founder"]);
    }
}
