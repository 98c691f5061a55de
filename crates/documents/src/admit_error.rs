//! Why a document version may not join the set, and by whose say it may.

use quorate_types::{Action, Digest, DocumentId, NodeId, PrincipalId, UnixSeconds};
use quorate_wire::{PublicKey, RefusalCode};

use crate::body::Kind;
use crate::key::MAX_VERSIONS_BY_PRINCIPALS;
use crate::rules::MAX_TENANT_DEPTH;
use crate::sight::MAX_BYTES_WITH_VERSIONS;

/// Why a document version may not join the set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// It names a version that is not here, or not for those who signed it: a node answers both alike.
    #[error("the document names {0}, which is not here for those who signed it")]
    Missing(Digest),
    /// The first roster of another cluster.
    #[error("the roster begins another cluster ({0})")]
    OtherCluster(DocumentId),
    /// A predecessor is a version of another document or of another kind.
    #[error("the document names a predecessor of another document")]
    Predecessor,
    /// The version is not one more than the newest predecessor's.
    #[error("the document's version is {found} where {expected} is expected")]
    Version {
        /// The version that would fit.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// The authority named has no say over this document.
    #[error("the document is signed under an authority that has no say over it")]
    Authority,
    /// Somebody signed who has no say.
    #[error("{0} signed the document and may not")]
    Stranger(PublicKey),
    /// Too few administrators signed.
    #[error("{signed} of the administrators signed the document where {quorum} must")]
    Quorum {
        /// How many signed.
        signed: usize,
        /// How many must.
        quorum: u32,
    },
    /// Recovery keys must sign this and did not, or there are none.
    #[error(
        "only the recovery keys of every version that is merged can settle a contested document or change recovery keys"
    )]
    Recovery,
    /// A field that no version may change was changed.
    #[error("no version of a {kind} document may change its {field}")]
    Immutable {
        /// The kind of document.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
    /// An order has fewer members than the key asks for.
    #[error("an order names {members} members where the key asks for at least {minimum}")]
    Committee {
        /// Members named.
        members: usize,
        /// The key's minimum.
        minimum: u32,
    },
    /// A key document that destroys its key at once, or one by a principal that asks for it.
    #[error(
        "a key is destroyed after a wait that a quorum of administrators asks for, and in no other way"
    )]
    Destruction,
    /// A key document that forgets when the key came into a state, or does not say it, or says more.
    #[error(
        "a key document must keep the changes of state that those before it note, and note its own, of its own time; only administrators may forget old ones, and add the last 64 of 256"
    )]
    StateHistory,
    /// A key that is not of the grant's tenant.
    #[error("a grant is for a key of the tenant that grants")]
    GrantKey,
    /// An order that does not follow what it names, by key, version, order 1 or number.
    #[error(
        "an order follows orders of the same key version that it names, by one more than the highest"
    )]
    OrderChain,
    /// What a principal signed takes a quorum of administrators in this tenant.
    #[error("in this tenant \"{0}\" is critical: a quorum of administrators must sign it")]
    Critical(Action),
    /// A principal changed more of its own document than its key.
    #[error(
        "a principal may offer another key of its own, and that key may take its place; all else takes administrators"
    )]
    Rotation,
    /// The signer is no principal of the tenant with the permissions it takes, or its time was over.
    #[error("{0} is no principal of that tenant that may sign this at that time")]
    NotPermitted(PublicKey),
    /// A principal weakened a key's protection, which takes the administrators.
    #[error(
        "only administrators may lower a key's minimum committee, its threshold, its number of nodes or how many of these it can do without, allow a fragile one, add jurisdictions, drop the fragment, settle orders that contend, or take back that it was suspended, deactivated, reported compromised or is to be destroyed, or a grant that it was revoked"
    )]
    Weakens,
    /// Tenants too deep.
    #[error("tenants stand at most {MAX_TENANT_DEPTH} above one another")]
    TooDeep,
    /// Signed by administrators who rule no longer, and nothing that counts keeps it.
    #[error(
        "the authority that the document is signed under is superseded, and no later one keeps the document"
    )]
    Superseded,
    /// An order names a node that no roster names which is here.
    #[error(
        "an order names {0} with an identity key that no roster here gives it: where a newer roster does, bring that first"
    )]
    StrangeMember(NodeId),
    /// A principal adds key versions faster, or further, than it may.
    #[error(
        "a principal adds one key version at a time, up to number {MAX_VERSIONS_BY_PRINCIPALS} and {MAX_BYTES_WITH_VERSIONS} bytes of document; the others are for administrators to add"
    )]
    KeyVersions,
    /// Signed in the future.
    #[error("by this node's clock the document was signed in the future, {} s after 1970", .0.0)]
    Future(UnixSeconds),
    /// The principal that signed is revoked or expired, or may no longer.
    #[error("{0}, which signed the document, may not any more")]
    Stale(PublicKey),
}

impl AdmitError {
    /// The refusal's stable code.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Missing(_) | Self::StrangeMember(_) => RefusalCode::DocumentMissing,
            Self::Stranger(_)
            | Self::Quorum { .. }
            | Self::Recovery
            | Self::NotPermitted(_)
            | Self::Weakens
            | Self::KeyVersions
            | Self::Critical(_)
            | Self::Rotation
            | Self::GrantKey
            | Self::Authority
            | Self::Superseded
            | Self::Stale(_) => RefusalCode::DocumentUnauthorized,
            Self::OtherCluster(_)
            | Self::Predecessor
            | Self::Version { .. }
            | Self::Immutable { .. }
            | Self::Committee { .. }
            | Self::Destruction
            | Self::StateHistory
            | Self::OrderChain
            | Self::TooDeep
            | Self::Future(_) => RefusalCode::DocumentInvalid,
        }
    }
}

/// That a document version may join the set, and by whose say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Signed by a quorum of administrators.
    ByAdministrators,
    /// Signed by a quorum of recovery keys.
    ByRecovery,
    /// Signed by this principal: a key document, an order, a grant, or its own next key.
    ByPrincipal(PrincipalId),
}
