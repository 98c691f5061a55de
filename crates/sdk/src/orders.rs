//! Orders beyond the first: who shall hold the shares of a key version from its next reshare on.
//!
//! The rules are in `spec/documents.md`, and what an order means in `spec/reshare.md`.

use std::collections::BTreeSet;

use quorate_documents::{
    Body, BodyOf, DocumentSet, Draft, FrontierEntry, Key as KeyBody, KeyOrder, Kind, Lookup, Order,
    Principal, Roster, SignedDocument,
};
use quorate_types::limits::{MAX_FRONTIER, MAX_ORDERS_PER_TENANT};
use quorate_types::{Action, Digest, DocumentId, KeyId, KeyVersion, NodeId, UnixSeconds};

use crate::admin::deliver;
use crate::changes::Change;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, KeyError, RequestError};
use crate::keys::Key;
use crate::profile::AdminKey;
use crate::rng::os_rng;

/// Heads of other documents that one order settles.
const SETTLED: usize = 16;

/// Orders that are signed and handed over at once.
const AT_ONCE: usize = 64;

/// What the next order of a key version is to say. What is to be as before is so by the order in force; where orders
/// contend, by the one by which the shares in use were dealt, but for T, which is the largest of them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderChange {
    /// The members, in the order of their indices; none for those of before.
    pub members: Vec<NodeId>,
    /// T; none for as many as before.
    pub threshold: Option<u16>,
    /// Members that lost their shares and come in again. New ones need not be named.
    pub entering: Vec<NodeId>,
    /// A plain refresh may be run once in so many seconds, 0 for never; none for as before.
    pub refresh_seconds: Option<u64>,
    /// Sign it also where the order in force says the same and is carried out: for a refresh that no standing order
    /// allows now.
    pub anew: bool,
    /// Sign it also where the order in force says the same and waits, since nodes take part in no more sessions under that
    /// (`attempts_exhausted`). It lets in whom that one does.
    pub used_up: bool,
}

/// An order that is in force now, or will be once more administrators have signed.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderReport {
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// The order's number.
    pub number: u32,
    /// The order's digest.
    pub order: Digest,
    /// Which nodes know of it; none where it was in force already.
    pub delivered: Option<Delivered>,
}

/// Which orders of many are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those that this client's principal signs alone.
    Own,
    /// All of them. So many changes may follow for other administrators to sign.
    All { later: usize },
    /// The same, where administrators sign all of them.
    Administrators { later: usize },
}

/// Who may sign so many new documents of orders of a tenant that has so many of them, and so many others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Whoever may change the keys.
    ForAll,
    /// Its administrators alone.
    ForAdministrators,
}

/// Refuses more new documents of orders than there is room for.
fn room(new: usize, orders: usize, others: usize) -> Result<Room, Error> {
    let most = usize::try_from(MAX_ORDERS_PER_TENANT).unwrap_or(usize::MAX);
    let after = new.saturating_add(orders);
    if after <= most {
        return Ok(Room::ForAll);
    }
    let most = most.max(MAX_FRONTIER.saturating_sub(others));
    if after <= most {
        return Ok(Room::ForAdministrators);
    }
    Err(invalid(format!(
        "{new} key versions have no order beyond their first, and each needs a document for it; the tenant has {orders} of \
         the {most} that it may have, so there is no room for all of them: nothing was signed"
    )))
}

/// An order that is to be signed.
pub(crate) struct Drafted {
    pub(crate) key: KeyId,
    pub(crate) version: KeyVersion,
    pub(crate) documents: Vec<SignedDocument>,
    pub(crate) report: OrderReport,
    by_administrators: bool,
}

fn invalid(why: impl Into<String>) -> Error {
    RequestError::Invalid(why.into()).into()
}

/// What signing takes.
pub(crate) struct Signing<'a> {
    pub(crate) at: UnixSeconds,
    /// The version of the keys' tenant that is in force.
    pub(crate) authority: Option<Digest>,
    pub(crate) critical: bool,
    /// This client's principal, where it is one of that tenant.
    pub(crate) own: Option<quorate_documents::Heads<Principal>>,
    /// One who may sign for that tenant.
    pub(crate) administrator: Option<&'a AdminKey>,
    /// Why there is none, where it is more than that the profile has no key of one.
    pub(crate) without: Option<Error>,
}

