//! A tenant's policies, parsed, validated and ready to decide.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PrincipalConstraint, ResourceConstraint,
    Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use quorate_documents::{Heads, Policy as PolicyDocument};
use quorate_types::{Digest, DocumentId, TenantId};
use quorate_wire::Transcript;

use super::inputs::{self, Inputs};
use super::text::{MAX_POLICIES, PolicyError, error_at, scan};

/// The schema's text: what a policy may look at.
pub const SCHEMA: &str = include_str!("../../../../spec/policy.cedarschema");

/// Work of one decision, in the steps of [`inputs::Walked::cost`]: keeps it below 1 ms.
pub const MAX_DECISION_COST: u64 = 8 * 1024;

/// The validator, made once; none only where the schema in this crate is broken, which a test refutes.
static VALIDATOR: LazyLock<Option<Validator>> =
    LazyLock::new(|| Schema::from_str(SCHEMA).ok().map(Validator::new));

/// One policy document: its name and what its heads say. One head as a rule, several after a race.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The document; all zero where a text is tried out before it is signed.
    pub document: DocumentId,
    /// What people call it.
    pub name: String,
    /// Its heads, in any order.
    pub heads: Vec<PolicyHead>,
}

/// One head of a policy document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyHead {
    /// Whether it is switched off, and neither permits nor forbids.
    pub disabled: bool,
    /// The policies.
    pub text: String,
}

impl PolicySource {
    /// What a policy document's heads say.
    #[must_use]
    pub fn of(heads: &Heads<PolicyDocument>) -> Self {
        let head = |policy: &PolicyDocument| PolicyHead {
            disabled: policy.disabled,
            text: policy.text.clone(),
        };
        Self {
            document: heads.id(),
            name: heads.name().to_owned(),
            heads: heads.iter().map(|version| head(version.body())).collect(),
        }
    }

    /// A text that is not in a document yet.
    #[must_use]
    pub fn draft(name: &str, text: &str) -> Self {
        Self {
            document: DocumentId::from_bytes([0; 32]),
            name: name.to_owned(),
            heads: vec![PolicyHead { disabled: false, text: text.to_owned() }],
        }
    }
}

/// Why texts are not a set of policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicySetError {
    /// One of the texts is wrong.
    #[error("the policy \"{name}\": {}", list(errors))]
    Text {
        /// The document's name.
        name: String,
        /// What is wrong, in the order of the text.
        errors: Vec<PolicyError>,
    },
    /// More policies than one tenant may have.
    #[error("{0} policies; a tenant may have {MAX_POLICIES}")]
    TooMany(usize),
    /// More work than one decision may be.
    #[error("the policies ask too much of one decision ({0} steps of {MAX_DECISION_COST})")]
    TooCostly(u64),
    /// The schema does not load: a defect of this build.
    #[error("the policy schema of this build does not load")]
    Schema,
}

fn list(errors: &[PolicyError]) -> String {
    errors.iter().map(PolicyError::to_string).collect::<Vec<_>>().join("; ")
}

/// All policies of one tenant that count, ready to decide.
///
/// Immutable, and the same for the same texts: a node keeps it by [`PolicySet::digest`].
#[derive(Debug)]
pub struct PolicySet {
    tenant: Option<TenantId>,
    digest: Digest,
    pub(crate) documents: Vec<CompiledDocument>,
    pub(crate) unusable: Option<PolicySetError>,
    warnings: Vec<String>,
    policies: usize,
    cost: u64,
}

#[derive(Debug)]
pub(crate) struct CompiledDocument {
    /// For each head its policies; a disabled head has none.
    pub(crate) heads: Vec<Vec<CompiledPolicy>>,
}

#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub(crate) name: String,
    pub(crate) effect: Effect,
    pub(crate) inputs: Inputs,
    pub(crate) cost: u64,
    scope: Scope,
    /// The policy alone: Cedar decides over sets.
    pub(crate) alone: cedar_policy::PolicySet,
}

/// The part of a policy that says for whom, which action and which key; compared before anything is
/// evaluated, so that a policy for another key costs nothing.
#[derive(Debug)]
struct Scope {
    principal: Option<EntityUid>,
    actions: Option<Vec<EntityUid>>,
    resource: Option<EntityUid>,
}

impl CompiledPolicy {
    /// Whether the scope can fit. `principal` and `resource` are what each is or is in.
    pub(crate) fn concerns(
        &self,
        principal: &[EntityUid],
        action: &EntityUid,
        resource: &[EntityUid],
    ) -> bool {
        let named = |wanted: &Option<EntityUid>, given: &[EntityUid]| {
            wanted.as_ref().is_none_or(|wanted| given.contains(wanted))
        };
        named(&self.scope.principal, principal)
            && named(&self.scope.resource, resource)
            && self.scope.actions.as_ref().is_none_or(|actions| actions.contains(action))
    }
}

