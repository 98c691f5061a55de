//! Deciding: one item, or a batch of which most items cannot be told apart.

use core::net::IpAddr;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Effect as CedarEffect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Request, RestrictedExpression,
};
use quorate_types::{KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;

use super::inputs::{Inputs, Tags};
use super::set::{CompiledPolicy, PolicySet};

/// Work that policies may be for one request, in the steps of a policy's cost: bounds a batch of which
/// every item must be decided by itself, to about the time that its evaluation takes anyway.
pub const MAX_REQUEST_COST: u64 = 2 * 1024 * 1024;

/// Steps to make one question ready for Cedar.
const QUESTION_COST: u64 = 64;

/// What may be asked of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyAction {
    /// Deriving keys for own new objects.
    Encrypt,
    /// Deriving the key of any object.
    Decrypt,
    /// Evaluating an old label under a newer version.
    Rewrap,
    /// Driving ceremonies.
    Coordinate,
}

impl PolicyAction {
    /// Every action of the schema.
    pub const ALL: [Self; 4] = [Self::Encrypt, Self::Decrypt, Self::Rewrap, Self::Coordinate];

    /// Its name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Rewrap => "rewrap",
            Self::Coordinate => "coordinate",
        }
    }

    /// The action of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Whether requests of this action have items.
    #[must_use]
    pub const fn has_items(self) -> bool {
        matches!(self, Self::Encrypt | Self::Decrypt | Self::Rewrap)
    }
}

/// The caller, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct PolicyPrincipal<'a> {
    /// Its id.
    pub id: PrincipalId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: &'a str,
    /// Its attributes.
    pub attributes: &'a [(String, String)],
}

/// The key, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct PolicyKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// Its tenant, whose policies are asked.
    pub tenant: TenantId,
    /// Its alias.
    pub alias: &'a str,
    /// The name of its spec.
    pub spec: &'a str,
    /// The name of its state.
    pub state: &'a str,
    /// The jurisdictions that it allows; none for all.
    pub jurisdictions: &'a [String],
    /// Its tags.
    pub tags: &'a [(String, String)],
}

/// What is asked, as far as it is the same for every item of a request.
#[derive(Debug, Clone, Copy)]
pub struct PolicyRequest<'a> {
    /// The caller.
    pub principal: PolicyPrincipal<'a>,
    /// What it wants to do.
    pub action: PolicyAction,
    /// With which key.
    pub key: PolicyKey<'a>,
    /// The node's time.
    pub time: UnixSeconds,
    /// From where the node sees the request come.
    pub source: IpAddr,
}

/// One item of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyItem {
    /// Which of the contexts that the [`Decider`] was given.
    pub context: usize,
    /// Who made the object.
    pub creator: PrincipalId,
    /// When.
    pub created_at: UnixSeconds,
}

/// What the policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At least one permits, none forbids.
    Permit,
    /// At least one forbids.
    Forbid,
    /// None applies.
    Silent,
    /// One could not be evaluated, or the set cannot be used: denied.
    Error,
}

impl Effect {
    /// The word in test cases and explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
            Self::Silent => "silent",
            Self::Error => "error",
        }
    }
}

/// A decision, and which policies made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// What they say.
    pub effect: Effect,
    /// Those that forbid, or permit, or failed: `DOCUMENT/NUMBER`, and the policy's `@id` if it has one.
    pub determining: Vec<String>,
    /// What failed, where something did.
    pub errors: Vec<String>,
}

impl PolicyDecision {
    fn silent() -> Self {
        Self { effect: Effect::Silent, determining: Vec::new(), errors: Vec::new() }
    }

    fn error(error: &dyn core::fmt::Display) -> Self {
        let errors = vec![error.to_string()];
        Self { effect: Effect::Error, determining: Vec::new(), errors }
    }
}

/// What one policy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// It is for another principal, action or key.
    NotConcerned,
    /// Its conditions do not hold.
    NotSatisfied,
    /// It applies.
    Satisfied,
    /// It could not be evaluated.
    Failed(String),
}

/// Why a batch was not decided to the end: its items differ too much for so many policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many different items for one request under this tenant's policies")]
pub struct TooCostly;