impl Client {
    /// Signs the next order of a key version, which follows all that there are and so settles them where they
    /// contend, and stores it at the nodes. Where the order in force says the same already, nothing is signed.
    /// The shares are where they were until [`Client::reshare_key`].
    ///
    /// Signed by this client's principal where it may `change` the key, and otherwise by the administrator: fewer
    /// members, a smaller T, fewer nodes that the key can do without, and what the tenant marks as critical, take
    /// administrators.
    ///
    /// # Errors
    /// [`RequestError`] where it takes an administrator and there is none, or no node would follow the order: with
    /// too few members, or members elsewhere than the key allows; [`Error::Unfinished`] where more administrators
    /// must sign; and [`crate::NotQuorate`].
    pub async fn new_order(
        &self,
        key: KeyId,
        version: KeyVersion,
        change: OrderChange,
        administrator: Option<&AdminKey>,
    ) -> Result<OrderReport, Error> {
        let key = self.fetch_key(key).await?;
        let mut reports = self.new_orders(&[(key, version, change)], administrator).await?;
        reports.pop().ok_or_else(|| invalid("no order was asked for"))
    }

    /// The same for many key versions. One document each; those of sixty-four are handed over together.
    ///
    /// # Errors
    /// As [`Self::new_order`], at the first; nothing is signed of keys of this client's tenant unless all can be. Where more
    /// administrators must sign, those that this client's principal signs alone are in force all the same. Of other tenants'
    /// keys [`ClusterError::NotAdministrator`] where this administrator alone may not sign.
    pub async fn new_orders(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
        administrator: Option<&AdminKey>,
    ) -> Result<Vec<OrderReport>, Error> {
        let (own, others) = self.own_and_others(wanted);
        let mut reports = match own.as_slice() {
            [] => Vec::new(),
            own => self.orders_of(own, administrator, Whose::All { later: 0 }).await?,
        };
        let signed = self.orders_of_others(&others, administrator).await?;
        if let Some(refused) = signed.refused.into_iter().next() {
            return Err(refused.error);
        }
        reports.extend(signed.in_force);
        Ok(reports)
    }

    /// Those of keys of this client's own tenant, and those of others.
    #[expect(clippy::type_complexity, reason = "two of what is given")]
    pub(crate) fn own_and_others(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
    ) -> (Vec<(Key, KeyVersion, OrderChange)>, Vec<(Key, KeyVersion, OrderChange)>) {
        wanted.iter().cloned().partition(|(key, ..)| key.tenant() == self.tenant())
    }

    /// The same, or those alone that take no administrator.
    pub(crate) async fn orders_of(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
        administrator: Option<&AdminKey>,
        whose: Whose,
    ) -> Result<Vec<OrderReport>, Error> {
        let at = self.document_time().await?;
        let tenant = self.tenant_heads().await?;
        let mut set = self.control_set().await?;
        let signing = Signing {
            at,
            authority: tenant.digests().first().copied(),
            critical: tenant.is_critical(Action::Change)
                || matches!(whose, Whose::Administrators { .. }),
            own: set.heads::<Principal>(&DocumentId::from(self.principal())),
            administrator,
            without: None,
        };
        let (mut reports, mut drafted) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (key, version, change) in wanted {
            let draft = self.draft(key, *version, change, &signing)?;
            reports.push(draft.report.clone());
            if !draft.documents.is_empty() {
                drafted.push(draft);
            }
        }
        // What a node lacks of the keys' documents and of the orders before is brought along.
        for some in drafted.chunks(AT_ONCE) {
            let mut ids: BTreeSet<DocumentId> = some.iter().map(|d| d.key.into()).collect();
            for document in some.iter().flat_map(|d| &d.documents) {
                ids.insert(document.id());
                let order = KeyOrder::of(document.body());
                ids.extend(order.into_iter().flat_map(|it| &it.settles).map(|entry| entry.id));
            }
            set.insert_all(self.documents(ids.into_iter().collect(), Vec::new()).await?);
        }
        let (by_administrators, own): (Vec<_>, Vec<_>) =
            drafted.into_iter().partition(|draft| draft.by_administrators);
        // What this principal may order waits for no administrator.
        self.hand_over(&set, own, &mut reports).await?;
        let (Whose::All { later } | Whose::Administrators { later }) = whose else {
            return Ok(reports);
        };
        if let (Some(administrator), false) = (administrator, by_administrators.is_empty()) {
            let documents: Vec<SignedDocument> =
                by_administrators.iter().flat_map(|d| d.documents.clone()).collect();
            let what = match by_administrators.as_slice() {
                [one] => format!("order version {} of {} anew", one.version, one.key),
                many => format!("order {} key versions anew", many.len()),
            };
            let more = match later {
                0 => String::new(),
                later => format!(
                    "; up to {later} such changes follow, each made when the one before was submitted"
                ),
            };
            // All of them are one change, for others to sign at once.
            let change = Change::new(self.cluster(), &format!("{what}{more}"), documents);
            if !change.complete(&set)? {
                return Err(Error::Unfinished(Box::new(change.on(&set))));
            }
            debug_assert!(administrator.public() != self.public_key(), "keys have one purpose");
        }
        self.hand_over(&set, by_administrators, &mut reports).await?;
        Ok(reports)
    }

