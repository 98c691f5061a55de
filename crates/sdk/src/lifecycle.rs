//! The life of a key after it was made: states, names, tags, rotation, destruction.

use std::collections::BTreeMap;

use quorate_documents::{
    Body, BodyOf, Certificate, Destruction, Draft, Jurisdiction, Key as KeyBody, KeyVersionEntry,
    Order, Principal, SignedDocument,
};
use quorate_types::limits::MIN_DESTRUCTION_SECONDS;
use quorate_types::{Action, DocumentId, KeyId, KeyState, KeyVersion, NodeId, UnixSeconds};

use crate::admin::deliver;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{Error, RequestError};
use crate::keys::Key;
use crate::profile::AdminKey;

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Another state: suspended, deactivated, compromised, or active again.
    State(KeyState),
    /// Another name.
    Alias(String),
    /// Tags to set, or to take away where there is no value; others stay.
    Tags(BTreeMap<String, Option<String>>),
    /// A new version is due so many seconds after the newest; 0 for never.
    Rotation(u64),
    /// No order may name fewer members than so many.
    Minimum(u32),
    /// Shares may be there and nowhere else; empty for anywhere.
    Jurisdictions(Vec<Jurisdiction>),
    /// To be destroyed at each node once that node has run for so many seconds, at least a week. The key is
    /// used for nothing meanwhile.
    Destroy {
        /// How long each node waits, by its own running time.
        wait_seconds: u64,
    },
    /// Not to be destroyed, after all.
    Keep,
}

/// What one node says of a key that is to be destroyed. Each says it for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFate {
    /// It waits so many more seconds of its running time.
    Waits(u64),
    /// It has erased its shares, at this time by its clock.
    Destroyed(UnixSeconds),
}

/// What is asked for and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestructionStatus {
    /// When it was asked for and how long each node waits, while the key's document says so.
    pub asked: Option<Destruction>,
    /// What nodes say.
    pub nodes: Vec<(NodeId, KeyFate)>,
}

fn invalid(why: impl Into<String>) -> Error {
    RequestError::Invalid(why.into()).into()
}

impl KeyChange {
    fn words(&self, alias: &str) -> String {
        match self {
            Self::State(state) => format!("take the key {alias} to the state {}", state.name()),
            Self::Alias(new) => format!("call the key {alias} {new}"),
            Self::Tags(_) => format!("change the tags of the key {alias}"),
            Self::Rotation(0) => format!("rotate the key {alias} by hand only"),
            Self::Rotation(seconds) => format!("rotate the key {alias} every {seconds} seconds"),
            Self::Minimum(nodes) => format!("let the key {alias} have {nodes} nodes or more"),
            Self::Jurisdictions(laws) if laws.is_empty() => {
                format!("let the shares of the key {alias} be anywhere")
            }
            Self::Jurisdictions(laws) => {
                let laws: Vec<String> = laws.iter().map(Jurisdiction::to_string).collect();
                format!("let the shares of the key {alias} be in {} only", laws.join(", "))
            }
            Self::Destroy { .. } => format!("destroy the key {alias}"),
            Self::Keep => format!("keep the key {alias}"),
        }
    }

    fn apply(&self, body: &mut KeyBody, at: UnixSeconds) -> Result<(), Error> {
        match self {
            Self::State(KeyState::Destroyed) => {
                return Err(invalid("a key is destroyed by asking for it, and waiting"));
            }
            Self::State(state) if body.state == *state => {
                return Err(invalid(format!("the key is {} already", state.name())));
            }
            Self::State(state) => body.enter_state(*state, at),
            Self::Alias(alias) => body.alias.clone_from(alias),
            Self::Tags(tags) => {
                for (name, value) in tags {
                    body.tags.retain(|(known, _)| known != name);
                    body.tags.extend(value.clone().map(|value| (name.clone(), value)));
                }
            }
            Self::Rotation(seconds) => body.rotation_seconds = *seconds,
            Self::Minimum(nodes) => body.minimum_committee = *nodes,
            Self::Jurisdictions(laws) => {
                body.jurisdictions.clone_from(laws);
                body.jurisdictions.sort_unstable();
                body.jurisdictions.dedup();
            }
            Self::Destroy { wait_seconds } => {
                if *wait_seconds < MIN_DESTRUCTION_SECONDS {
                    return Err(invalid("a key waits at least 7 days for its destruction"));
                }
                if body.destruction.is_some() {
                    return Err(invalid("the key is to be destroyed already"));
                }
                body.destruction =
                    Some(Destruction { requested_at: at, wait_seconds: *wait_seconds });
            }
            Self::Keep => {
                if body.destruction.take().is_none() {
                    return Err(invalid("nobody asked for the key's destruction"));
                }
            }
        }
        Ok(())
    }
}