/// Decides one item, or a request without items.
///
/// # Security
/// Cedar skips a policy that fails to evaluate; here any failure is [`Effect::Error`], which denies.
#[must_use]
pub fn decide(
    set: &PolicySet,
    request: &PolicyRequest<'_>,
    item: Option<(&EncryptionContext, PrincipalId, UnixSeconds)>,
) -> PolicyDecision {
    let contexts: Vec<EncryptionContext> =
        item.iter().map(|(context, ..)| (*context).clone()).collect();
    let mut decider = Decider::new(set, request, &contexts);
    let item = item.map(|(_, creator, created_at)| PolicyItem { context: 0, creator, created_at });
    match decider.decide(item) {
        Ok(decision) => decision.clone(),
        Err(error) => PolicyDecision::error(&error),
    }
}

/// What an item comes to, as far as some policies can look at it: two items with the same projection
/// are decided alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Projection {
    /// Contexts that the policies cannot tell apart have one class.
    class: usize,
    creator: Option<PrincipalId>,
    created_at: Option<u64>,
}

/// Which contexts can be told apart by which inputs.
struct Classes {
    /// For each context its class: the number of the first context of that class.
    of: Vec<usize>,
}

impl Classes {
    fn new(tags: &Tags, contexts: &[EncryptionContext]) -> Self {
        let of = match tags {
            Tags::Named(names) if names.is_empty() => vec![0; contexts.len().max(1)],
            Tags::Named(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                first_of(contexts.iter().map(|context| {
                    names.iter().map(|name| value(context, name)).collect::<Vec<_>>()
                }))
            }
            Tags::All => first_of(contexts.iter().map(EncryptionContext::pairs)),
        };
        Self { of }
    }
}

fn value<'c>(context: &'c EncryptionContext, name: &str) -> Option<&'c str> {
    let pairs = context.pairs();
    let at = pairs.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
    pairs.get(at).map(|(_, value)| value.as_str())
}

fn first_of<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut seen = HashMap::new();
    keys.enumerate().map(|(number, key)| *seen.entry(key).or_insert(number)).collect()
}

/// A policy that the request concerns, and what it came to for each projection on its own inputs.
struct Asked<'s> {
    policy: &'s CompiledPolicy,
    document: usize,
    head: usize,
    classes: usize,
    known: HashMap<Projection, PolicyOutcome>,
}

/// Decides the items of one request, each projection once.
#[derive(Debug)]
pub struct Decider<'s>(State<'s>);

#[derive(Debug)]
enum State<'s> {
    /// Nothing depends on the items.
    Fixed(PolicyDecision),
    Open(Box<Open<'s>>),
}

struct Open<'s> {
    set: &'s PolicySet,
    has_items: bool,
    asked: Vec<Asked<'s>>,
    /// By distinct inputs; the first are those of all policies together.
    classes: Vec<(Inputs, Classes)>,
    frame: Frame,
    known: HashMap<Projection, PolicyDecision>,
    budget: u64,
    evaluated: u64,
}

impl core::fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Open").field("asked", &self.asked.len()).finish_non_exhaustive()
    }
}

/// What every question of a request has in common.
struct Frame {
    types: &'static Types,
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    time: i64,
    source: String,
    own_tenant: bool,
    entities: Entities,
}

struct Types {
    tenant: EntityTypeName,
    principal: EntityTypeName,
    key: EntityTypeName,
    context: EntityTypeName,
    action: EntityTypeName,
}

static TYPES: LazyLock<Option<Types>> = LazyLock::new(|| {
    let named = |name: &str| EntityTypeName::from_str(&format!("Quorate::{name}")).ok();
    Some(Types {
        tenant: named("Tenant")?,
        principal: named("Principal")?,
        key: named("Key")?,
        context: named("Context")?,
        action: named("Action")?,
    })
});

fn uid(of: &EntityTypeName, id: impl core::fmt::Display) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id.to_string()))
}