    /// Hands orders to the nodes, and says in their reports who took them.
    async fn hand_over(
        &self,
        set: &DocumentSet,
        drafted: Vec<Drafted>,
        reports: &mut [OrderReport],
    ) -> Result<(), Error> {
        for some in drafted.chunks(AT_ONCE) {
            let documents: Vec<SignedDocument> =
                some.iter().flat_map(|d| d.documents.clone()).collect();
            let delivered = deliver(self, set, &documents).await?;
            for draft in some {
                self.forget_key(draft.key);
                let place = (draft.key, draft.version);
                let report = reports.iter_mut().find(|r| (r.key, r.version) == place);
                if let Some(report) = report {
                    report.delivered = Some(delivered.clone());
                }
            }
        }
        Ok(())
    }

    /// Refuses orders of which a node would take a part and not the rest: a document each for key versions that have
    /// none yet. Asks nobody for one alone, which a node takes or does not.
    pub(crate) async fn room_for_orders(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
    ) -> Result<Room, Error> {
        let new = wanted.iter().filter(|(key, version, _)| key.order_heads(*version).is_empty());
        let new = new.count();
        if new == 0 || wanted.len() < 2 {
            return Ok(Room::ForAll);
        }
        let own = Some(self.tenant());
        let documents = self.documents(Vec::new(), vec![Kind::KeyOrder]).await?;
        let of_own = |document: &&SignedDocument| document.body().tenant() == own;
        let mut ids: BTreeSet<DocumentId> =
            documents.iter().filter(of_own).map(|document| document.id()).collect();
        if let Ok(Room::ForAll) = room(new, ids.len(), 0) {
            return Ok(Room::ForAll);
        }
        // Only what counts takes a place; of the others, what is over is counted too: that takes none, and room is said to
        // be a little less than it is.
        let mut set = self.control_set().await?;
        let kinds = vec![Kind::Tenant, Kind::Principal, Kind::Key, Kind::Policy, Kind::Grant];
        let others = self.documents(Vec::new(), kinds).await?;
        let count: BTreeSet<DocumentId> =
            others.iter().filter(of_own).map(|document| document.id()).collect();
        set.insert_all(others);
        set.insert_all(documents);
        ids.retain(|id| set.heads::<KeyOrder>(id).is_some());
        room(new, ids.len(), count.len())
    }