impl PolicySet {
    /// A set without policies, of no tenant.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            tenant: None,
            digest: digest(&[]),
            documents: Vec::new(),
            unusable: None,
            warnings: Vec::new(),
            policies: 0,
            cost: 0,
        }
    }

    /// Parses and validates all policies of a tenant: Cedar's strict validation against [`SCHEMA`],
    /// and the rules of `spec/policy.md`.
    ///
    /// # Errors
    /// [`PolicySetError`], naming the document, the line and the column.
    pub fn parse(sources: &[PolicySource]) -> Result<Self, PolicySetError> {
        let mut set = Self { digest: digest(sources), ..Self::empty() };
        for (position, source) in sources.iter().enumerate() {
            let twice = sources
                .iter()
                .enumerate()
                .any(|(other, s)| other != position && s.name == source.name);
            let name = if twice {
                format!("{} {}", source.name, source.document)
            } else {
                source.name.clone()
            };
            let mut heads = Vec::with_capacity(source.heads.len());
            for head in &source.heads {
                // A disabled text is checked too: enabling it must not be what reveals an error.
                let mut compiled = compile(&name, &head.text, &mut set.warnings)?;
                if head.disabled {
                    compiled.clear();
                }
                set.policies += compiled.len();
                set.cost += compiled.iter().map(|policy| policy.cost).sum::<u64>();
                heads.push(compiled);
            }
            set.documents.push(CompiledDocument { heads });
        }
        PolicySize { policies: set.policies, cost: set.cost }.bounded()?;
        Ok(set)
    }

    /// The same, for a node that must decide: a set that does not parse denies everything, and
    /// [`PolicySet::unusable`] says why.
    ///
    /// # Security
    /// Texts are validated before they are stored, so this is for documents that a later version of
    /// the node no longer understands, and for sets that outgrew a bound at another node.
    #[must_use]
    pub fn closed(sources: &[PolicySource]) -> Self {
        Self::parse(sources).unwrap_or_else(|error| Self {
            digest: digest(sources),
            unusable: Some(error),
            ..Self::empty()
        })
    }

    /// The policies of a tenant, from the heads of its policy documents that count. Those of other
    /// tenants are left out. A set that does not parse denies everything.
    #[must_use]
    pub fn of_tenant(tenant: TenantId, policies: &[&Heads<PolicyDocument>]) -> Self {
        let sources: Vec<PolicySource> = policies
            .iter()
            .filter(|policy| policy.tenant() == tenant)
            .map(|policy| PolicySource::of(policy))
            .collect();
        Self { tenant: Some(tenant), ..Self::closed(&sources) }
    }

    /// Whose policies these are; none for texts that are tried out.
    #[must_use]
    pub const fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// What the set is called in audit records and replies: the same texts have the same digest at
    /// every node, in whatever order they came.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many policies there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.policies
    }

    /// Whether there is nothing to ask.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.policies == 0 && self.unusable.is_none()
    }

    /// Why the set denies everything, if it does.
    #[must_use]
    pub const fn unusable(&self) -> Option<&PolicySetError> {
        self.unusable.as_ref()
    }

    /// What a person should look at again, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// About how many steps one decision takes; at most [`MAX_DECISION_COST`].
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// What of an item any policy of the set can look at.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        for policy in self.documents.iter().flat_map(|d| &d.heads).flatten() {
            inputs.add(&policy.inputs);
        }
        inputs
    }
}

/// Checks one text before it is signed, and again before a node takes the document.
///
/// # Errors
/// [`PolicySetError`]; what may be in order and is strange comes as warnings.
pub fn check(name: &str, text: &str) -> Result<Vec<String>, PolicySetError> {
    PolicySet::parse(&[PolicySource::draft(name, text)]).map(|set| set.warnings)
}

/// What policies come to, against the bounds of a tenant's whole set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicySize {
    /// How many there are.
    pub policies: usize,
    /// About how many steps one decision takes.
    pub cost: u64,
}

impl PolicySize {
    /// What one document adds to its tenant's set. Disabled texts add nothing, and neither do texts that this
    /// version does not understand: they deny everything as it is.
    #[must_use]
    pub fn of(source: &PolicySource) -> Self {
        let enabled = source.heads.iter().filter(|head| !head.disabled);
        enabled.fold(Self::default(), |size, head| {
            let compiled = compile(&source.name, &head.text, &mut Vec::new()).unwrap_or_default();
            let cost = compiled.iter().map(|policy| policy.cost).sum::<u64>();
            size.plus(Self { policies: compiled.len(), cost })
        })
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            policies: self.policies.saturating_add(other.policies),
            cost: self.cost.saturating_add(other.cost),
        }
    }

    /// # Errors
    /// [`PolicySetError::TooMany`] and [`PolicySetError::TooCostly`]: a set of this size denies everything.
    pub const fn bounded(self) -> Result<(), PolicySetError> {
        if self.policies > MAX_POLICIES {
            return Err(PolicySetError::TooMany(self.policies));
        }
        if self.cost > MAX_DECISION_COST {
            return Err(PolicySetError::TooCostly(self.cost));
        }
        Ok(())
    }
}