/// Seconds as Cedar counts them. Times past the year 292 billion are all the last one.
fn long(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn tags(pairs: &[(String, String)]) -> Vec<(String, RestrictedExpression)> {
    pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

impl<'s> Decider<'s> {
    /// Makes ready to decide a request's items, whose encryption contexts are `contexts`.
    #[must_use]
    pub fn new(
        set: &'s PolicySet,
        request: &PolicyRequest<'_>,
        contexts: &[EncryptionContext],
    ) -> Self {
        if let Some(error) = &set.unusable {
            return Self(State::Fixed(PolicyDecision::error(error)));
        }
        if set.is_empty() {
            return Self(State::Fixed(PolicyDecision::silent()));
        }
        Self(match Open::new(set, request, contexts) {
            Ok(open) if open.asked.is_empty() => State::Fixed(PolicyDecision::silent()),
            Ok(open) => State::Open(Box::new(open)),
            Err(error) => State::Fixed(PolicyDecision::error(&error)),
        })
    }

    /// Decides one item, or the whole request where its action has none.
    ///
    /// # Errors
    /// [`TooCostly`] once the request has used up what policies may cost it.
    pub fn decide(&mut self, item: Option<PolicyItem>) -> Result<&PolicyDecision, TooCostly> {
        match &mut self.0 {
            State::Fixed(decision) => Ok(decision),
            State::Open(open) => open.decide(item),
        }
    }

    /// How many decisions were made; the rest were known.
    #[must_use]
    pub fn decisions(&self) -> usize {
        match &self.0 {
            State::Fixed(_) => 0,
            State::Open(open) => open.known.len(),
        }
    }

    /// How often a policy was evaluated.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        match &self.0 {
            State::Fixed(_) => 0,
            State::Open(open) => open.evaluated,
        }
    }

    /// What each policy of the set comes to for one item, for explanations.
    ///
    /// # Errors
    /// [`TooCostly`].
    pub fn outcomes(
        &mut self,
        item: Option<PolicyItem>,
    ) -> Result<Vec<(String, PolicyOutcome)>, TooCostly> {
        let State::Open(open) = &mut self.0 else { return Ok(Vec::new()) };
        open.outcomes(item)
    }
}