    /// The order that is wanted, signed; without documents where the one in force says it already.
    pub(crate) fn draft(
        &self,
        key: &Key,
        version: KeyVersion,
        change: &OrderChange,
        signing: &Signing<'_>,
    ) -> Result<Drafted, Error> {
        let id = key.id();
        let unknown = KeyError::VersionUnknown { id, version };
        let verified = key.verified().version(version).ok_or(unknown)?;
        let certificate = verified.certificate.as_ref();
        let certificate = certificate.ok_or(KeyError::NotReady { id, version })?;
        let orders = &verified.orders;
        let heads = key.order_heads(version);
        if heads.len() != verified.followed_by_next().len() {
            return Err(KeyError::Invalid { id, why: "no node shows an order".to_owned() }.into());
        }
        // One that the tenant's documents do not keep is followed, and so adopted.
        let in_force = orders.newest().ok().filter(|_| verified.unadopted().is_none());
        // Of orders that contend none says what stays as before: the shares in use do. Of one that nobody believes nothing
        // does: what counts says it.
        let adopted = verified.adopted_next();
        let counts = || adopted.and_then(|_| orders.newest().ok());
        let before = in_force.or_else(counts).or_else(|| verified.in_use());
        let before = before.unwrap_or(&verified.order);
        // T is nobody's default that is smaller than what one of them asks for.
        let contends = |head: &&SignedDocument| {
            orders.newest().is_err() && orders.heads().contains(&head.digest())
        };
        let asked = heads.iter().filter(contends);
        let asked = asked.filter_map(|head| KeyOrder::of(head.body()));
        let asked = asked.filter(|order| !key.names_stranger(version, order));
        let asked = asked.map(|order| order.order.threshold().t());
        let threshold = asked.fold(before.threshold().t(), u16::max);
        let change =
            OrderChange { threshold: change.threshold.or(Some(threshold)), ..change.clone() };
        // Whether the next reshare would be a plain refresh, which takes a standing order or this one.
        let carried_out = in_force.is_some_and(|order| {
            let statement = certificate.statement();
            statement.order() == order.digest(id, version)
                && (statement.height() > 1 || order.entering().is_empty())
        });
        let mut change = change;
        if let Some(waits) = in_force.filter(|_| change.used_up && !carried_out) {
            let members = waits.members().iter().map(|member| member.node);
            change.entering.extend(members.filter(|node| waits.enters(node)));
        }
        let change = &change;
        let wanted = self.wanted(key, version, change, before)?;
        let fulfilled = in_force.is_some_and(|order| {
            let statement = certificate.statement();
            statement.order() == order.digest(id, version)
                && (order.number() > 1 || statement.height() > 1)
        });
        if let Some(order) = in_force.filter(|_| !(change.anew && carried_out || change.used_up))
            && says(order, &wanted)
            && wanted.members().iter().all(|member| {
                !wanted.enters(&member.node) || (order.enters(&member.node) && !fulfilled)
            })
        {
            let (number, order) = (order.number(), order.digest(id, version));
            let report = OrderReport { key: id, version, number, order, delivered: None };
            let documents = Vec::new();
            return Ok(Drafted { key: id, version, documents, report, by_administrators: false });
        }
        let followed: Vec<&Order> = if heads.is_empty() {
            vec![&verified.order]
        } else {
            heads.iter().filter_map(|head| Some(&KeyOrder::of(head.body())?.order)).collect()
        };
        let weakens = followed.iter().any(|before| {
            let (old, new) = (before.threshold(), wanted.threshold());
            let spares_fewer = new.spare() < old.spare() && !key.allows_fragile();
            new.t() < old.t() || new.n() < old.n() || spares_fewer
        });
        let may = signing.own.as_ref().is_some_and(|own| own.permits(Action::Change, Some(&id)));
        // What stands in several documents is settled, and a principal may not say what counts.
        let settles = heads.first().is_some_and(|one| heads.iter().any(|it| it.id() != one.id()));
        let by_administrators =
            weakens || settles || signing.critical || !may || verified.unadopted().is_some();
        let signer = match (by_administrators, signing.administrator) {
            (false, _) => &self.inner.key,
            (true, Some(administrator)) => administrator.signing_key(),
            (true, None) => {
                return Err(signing.without.clone().unwrap_or_else(|| {
                    invalid(format!(
                        "to order the shares of {} anew takes the tenant's administrators, and this profile has no administrator's key",
                        key.alias()
                    ))
                }));
            }
        };
        let document = |draft: Result<Draft, quorate_documents::DocumentError>| {
            draft.and_then(|draft| draft.sign(&[signer])).map_err(|e| invalid(e.to_string()))
        };
        let first = verified.orders.first_digest();
        let body = |order: Order, base: Option<Digest>, settles: Vec<FrontierEntry>| {
            let tenant = key.tenant();
            Body::KeyOrder(KeyOrder { tenant, key: id, version, first, base, settles, order })
        };
        let numbered =
            |number: u32| renumbered(&wanted, number).map_err(|e| invalid(e.to_string()));
        let mut documents: Vec<SignedDocument> = Vec::new();
        let highest =
            heads.iter().filter_map(|head| Some(KeyOrder::of(head.body())?.order.number()));
        let mut number = highest.max().unwrap_or(1).saturating_add(1);
        // What does not count is stored everywhere with a version of its own document that does.
        let counts = |head: &&SignedDocument| orders.heads().contains(&head.digest());
        match heads.iter().find(|head| !counts(head)).or(heads.first()) {
            None => {
                let base = key.heads().first().map(|head| head.digest());
                let draft = Draft::first(
                    body(numbered(number)?, base, Vec::new()),
                    signing.authority,
                    signing.at,
                    &mut os_rng(),
                );
                documents.push(document(draft)?);
            }
            Some(continued) => {
                let (mut before, others): (Vec<SignedDocument>, Vec<SignedDocument>) =
                    heads.iter().cloned().partition(|head| head.id() == continued.id());
                let mut others: Vec<FrontierEntry> =
                    others.iter().map(|head| head.frontier_entry()).collect();
                others.sort_unstable_by_key(|entry| (entry.id, entry.digest));
                // More than one order settles are settled by several.
                let mut rest = others.as_slice();
                loop {
                    let (now, later) = rest.split_at(rest.len().min(SETTLED));
                    rest = later;
                    let follow: Vec<&SignedDocument> = before.iter().collect();
                    let draft = Draft::succeed(
                        &follow,
                        body(numbered(number)?, None, now.to_vec()),
                        signing.authority,
                        Vec::new(),
                        signing.at,
                    );
                    let next = document(draft)?;
                    documents.push(next.clone());
                    if rest.is_empty() {
                        break;
                    }
                    before = vec![next];
                    number = number.saturating_add(1);
                }
            }
        }
        let order = numbered(number)?.digest(id, version);
        let report = OrderReport { key: id, version, number, order, delivered: None };
        Ok(Drafted { key: id, version, documents, report, by_administrators })
    }