/// The digest of what the documents say, in no order.
fn digest(sources: &[PolicySource]) -> Digest {
    let mut sources: Vec<&PolicySource> = sources.iter().collect();
    sources.sort_by(|a, b| (&a.document, &a.name).cmp(&(&b.document, &b.name)));
    let mut transcript = Transcript::new("policy-set").number(sources.len() as u64);
    for source in sources {
        let mut heads: Vec<&PolicyHead> = source.heads.iter().collect();
        heads.sort();
        heads.dedup();
        transcript = transcript
            .field(source.document.as_bytes())
            .field(source.name.as_bytes())
            .number(heads.len() as u64);
        for head in heads {
            transcript = transcript.number(head.disabled.into()).field(head.text.as_bytes());
        }
    }
    transcript.digest()
}

fn compile(
    name: &str,
    text: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<CompiledPolicy>, PolicySetError> {
    let failed = |errors| PolicySetError::Text { name: name.to_owned(), errors };
    scan(text).map_err(|error| failed(vec![error]))?;
    let parsed = cedar_policy::PolicySet::from_str(text)
        .map_err(|errors| failed(errors.iter().map(|e| diagnosed(text, e)).collect()))?;
    if let Some(template) = parsed.templates().next() {
        let message = format!("{} has a slot (?principal or ?resource)", template.id());
        return Err(failed(vec![error_at(text, 0, message)]));
    }
    let validator = VALIDATOR.as_ref().ok_or(PolicySetError::Schema)?;
    let validated = validator.validate(&parsed, ValidationMode::Strict);
    if !validated.validation_passed() {
        let mut errors: Vec<PolicyError> =
            validated.validation_errors().map(|e| diagnosed(text, e)).collect();
        errors.sort_by_key(|e| (e.line, e.column));
        return Err(failed(errors));
    }
    warnings
        .extend(validated.validation_warnings().map(|w| format!("{name}: {}", diagnosed(text, w))));
    let mut policies: Vec<&Policy> = parsed.policies().collect();
    policies.sort_by_key(|policy| number(policy.id()));
    let mut compiled = Vec::with_capacity(policies.len());
    for policy in policies {
        compiled.push(compile_one(name, policy).map_err(|message| {
            let message = format!("policy {}: {message}", number(policy.id()) + 1);
            failed(vec![error_at(text, begins(text, number(policy.id())), message)])
        })?);
    }
    Ok(compiled)
}

/// Cedar calls the policies of a text policy0, policy1 and so on.
fn number(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    id.strip_prefix("policy").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
}

/// About where the policy of this number begins: after as many semicolons, outside strings.
fn begins(text: &str, number: usize) -> usize {
    let mut quoted = false;
    let ends = text.char_indices().filter(|(_, c)| {
        quoted ^= *c == '"';
        !quoted && *c == ';'
    });
    let end = number.checked_sub(1).and_then(|n| ends.map(|(at, _)| at + 1).nth(n));
    let rest = text.get(end.unwrap_or(0)..).unwrap_or_default();
    text.len() - rest.trim_start().len()
}

/// The policy of this number, from 1, in a text of several: about, since comments may hold anything. For people.
#[must_use]
pub fn policy_text(text: &str, number: usize) -> &str {
    let from = begins(text, number.saturating_sub(1));
    let rest = text.get(from..).unwrap_or_default();
    let mut quoted = false;
    let end = rest.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        !quoted && *c == ';'
    });
    rest.get(..end.map_or(rest.len(), |(at, _)| at + 1)).unwrap_or_default()
}

fn compile_one(document: &str, policy: &Policy) -> Result<CompiledPolicy, String> {
    let json = policy.to_json().map_err(|error| error.to_string())?;
    let walked = inputs::walk(&json)?;
    let label: String = policy.annotation("id").unwrap_or_default().chars().take(64).collect();
    let place = number(policy.id()) + 1;
    let name = if label.is_empty() {
        format!("{document}/{place}")
    } else {
        format!("{document}/{place} ({label})")
    };
    let mut alone = cedar_policy::PolicySet::new();
    alone.add(policy.clone()).map_err(|error| error.to_string())?;
    Ok(CompiledPolicy {
        name,
        effect: policy.effect(),
        inputs: walked.inputs,
        cost: walked.cost,
        scope: Scope {
            principal: match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
                PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::In(uid)
                | PrincipalConstraint::IsIn(_, uid) => Some(uid),
            },
            actions: match policy.action_constraint() {
                ActionConstraint::Any => None,
                ActionConstraint::In(uids) => Some(uids),
                ActionConstraint::Eq(uid) => Some(vec![uid]),
            },
            resource: match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
                ResourceConstraint::Eq(uid)
                | ResourceConstraint::In(uid)
                | ResourceConstraint::IsIn(_, uid) => Some(uid),
            },
        },
        alone,
    })
}

fn diagnosed<D: Diagnostic + ?Sized>(text: &str, error: &D) -> PolicyError {
    let label = error.labels().and_then(|mut labels| labels.next());
    let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
    let told = label.as_ref().and_then(|label| label.label()).map(str::to_owned);
    let mut message = error.to_string();
    if let Some(told) = told.filter(|told| !told.is_empty()) {
        message = format!("{message}: {told}");
    }
    let help = error.help().map(|help| help.to_string());
    PolicyError { help, ..error_at(text, offset, message) }
}