/// What all heads of a key's document say together: where two changed the key and did not know of one another, this
/// merges them. What they cannot both mean is for a person to say, where `state` is not what is being said. Of versions that
/// they have differently, the one that was made is taken, as `made` says by its order, and otherwise one of them, the same for
/// everybody: so nobody who adds another keeps administrators from what they say of the key.
fn merged(
    id: KeyId,
    heads: &[SignedDocument],
    made: impl Fn(KeyVersion, &Order) -> bool,
    state: bool,
    at: UnixSeconds,
) -> Result<KeyBody, Error> {
    let bodies: Vec<&KeyBody> = heads.iter().filter_map(|head| KeyBody::of(head.body())).collect();
    let longest = bodies.iter().max_by_key(|body| body.versions.len());
    let longest = longest.ok_or_else(|| invalid("no node shows the key's document"))?;
    let mut body = KeyBody::clone(longest);
    for entry in &mut body.versions {
        let all = bodies.iter().filter_map(|body| body.version(entry.number));
        let digest = |entry: &KeyVersionEntry| entry.order.digest(id, entry.number);
        let best = all.min_by_key(|it| (!made(it.number, &it.order), digest(it), it.created_at));
        if let Some(best) = best {
            *entry = best.clone();
        }
    }
    for other in bodies {
        if other.state != body.state && !state {
            return Err(invalid(
                "the key's document is contested: its state differs; say which it is to be first",
            ));
        }
        body.remember(other, at);
        body.destruction = body.destruction.or(other.destruction);
    }
    Ok(body)
}

impl Client {
    /// Changes a key. Signed by this client's principal where it may, and otherwise by the administrator:
    /// destruction, what weakens a protection (such as making a suspended key active), and what the tenant
    /// marks as critical take administrators.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where it takes an administrator and there is none, or the key is so already;
    /// [`Error::Unfinished`] where it takes several administrators; and [`crate::NotQuorate`].
    pub async fn change_key(
        &self,
        key: &Key,
        change: &KeyChange,
        administrator: Option<&AdminKey>,
    ) -> Result<Delivered, Error> {
        let key = self.fetch_key(key.id()).await?;
        if let KeyChange::Alias(new) = change {
            self.called(new).await?.free(new, Some(key.id()))?;
        }
        let at = self.document_time().await?;
        let mut body = key.merged(matches!(change, KeyChange::State(_)), at)?;
        let before = body.clone();
        change.apply(&mut body, at)?;
        let what = change.words(key.alias());

        let tenant = self.tenant_heads().await?;
        let authority = tenant.digests().first().copied();
        let mut set = self.control_set().await?;
        let own = set.heads::<Principal>(&DocumentId::from(self.principal()));
        let may = own.is_some_and(|own| own.permits(Action::Change, Some(&key.id())));
        let by_administrators = body.destruction != before.destruction
            || body.weakens(&before)
            || tenant.is_critical(Action::Change)
            || !may;
        let versions = self.documents(vec![DocumentId::from(key.id())], Vec::new()).await?;
        set.insert_all(versions);
        let heads: Vec<&SignedDocument> = key.heads().iter().collect();
        let body = Body::Key(body);
        // A restriction is on its way to every node, whatever principals have added to the document.
        let on = if body.restricts() && by_administrators {
            let digests: Vec<quorate_types::Digest> =
                heads.iter().map(|head| head.digest()).collect();
            quorate_documents::restrictable(&key.id().into(), &digests, &set)
        } else {
            Vec::new()
        };
        let on = if on.is_empty() { &heads } else { &on };
        let draft = Draft::succeed(on, body, authority, Vec::new(), at)
            .map_err(|e| invalid(e.to_string()))?;
        let delivered = if by_administrators {
            let administrator = administrator.ok_or_else(|| {
                invalid(format!(
                    "to {what} takes the tenant's administrators, and this profile has no administrator's key"
                ))
            })?;
            let document =
                draft.sign(&[administrator.signing_key()]).map_err(|e| invalid(e.to_string()))?;
            self.admin(administrator).publish(&what, &set, vec![document]).await?
        } else {
            let document = draft.sign(&[&self.inner.key]).map_err(|e| invalid(e.to_string()))?;
            deliver(self, &set, &[document]).await?
        };
        self.forget_key(key.id());
        if let (KeyChange::Alias(new), Some(pins)) = (change, self.alias_pins()) {
            // What this profile meant by the old name it means by the new one.
            let mut all = pins.read()?;
            all.retain(|_, id| *id != key.id());
            all.insert(new.clone(), key.id());
            pins.write(&all)?;
        }
        Ok(delivered)
    }