    /// The order that is asked for, with the number 2: refused where no node would follow it.
    fn wanted(
        &self,
        key: &Key,
        version: KeyVersion,
        change: &OrderChange,
        before: &Order,
    ) -> Result<Order, Error> {
        let heads = key.verified().heads();
        let alias = key.alias();
        if heads.to_be_destroyed() {
            return Err(invalid(format!(
                "{alias} is to be destroyed, and its shares stay where they are"
            )));
        }
        let threshold = change.threshold.unwrap_or(before.threshold().t());
        let minimum = usize::try_from(heads.minimum_committee()).unwrap_or(usize::MAX);
        let as_before = || before.members().iter().map(|member| member.node).collect();
        let members: Vec<NodeId> =
            if change.members.is_empty() { as_before() } else { change.members.clone() };
        if members.len() < minimum {
            return Err(invalid(format!(
                "{alias} has at least {minimum} nodes, and this would leave it {}",
                members.len()
            )));
        }
        let mut nodes = Vec::with_capacity(members.len());
        for node in &members {
            let entry = self.roster().node(node);
            let entry = entry.ok_or_else(|| RequestError::NodeUnknown(node.to_string()))?;
            if !heads.allows_jurisdiction(entry.jurisdiction) {
                return Err(invalid(format!(
                    "{} is in {}, where the shares of {alias} may not be",
                    entry.name, entry.jurisdiction
                )));
            }
            nodes.push((entry.id, entry.identity_key));
        }
        let adopted = key.verified_version(version).ok().and_then(|known| known.adopted_next());
        let holders = match adopted {
            Some(adopted) => adopted.members().iter().map(|member| member.node).collect(),
            None => key.committee_of(version).unwrap_or_default(),
        };
        let new = |node: &&NodeId| !holders.contains(node) || change.entering.contains(node);
        let entering: Vec<NodeId> = members.iter().filter(new).copied().collect();
        let refresh = change.refresh_seconds.unwrap_or(before.refresh_seconds());
        let order = Order::numbered(2, threshold, nodes, &entering)
            .map_err(|e| invalid(format!("{alias}: {e}")))?
            .with_refresh_seconds(refresh);
        if order.fragile() && !heads.allow_fragile() {
            return Err(invalid(format!(
                "{alias} would need every one of its {} nodes, and does not allow that",
                order.threshold().n()
            )));
        }
        Ok(order)
    }
}

/// Whether an order says what is wanted, but for its number and whom it lets in.
fn says(order: &Order, wanted: &Order) -> bool {
    order.threshold() == wanted.threshold()
        && order.members() == wanted.members()
        && order.refresh_seconds() == wanted.refresh_seconds()
}