impl<'s> Open<'s> {
    fn new(
        set: &'s PolicySet,
        request: &PolicyRequest<'_>,
        contexts: &[EncryptionContext],
    ) -> Result<Self, &'static str> {
        const BROKEN: &str = "the policy schema of this build does not load";
        let types = TYPES.as_ref().ok_or(BROKEN)?;
        let tenant = uid(&types.tenant, request.principal.tenant);
        let owner = uid(&types.tenant, request.key.tenant);
        let principal = uid(&types.principal, request.principal.id);
        let resource = uid(&types.key, request.key.id);
        let action = uid(&types.action, request.action.name());
        let principals = [principal.clone(), tenant.clone()];
        let resources = [resource.clone(), owner.clone()];
        let mut all = Inputs::default();
        let mut asked = Vec::new();
        for (document, compiled) in set.documents.iter().enumerate() {
            for (head, policies) in compiled.heads.iter().enumerate() {
                for policy in policies {
                    if policy.concerns(&principals, &action, &resources) {
                        all.add(&policy.inputs);
                        let known = HashMap::new();
                        asked.push(Asked { policy, document, head, classes: 0, known });
                    }
                }
            }
        }
        let mut classes = vec![(all.clone(), Classes::new(&all.tags, contexts))];
        for asked in &mut asked {
            let inputs = &asked.policy.inputs;
            let known = classes.iter().position(|(known, _)| known == inputs);
            asked.classes = known.unwrap_or_else(|| {
                classes.push((inputs.clone(), Classes::new(&inputs.tags, contexts)));
                classes.len() - 1
            });
        }
        let mut budget = MAX_REQUEST_COST;
        let mut entities = vec![principal_entity(request, &principal, &tenant)?];
        entities.push(key_entity(request, &resource, &owner)?);
        if !all.tags_are_none() {
            let of = classes.first().map(|(_, classes)| classes.of.as_slice()).unwrap_or_default();
            for (number, context) in contexts.iter().enumerate() {
                if of.get(number) == Some(&number) {
                    budget = budget.saturating_sub(8 * context.pairs().len() as u64 + 8);
                    let tags = tags(context.pairs());
                    entities.push(entity(&uid(&types.context, number), vec![], None, tags)?);
                }
            }
        }
        let entities = Entities::from_entities(entities, None)
            .map_err(|_| "the request's entities do not fit together")?;
        let frame = Frame {
            types,
            principal,
            action,
            resource,
            time: long(request.time),
            // An IPv4 address written as an IPv6 one is still the address that a policy names.
            source: request.source.to_canonical().to_string(),
            own_tenant: request.principal.tenant == request.key.tenant,
            entities,
        };
        let known = HashMap::new();
        let has_items = request.action.has_items();
        Ok(Self { set, has_items, asked, classes, frame, known, budget, evaluated: 0 })
    }

    fn projection(&self, classes: usize, item: Option<PolicyItem>) -> Projection {
        let (Some(item), Some((inputs, classes))) = (item, self.classes.get(classes)) else {
            return Projection { class: 0, creator: None, created_at: None };
        };
        Projection {
            class: classes.of.get(item.context).copied().unwrap_or(item.context),
            creator: inputs.creator.then_some(item.creator),
            created_at: inputs.created_at.then_some(item.created_at.0),
        }
    }

    fn decide(&mut self, item: Option<PolicyItem>) -> Result<&PolicyDecision, TooCostly> {
        let item = item.filter(|_| self.has_items);
        let projection = self.projection(0, item);
        if !self.known.contains_key(&projection) {
            self.evaluate(item, projection)?;
            let decision = self.combine(item);
            self.known.insert(projection, decision);
        }
        self.known.get(&projection).ok_or(TooCostly)
    }

    /// Evaluates what is not known yet of this projection.
    fn evaluate(
        &mut self,
        item: Option<PolicyItem>,
        projection: Projection,
    ) -> Result<(), TooCostly> {
        self.charge(QUESTION_COST)?;
        let question = self.frame.question(item, projection.class);
        for position in 0..self.asked.len() {
            let Some(asked) = self.asked.get(position) else { continue };
            let own = self.projection(asked.classes, item);
            if asked.known.contains_key(&own) {
                continue;
            }
            let policy = asked.policy;
            self.charge(policy.cost)?;
            self.evaluated += 1;
            let outcome = match &question {
                Ok(question) => ask(policy, question, &self.frame.entities),
                Err(error) => PolicyOutcome::Failed(error.clone()),
            };
            if let Some(asked) = self.asked.get_mut(position) {
                asked.known.insert(own, outcome);
            }
        }
        Ok(())
    }

    const fn charge(&mut self, cost: u64) -> Result<(), TooCostly> {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(TooCostly),
        }
    }

    fn known(&self, asked: &Asked<'s>, item: Option<PolicyItem>) -> PolicyOutcome {
        let own = self.projection(asked.classes, item);
        // Everything that is asked was evaluated before; what was not would be denied.
        asked.known.get(&own).cloned().unwrap_or_else(|| PolicyOutcome::Failed(String::new()))
    }

    /// A failure denies; then what any head forbids is forbidden; then a document permits where every
    /// one of its heads does.
    fn combine(&self, item: Option<PolicyItem>) -> PolicyDecision {
        let (mut failed, mut forbids, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut permits: Vec<(usize, usize, &str)> = Vec::new();
        for asked in &self.asked {
            let name = &asked.policy.name;
            match self.known(asked, item) {
                PolicyOutcome::Failed(error) => {
                    failed.push(name.clone());
                    errors.push(format!("{name}: {error}"));
                }
                PolicyOutcome::Satisfied if asked.policy.effect == CedarEffect::Forbid => {
                    forbids.push(name.clone());
                }
                PolicyOutcome::Satisfied => permits.push((asked.document, asked.head, name)),
                PolicyOutcome::NotSatisfied | PolicyOutcome::NotConcerned => {}
            }
        }
        if !failed.is_empty() {
            return PolicyDecision { effect: Effect::Error, determining: failed, errors };
        }
        if !forbids.is_empty() {
            return PolicyDecision { effect: Effect::Forbid, determining: forbids, errors };
        }
        let mut determining = Vec::new();
        for (number, document) in self.set.documents.iter().enumerate() {
            let heads = 0..document.heads.len();
            let by = |head: usize| permits.iter().any(|(d, h, _)| (*d, *h) == (number, head));
            if !document.heads.is_empty() && heads.into_iter().all(by) {
                let names = permits.iter().filter(|(d, ..)| *d == number);
                determining.extend(names.map(|(.., name)| (*name).to_owned()));
            }
        }
        determining.sort();
        determining.dedup();
        let effect = if determining.is_empty() { Effect::Silent } else { Effect::Permit };
        PolicyDecision { effect, determining, errors }
    }

    fn outcomes(
        &mut self,
        item: Option<PolicyItem>,
    ) -> Result<Vec<(String, PolicyOutcome)>, TooCostly> {
        self.decide(item)?;
        let item = item.filter(|_| self.has_items);
        let mut outcomes = Vec::new();
        for (number, document) in self.set.documents.iter().enumerate() {
            for (head, policies) in document.heads.iter().enumerate() {
                for policy in policies {
                    let asked = self.asked.iter().find(|asked| {
                        (asked.document, asked.head) == (number, head)
                            && core::ptr::eq(asked.policy, policy)
                    });
                    let outcome =
                        asked.map_or(PolicyOutcome::NotConcerned, |asked| self.known(asked, item));
                    outcomes.push((policy.name.clone(), outcome));
                }
            }
        }
        Ok(outcomes)
    }
}