    /// The keys that are due for a new version, by their rotation periods and the nodes' clocks.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn keys_due(&self) -> Result<Vec<Key>, Error> {
        let now = self.document_time().await?;
        let mut keys = self.list_keys().await?;
        keys.retain(|key| {
            key.state() == KeyState::Active && key.rotation_due().is_some_and(|due| due <= now)
        });
        Ok(keys)
    }
}

impl Key {
    /// What all heads of its document say together.
    pub(crate) fn merged(&self, state: bool, at: UnixSeconds) -> Result<KeyBody, Error> {
        let made = |number, order: &Order| {
            let root = self.verified().version(number).and_then(|version| version.root.as_ref());
            root.is_some_and(|root| root.statement().order() == order.digest(self.id(), number))
        };
        merged(self.id(), self.heads(), made, state, at)
    }

    /// Since when it is in its state, where that was noted.
    #[must_use]
    pub fn state_since(&self) -> Option<UnixSeconds> {
        self.body().and_then(KeyBody::state_since)
    }

    /// Names and values for people and policies.
    #[must_use]
    pub fn tags(&self) -> Vec<(String, String)> {
        let tags = self.verified().heads().tags();
        tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Seconds after which a new version is due; 0 for never.
    #[must_use]
    pub fn rotation_seconds(&self) -> u64 {
        self.body().map_or(0, |body| body.rotation_seconds)
    }

    /// When the next version is due.
    #[must_use]
    pub fn rotation_due(&self) -> Option<UnixSeconds> {
        self.verified().heads().rotation_due()
    }

    /// Whether its documents say that it is to be destroyed. They are signed; what a node says of itself is not, and that one
    /// node destroys its shares, or has, is no reason to leave the others' as they are.
    #[must_use]
    pub fn is_to_be_destroyed(&self) -> bool {
        self.state() == KeyState::Destroyed || self.verified().heads().to_be_destroyed()
    }

    /// Whether so many of those who hold shares of a version say that they have erased theirs for good that fewer than T
    /// are left, so that no others can be dealt. Fewer than that stop nothing, whatever they say.
    #[must_use]
    pub fn is_destroyed(&self, version: KeyVersion) -> bool {
        let certificate = self.verified().version(version).and_then(|v| v.certificate.as_ref());
        let Some(statement) = certificate.map(Certificate::statement) else { return false };
        let erased = |node: &NodeId| {
            let mut fates = self.fates().iter();
            fates.any(|(at, fate)| at == node && matches!(fate, KeyFate::Destroyed(_)))
        };
        let left = statement.participants().iter().filter(|member| !erased(&member.node)).count();
        left < usize::from(statement.threshold().t())
    }

    /// Whether it is to be destroyed or is destroyed somewhere, and what the nodes say of that: to be shown. Nothing follows
    /// from what single nodes say.
    #[must_use]
    pub fn destruction(&self) -> Option<DestructionStatus> {
        let asked = self.verified().heads().iter().find_map(|head| head.body().destruction);
        let nodes = self.fates().to_vec();
        (asked.is_some() || !nodes.is_empty()).then_some(DestructionStatus { asked, nodes })
    }
}