fn renumbered(order: &Order, number: u32) -> Result<Order, quorate_documents::BodyError> {
    let nodes = order.members().iter().map(|m| (m.node, m.identity_key));
    let entering: Vec<NodeId> =
        order.members().iter().map(|m| m.node).filter(|node| order.enters(node)).collect();
    Ok(Order::numbered(number, order.threshold().t(), nodes, &entering)?
        .with_refresh_seconds(order.refresh_seconds()))
}

/// Refuses an order of a change that nobody can explain, or that does not follow all orders that there are: it
/// would contend with them, and no shares could be dealt.
pub(crate) fn fits(
    set: &DocumentSet,
    change: &Change,
    document: &SignedDocument,
) -> Result<(), Error> {
    let Some(order) = KeyOrder::of(document.body()) else { return Ok(()) };
    let stale = |why: String| Error::from(ClusterError::ChangeStale(why));
    let of = format!("the order of version {} of {}", order.version, order.key);
    let own = |digest: &Digest| change.documents().iter().find(|d| d.digest() == *digest);
    for digest in order.settles.iter().map(|entry| entry.digest).chain(order.base) {
        if set.version(&digest).is_none() && own(&digest).is_none() {
            return Err(stale(format!("{of} stands on a version that no node shows: {digest}")));
        }
    }
    if set.version(&document.digest()).is_some() {
        return Ok(());
    }
    let key = set.heads::<KeyBody>(&order.key.into());
    let key = key.ok_or_else(|| stale(format!("{of} is for a key that no node shows")))?;
    let orders = set.orders(&key, order.version);
    let orders =
        orders.ok_or_else(|| stale(format!("{of} is for a version that the key has not")))?;
    if orders.first_digest() != order.first {
        return Err(Error::from(ClusterError::ChangeInvalid(format!(
            "{of} names another first order than the key has"
        ))));
    }
    // What it follows, through others of the same change.
    let (mut followed, mut next) = (BTreeSet::new(), vec![document]);
    while let Some(version) = next.pop() {
        let settled = KeyOrder::of(version.body()).map(|order| order.settles.as_slice());
        let settled = settled.unwrap_or_default().iter().map(|entry| entry.digest);
        for digest in version.predecessors().iter().copied().chain(settled) {
            if followed.insert(digest) {
                next.extend(own(&digest));
            }
        }
    }
    // A later version in the change may follow what this one does not.
    let later = change.documents().iter().any(|d| d.predecessors().contains(&document.digest()));
    if !later && orders.heads().iter().any(|head| !followed.contains(head)) {
        return Err(stale(format!("{of} does not follow an order that was signed since")));
    }
    Ok(())
}