impl Frame {
    fn question(&self, item: Option<PolicyItem>, class: usize) -> Result<Request, String> {
        let mut pairs = vec![
            ("time".to_owned(), RestrictedExpression::new_long(self.time)),
            ("source".to_owned(), RestrictedExpression::new_ip(&self.source)),
            ("own_tenant".to_owned(), RestrictedExpression::new_bool(self.own_tenant)),
        ];
        if let Some(item) = item {
            let entity =
                |of, id: &dyn core::fmt::Display| RestrictedExpression::new_entity_uid(uid(of, id));
            pairs.push(("encryption".to_owned(), entity(&self.types.context, &class)));
            pairs.push(("creator".to_owned(), entity(&self.types.principal, &item.creator)));
            let created_at = RestrictedExpression::new_long(long(item.created_at));
            pairs.push(("created_at".to_owned(), created_at));
        }
        let context = Context::from_pairs(pairs).map_err(|error| error.to_string())?;
        Request::new(
            self.principal.clone(),
            self.action.clone(),
            self.resource.clone(),
            context,
            None,
        )
        .map_err(|error| error.to_string())
    }
}

fn ask(policy: &CompiledPolicy, question: &Request, entities: &Entities) -> PolicyOutcome {
    let response = Authorizer::new().is_authorized(question, &policy.alone, entities);
    if let Some(error) = response.diagnostics().errors().next() {
        return PolicyOutcome::Failed(error.to_string().chars().take(200).collect());
    }
    if response.diagnostics().reason().next().is_some() {
        PolicyOutcome::Satisfied
    } else {
        PolicyOutcome::NotSatisfied
    }
}

fn principal_entity(
    request: &PolicyRequest<'_>,
    principal: &EntityUid,
    tenant: &EntityUid,
) -> Result<Entity, &'static str> {
    let attributes = vec![
        ("name", text(request.principal.name)),
        ("tenant", RestrictedExpression::new_entity_uid(tenant.clone())),
    ];
    entity(principal, attributes, Some(tenant), tags(request.principal.attributes))
}

fn key_entity(
    request: &PolicyRequest<'_>,
    key: &EntityUid,
    owner: &EntityUid,
) -> Result<Entity, &'static str> {
    let jurisdictions = request.key.jurisdictions.iter().map(|j| text(j));
    let attributes = vec![
        ("alias", text(request.key.alias)),
        ("tenant", RestrictedExpression::new_entity_uid(owner.clone())),
        ("spec", text(request.key.spec)),
        ("state", text(request.key.state)),
        ("jurisdictions", RestrictedExpression::new_set(jurisdictions)),
    ];
    entity(key, attributes, Some(owner), tags(request.key.tags))
}

fn entity(
    uid: &EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parent: Option<&EntityUid>,
    tags: Vec<(String, RestrictedExpression)>,
) -> Result<Entity, &'static str> {
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
    Entity::new_with_tags(uid.clone(), attributes, parent.cloned(), tags)
        .map_err(|_| "an entity of the request cannot be said in Cedar")
}
