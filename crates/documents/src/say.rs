//! What it takes for a principal to sign a key document, an order or a grant.

use quorate_types::{Action, KeyId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::body::Body;
use crate::document::SignedDocument;
use crate::grant::Grant;
use crate::heads::BodyOf;
use crate::key::Key;
use crate::lookup::Lookup;
use crate::principal::Principal;

/// The permissions that one principal must have to sign a document version alone.
pub(crate) struct Say {
    tenant: TenantId,
    key: Option<KeyId>,
    /// Every one of these.
    pub(crate) all: Vec<Action>,
    /// And one of these, unless there are none.
    any: &'static [Action],
    /// Its own time must not be over before this.
    until: UnixSeconds,
}

impl Say {
    /// What the version takes. None for kinds that principals do not sign so.
    pub(crate) fn of<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> Option<Self> {
        let created_at = version.created_at();
        let before: Vec<&SignedDocument> =
            version.predecessors().iter().filter_map(|digest| lookup.version(digest)).collect();
        match version.body() {
            Body::Key(key) => {
                let before: Vec<&Key> = before.iter().filter_map(|v| Key::of(v.body())).collect();
                let all = key.takes(&before);
                let any: &[Action] =
                    if all.is_empty() { &[Action::Create, Action::Change] } else { &[] };
                let id = (version.version() > 1).then(|| version.id().into());
                Some(Self { tenant: key.tenant, key: id, all, any, until: created_at })
            }
            Body::KeyOrder(order) => Some(Self {
                tenant: order.tenant,
                key: Some(order.key),
                all: vec![Action::Change],
                any: &[],
                until: created_at,
            }),
            Body::Grant(grant) => {
                let mut before = before.iter().filter_map(|v| Grant::of(v.body())).peekable();
                let revokes =
                    before.peek().is_some() && before.all(|before| grant.only_revokes(before));
                let mut all = vec![Action::Grant];
                if !revokes {
                    all.extend(&grant.actions);
                }
                // What is granted lasts no longer than who grants it.
                let until = if revokes { created_at } else { created_at.max(grant.expires_at) };
                Some(Self { tenant: grant.tenant, key: Some(grant.key), all, any: &[], until })
            }
            _ => None,
        }
    }

    /// Whether somebody with these permissions has a say.
    pub(crate) fn permitted(&self, permits: impl Fn(Action, Option<&KeyId>) -> bool) -> bool {
        let key = self.key.as_ref();
        self.all.iter().all(|action| permits(*action, key))
            && (self.any.is_empty() || self.any.iter().any(|action| permits(*action, key)))
    }

    /// Versions of principal documents by which this signer could sign: of the tenant, with the
    /// permissions, not revoked in that version, and in its time when the document was signed.
    pub(crate) fn principals<'a, L: Lookup + ?Sized>(
        &self,
        version: &SignedDocument,
        signer: &PublicKey,
        lookup: &'a L,
    ) -> Vec<&'a SignedDocument> {
        let until = self.until.max(version.created_at());
        let may = |version: &&SignedDocument| {
            Principal::of(version.body()).is_some_and(|p| {
                p.accepts(signer)
                    && p.tenant == self.tenant
                    && !p.revoked
                    && until <= p.expires_at
                    && self.permitted(|action, key| p.permits(action, key))
            })
        };
        lookup.principals(signer).into_iter().filter(may).collect()
    }
}