/// What an order changes, in words.
pub(crate) fn effects(
    set: &DocumentSet,
    document: &SignedDocument,
    after: &KeyOrder,
) -> Vec<String> {
    let roster = set.roster().versions().first().and_then(|v| Roster::of(v.body())).cloned();
    let name = |node: &NodeId| {
        let entry = roster.as_ref().and_then(|roster| roster.node(node));
        entry.map_or_else(
            || format!("{node}, which no roster names,"),
            |entry| format!("{} of {} in {}", entry.name, entry.provider, entry.jurisdiction),
        )
    };
    let key = set.heads::<KeyBody>(&after.key.into());
    let alias = key.as_ref().map_or_else(|| after.key.to_string(), |key| key.alias().to_owned());
    let of = format!("version {} of the key {alias}", after.version);
    let order = &after.order;
    let mut said = vec![format!(
        "orders the shares of {of} dealt anew: {} by order {}",
        order.threshold(),
        order.number()
    )];
    // What is in force now, or else what it follows.
    let newest =
        key.as_ref().and_then(|key| set.orders(key, after.version)?.newest().ok().cloned());
    let digests =
        document.predecessors().iter().copied().chain(after.settles.iter().map(|e| e.digest));
    let followed: Vec<Order> = digests
        .filter_map(|digest| Some(KeyOrder::of(set.version(&digest)?.body())?.order.clone()))
        .collect();
    let first = key.as_ref().and_then(|key| Some(key.version(after.version)?.order.clone()));
    let before = followed.last().cloned().or(newest).or(first);
    if let Some(before) = &before {
        for member in order.members().iter().filter(|m| before.member(&m.node).is_none()) {
            said.push(format!("gives {} a share of {of}", name(&member.node)));
        }
        for member in before.members().iter().filter(|m| order.member(&m.node).is_none()) {
            said.push(format!("leaves {} without a share of {of}", name(&member.node)));
        }
        let (old, new) = (before.threshold(), order.threshold());
        if old.t() != new.t() {
            let word = if new.t() < old.t() { "ONLY " } else { "" };
            said.push(format!(
                "lets {word}{} nodes together use {of}, in place of {}",
                new.t(),
                old.t()
            ));
        }
        if before.refresh_seconds() != order.refresh_seconds() {
            said.push(match order.refresh_seconds() {
                0 => format!("lets nobody refresh {of} without a new order"),
                seconds => format!("lets {of} be refreshed once in {seconds} seconds"),
            });
        }
    }
    for member in order.members().iter().filter(|m| order.enters(&m.node)) {
        let had = before.as_ref().is_some_and(|before| before.member(&member.node).is_some());
        if had {
            said.push(format!(
                "lets {} in again without showing the share of {of} that it had",
                name(&member.node)
            ));
        }
    }
    let orders = key.as_ref().and_then(|key| set.orders(key, after.version));
    for before in &followed {
        let digest = before.digest(after.key, after.version);
        if orders.as_ref().is_some_and(|orders| orders.counts_no_more(&digest)) {
            let members: Vec<String> =
                before.members().iter().map(|member| name(&member.node)).collect();
            said.push(format!(
                "adopts order {} of {of}, which does not count: {} by {}; nodes that have another generation erase it where \
                 these show one by that order",
                before.number(),
                before.threshold(),
                members.join(", ")
            ));
        }
    }
    if let Some(key) = &key {
        let few = usize::try_from(key.minimum_committee()).unwrap_or(usize::MAX);
        if order.members().len() < few {
            said.push(format!("no node follows it: the key {alias} has at least {few} nodes"));
        }
    }
    if !after.settles.is_empty() {
        let others = after.settles.len();
        said.push(format!("settles {others} other orders of {of} that contend with it"));
    }
    said
}

/// The order documents of a key, of those that nodes show.
pub(crate) fn shown<'a>(
    documents: impl Iterator<Item = &'a quorate_wire::proto::v1::Envelope>,
    heads: &BTreeSet<Digest>,
) -> Result<Vec<SignedDocument>, quorate_documents::DocumentError> {
    let mut found: Vec<SignedDocument> = Vec::new();
    for envelope in documents {
        let digest = quorate_wire::digests::document_digest(&envelope.payload);
        if heads.contains(&digest) && !found.iter().any(|known| known.digest() == digest) {
            found.push(SignedDocument::parse(envelope.clone())?);
        }
    }
    debug_assert!(
        found.iter().all(|document| document.kind() == Kind::KeyOrder),
        "heads of orders"
    );
    Ok(found)
}

/// The next order of a key version as it is, signed by some administrator.
#[cfg(test)]
pub(crate) fn next_order_for_tests(
    client: &Client,
    key: &Key,
    version: KeyVersion,
) -> Result<Vec<SignedDocument>, Error> {
    let administrator = AdminKey::generate();
    let signing = Signing {
        at: crate::rng::now(),
        authority: Some(Digest::from_bytes(*client.tenant().as_bytes())),
        critical: false,
        own: None,
        administrator: Some(&administrator),
        without: None,
    };
    Ok(client.draft(key, version, &OrderChange::default(), &signing)?.documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of them or none: a tenant half of whose keys moved could move neither the others nor those back. Three hundred
    /// keys of monthly versions for three years have room, where administrators sign.
    #[test]
    fn orders_without_room_are_refused_before_any_is_signed() {
        let most = usize::try_from(MAX_ORDERS_PER_TENANT).unwrap();
        assert_eq!(room(800, most - 800, 10_000).unwrap(), Room::ForAll);
        assert_eq!(room(300 * 36, 0, 400).unwrap(), Room::ForAdministrators);
        assert_eq!(room(1, MAX_FRONTIER - 401, 400).unwrap(), Room::ForAdministrators);
        let refused = room(801, most - 800, 10_000).unwrap_err().to_string();
        for what in ["801 key versions", "9200 of the 10000", "nothing was signed"] {
            assert!(refused.contains(what), "{what}: {refused}");
        }
        assert!(room(2, MAX_FRONTIER - 401, 400).is_err());
    }
}
