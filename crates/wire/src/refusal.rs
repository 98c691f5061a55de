//! Why a node says no: stable codes, and for each what stayed as it was and what to do next.

use crate::proto::v1;
use crate::{Versions, WireVersion};

/// What kind of no it is; the shell maps it to a Connect code and an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Nobody has been authenticated.
    Unauthenticated,
    /// Somebody has, and may not.
    Denied,
    /// There is nothing of that name for this caller.
    NotFound,
    /// The request itself is wrong.
    Invalid,
    /// Right, but not in this state.
    Conflict,
    /// A named bound is reached.
    Exhausted,
    /// The node cannot serve at present.
    Unavailable,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $category:ident, $unchanged:literal, $next:literal;)*) => {
        /// The stable code of a refusal. Listed in docs/errors.md, which is generated from here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalCode { $($(#[$doc])* $name,)* }

        impl RefusalCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text of the code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What kind of no it is.
            #[must_use]
            pub const fn category(self) -> Category {
                match self { $(Self::$name => Category::$category,)* }
            }

            /// What stayed as it was.
            #[must_use]
            pub const fn unchanged(self) -> &'static str {
                match self { $(Self::$name => $unchanged,)* }
            }

            /// What to do next.
            #[must_use]
            pub const fn next(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }
        }
    };
}

codes! {
    /// No client certificate.
    CertificateMissing, "certificate_missing", Unauthenticated, "Nothing was read or changed.",
        "Connect with the TLS client certificate of a principal of this cluster.";
    /// The certificate's key belongs to no principal.
    PrincipalUnknown, "principal_unknown", Denied, "Nothing was read or changed.",
        "Ask an administrator to run `quorate principal add` with this machine's public key.";
    /// The principal's time is over.
    PrincipalExpired, "principal_expired", Denied, "No key and no object was changed.",
        "Ask an administrator to run `quorate principal renew`.";
    /// The principal was revoked.
    PrincipalRevoked, "principal_revoked", Denied, "No key and no object was changed.",
        "Ask an administrator why; a new principal can be added.";
    /// The principal has another key now.
    CredentialRetired, "credential_retired", Denied, "No key and no object was changed. The node has raised an alarm.",
        "Use the principal's present key; if nobody of yours sent this, the old key is in other hands.";
    /// The tenant, or one above it, is suspended.
    TenantSuspended, "tenant_suspended", Denied, "No key and no object was changed.",
        "Ask the contact that the message names, or whoever administers the tenant.";
    /// A policy of the key's tenant forbids this.
    PolicyForbids, "policy_forbids", Denied, "No key and no object was changed.",
        "Ask an administrator of the key's tenant: the audit record names the policy (`quorate audit show`).";
    /// A policy cannot be evaluated.
    PolicyFailed, "policy_failed", Denied, "No key and no object was changed.",
        "Have an administrator of the key's tenant correct the policy that the message names.";
    /// The principal may not do this.
    NotPermitted, "not_permitted", Denied, "No key and no object was changed.",
        "Ask an administrator for the permission that the message names.";
    /// No such key for this caller: unknown and foreign keys answer alike.
    KeyUnknown, "key_unknown", NotFound, "Nothing was changed.",
        "Run `quorate key list` to see the keys that you may use.";
    /// More keys have this alias than one answer shows.
    AliasShared, "alias_shared", Conflict, "Nothing was changed.",
        "Name the key by its id: `quorate key list` shows ids. Have the other keys of that name renamed or destroyed by the tenant's administrators, and find out who made them.";
    /// The key has no such version.
    KeyVersionUnknown, "key_version_unknown", NotFound, "Nothing was changed.",
        "Run `quorate key show` to see the key's versions.";
    /// The key version has no complete certificate at this node.
    KeyNotReady, "key_not_ready", Conflict, "No share was used.",
        "Finish making it with `quorate key create NAME --resume`, or wait until that is done.";
    /// The key's state forbids this.
    KeyState, "key_state", Denied, "The key and every object are as they were.",
        "Run `quorate key show` to see the key's state and since when.";
    /// This key version only opens and rewraps.
    OldVersion, "old_version", Conflict, "Nothing was encrypted.",
        "Encrypt under the newest version of the key; clients do so by themselves.";
    /// The node holds a share of another generation.
    GenerationNotHeld, "generation_not_held", Conflict, "No share was used.",
        "Ask again with the generation of the certificate that came with this answer.";
    /// The creation time is not now.
    ClockSkew, "clock_skew", Invalid, "Nothing was encrypted.",
        "Set the clock of the machine that the message names.";
    /// An encrypter named somebody else as the creator.
    CreatorMismatch, "creator_mismatch", Denied, "Nothing was encrypted.",
        "Encrypt as the principal that creates the object.";
    /// The encryption context is not canonical.
    ContextInvalid, "context_invalid", Invalid, "Nothing was evaluated.",
        "Send the context sorted by key, each key once, in Unicode normalization form C.";
    /// More than a bound allows.
    TooLarge, "too_large", Exhausted, "Nothing was evaluated or stored.",
        "Split the request; the message names the bound.";
    /// What a tenant may use in a day is used up.
    QuotaExhausted, "quota_exhausted", Exhausted, "Nothing was evaluated.",
        "Wait until midnight UTC, or ask the contact that the message names for more.";
    /// A tenant has as many of something as it may.
    QuotaReached, "quota_reached", Exhausted, "No document was stored.",
        "Revoke or destroy what is not needed, which gives its place back, or ask whom the message names for more.";
    /// Not a request of this protocol.
    Malformed, "malformed", Invalid, "Nothing was read or changed.",
        "See spec/node-protocol.md for the messages; an older or newer client may be the cause.";
    /// A version of requests that the node does not speak.
    VersionUnsupported, "version_unsupported", Invalid, "Nothing was read or changed.",
        "Clients ask again in a version that the node speaks, where they know one; otherwise install a newer `quorate` where the older one is: docs/upgrade.md.";
    /// Meant for another node.
    WrongNode, "wrong_node", Invalid, "Nothing was read or changed.",
        "Send each node its own request; fetch the newest roster.";
    /// The node has joined no cluster.
    NoRoster, "no_roster", Unavailable, "Nothing was read or changed.",
        "On the node's machine, run `quorate cluster join` with the roster and its digest.";
    /// The roster's time is over.
    RosterExpired, "roster_expired", Unavailable, "No key and no object was changed.",
        "Ask the cluster's administrators to renew the roster.";
    /// A document breaks a rule.
    DocumentInvalid, "document_invalid", Invalid, "No document was stored.",
        "The message names the rule; see spec/documents.md.";
    /// A document's signers may not sign it.
    DocumentUnauthorized, "document_unauthorized", Denied, "No document was stored.",
        "Have it signed by those whom the message names.";
    /// A principal gives a key an alias that another key of its tenant has.
    AliasTaken, "alias_taken", Conflict, "No document was stored.",
        "Choose another alias; or have an administrator of the tenant rename one of the keys, and run `quorate cluster sync`.";
    /// A document names another that is not here.
    DocumentMissing, "document_missing", Conflict, "No document was stored.",
        "Send the document that the message names first.";
    /// No such session, or it has expired.
    SessionUnknown, "session_unknown", NotFound, "No share was made, and none was lost.",
        "Begin again with a new session; sessions live for 10 minutes.";
    /// The session is at another step, or was told something else before.
    SessionConflict, "session_conflict", Conflict, "No share was made, and none was lost.",
        "Begin again with a new session.";
    /// Too many open sessions.
    SessionLimit, "session_limit", Exhausted, "No share was made, and none was lost.",
        "Wait until sessions end or expire (10 minutes), or finish those that are open.";
    /// The order's attempts are used up.
    AttemptsExhausted, "attempts_exhausted", Exhausted, "No share was made, and none was lost.",
        "Have another order signed, under which nodes count anew: `quorate key refresh KEY --now` where shares were to be dealt anew, a new key or key version where one was to be made. Leave out, or mend, the node that earlier tries have named.";
    /// A refresh by the standing order, before its time.
    RefreshNotDue, "refresh_not_due", Conflict, "The shares are as they were.",
        "Wait until the time that the message names, or sign an order for a reshare now.";
    /// An evaluation, or a reshare, takes a share that this node does not have.
    ShareNotHeld, "share_not_held", Conflict, "The shares are as they were.",
        "Have the other nodes deal it one: `quorate cluster repair NODE`; see docs/backup.md.";
    /// An evaluation takes a share that is not out of a backup.
    ShareRestored, "share_restored", Conflict, "Nothing was evaluated. The share still deals others.",
        "Have shares dealt anew: `quorate cluster repair NODE`, or `quorate key refresh --all --now`; see docs/backup.md.";
    /// A session that fits no order in force.
    OrderMismatch, "order_mismatch", Invalid, "No share was made, and none was lost.",
        "Begin a session for the newest order of the key version.";
    /// A dealer cheated, with proof.
    DealerFault, "dealer_fault", Conflict, "No share was made, and none was lost.",
        "Show the evidence to the administrators; leave the dealer out by a new order.";
    /// What a coordinator relayed is not what was signed.
    RelayFault, "relay_fault", Invalid, "No share was made, and none was lost.",
        "Begin again, from another machine if it happens again; no node is to blame.";
    /// This node has signed another transcript for this key version.
    AlreadySigned, "already_signed", Conflict, "The share that was promised is kept.",
        "Finish the signed ceremony, or give the key a new version.";
    /// A certificate does not verify.
    CertificateInvalid, "certificate_invalid", Invalid, "The key is as it was.",
        "Collect the signatures again; the message names what does not fit.";
    /// A certificate carries this node's name over something it never signed.
    CertificateForged, "certificate_forged", Denied, "The key is as it was. The node has raised an alarm.",
        "Treat this node's identity key as stolen: ask its operator to rotate it.";
    /// The procedure does not exist.
    MethodUnknown, "method_unknown", NotFound, "Nothing was read or changed.",
        "See spec/node-protocol.md; an older or newer client may be the cause.";
    /// More at once than the node takes.
    Overloaded, "overloaded", Exhausted, "Nothing was evaluated or stored.",
        "Try again in a moment; clients do so by themselves.";
    /// The node's audit log is not the one that it showed before, or not the one in the roster.
    RolledBack, "rolled_back", Unavailable,
        "No key and no object was changed. The node serves nobody until its log counts again.",
        "Other nodes serve meanwhile; the operator begins a new log as docs/operating.md says.";
    /// A checkpoint that is none of a log in the roster, or that does not extend the one held.
    MarkInvalid, "mark_invalid", Invalid, "The checkpoint was not stored and not cosigned.",
        "Ask the log's node for its newest checkpoint and a proof from the size in this answer.";
    /// The node could not write.
    StorageFailed, "storage_failed", Unavailable,
        "The answer was withheld; what earlier answers promised is kept.",
        "Other nodes serve meanwhile; the operator finds the cause in this node's log.";
}

impl RefusalCode {
    /// The code with this text.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.code() == code)
    }

    /// A refusal message with the texts of this code; details are added by the caller.
    #[must_use]
    pub fn message(self, message: String, time: quorate_types::UnixSeconds) -> v1::Refusal {
        v1::Refusal {
            code: self.code().to_owned(),
            message,
            unchanged: self.unchanged().to_owned(),
            next: self.next().to_owned(),
            time: time.0,
            evidence: None,
            certificate: None,
            item: 0,
            lowest_version: 0,
            highest_version: 0,
        }
    }

    /// The refusal of a request in a version that is not spoken, which says what is.
    #[must_use]
    pub fn of_version(asked: WireVersion, time: quorate_types::UnixSeconds) -> v1::Refusal {
        let spoken = Versions::SPOKEN;
        let message =
            format!("the request is of version {asked}, and this node speaks version {spoken}");
        v1::Refusal {
            lowest_version: spoken.lowest().get(),
            highest_version: spoken.highest().get(),
            ..Self::VersionUnsupported.message(message, time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for (i, code) in RefusalCode::ALL.iter().enumerate() {
            assert_eq!(RefusalCode::from_code(code.code()), Some(*code));
            assert!(RefusalCode::ALL[..i].iter().all(|c| c.code() != code.code()));
            assert!(code.unchanged().ends_with('.') && code.next().ends_with('.'));
        }
    }
}
