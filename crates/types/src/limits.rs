//! Every bound on what may grow, each with its reason. Past a bound the caller gets a clear error
//! and nobody else is hurt.

/// Nodes of one committee. A DKG relays n^2 shares and a certificate names every node; 128 keeps
/// the first under 48 MB and the second under 24 KB.
pub const MAX_COMMITTEE: u16 = 128;

/// Labels of one evaluation. One core answers 4096 in about 0.2 s, so no request holds one longer.
pub const MAX_BATCH: usize = 4096;

/// Bytes of one label. The fixed fields need under 200; the rest is room for later fields.
pub const MAX_LABEL_BYTES: usize = 1024;

/// Bytes of one request body: the largest honest one is round 2 of a 128-of-128 DKG (about 0.8 MB).
pub const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of one reply body that a client accepts: a `GetKey` of a 128-node key with several versions.
pub const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of one signed document that keeps no others: a key of 128 nodes fits with 20 versions.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Bytes of one roster or tenant: [`MAX_FRONTIER`] entries of 75 bytes, and a body of 256 KiB. It fits a request.
pub const MAX_AUTHORITY_BYTES: usize = 1792 * 1024;

/// Documents that one version of a roster or tenant keeps. A tenant has no more in use
/// ([`MAX_DOCUMENTS_PER_TENANT`] and [`MAX_ORDERS_PER_TENANT`]), so its administrators can always be changed and lose
/// nothing.
pub const MAX_FRONTIER: usize = 20_000;

/// Documents directly under one tenant that are in use: children, principals, keys, policies and grants, and keys
/// that are destroyed. What is revoked or over is not counted. Administrators' change of a tenant looks at each once,
/// which takes about a second at this size; larger businesses have child tenants.
pub const MAX_DOCUMENTS_PER_TENANT: u32 = 10_000;

/// Documents of orders beyond the first that stand under one tenant and count, beside its other documents: as many as
/// it may have keys, so that there is room where every one of them moves, and who may change keys fills nothing but
/// this. Administrators sign more, for keys of many versions, as long as both together are not more than
/// [`MAX_FRONTIER`]; then there is room for fewer other documents.
pub const MAX_ORDERS_PER_TENANT: u32 = 10_000;

/// Documents of orders beyond the first of one key that count: each is read for a reshare, and as many of those that
/// counted once, and that one settles. A key version needs one for ever, of which the orders are versions; there are more where people did not know
/// of one another.
pub const MAX_ORDERS_PER_KEY: usize = 1024;

/// Orders of one key version that principals sign before administrators follow them: more than a year of one each
/// week. Standing refreshes take none.
pub const MAX_ORDER_VERSIONS_BY_PRINCIPALS: usize = 64;

/// Of these, those that no other follows: as many as one order of administrators settles. One is enough where people
/// know of one another.
pub const MAX_ORDER_HEADS_BY_PRINCIPALS: usize = 16;

/// Bytes of such orders of one key, all its versions together: a sixteenth of a reply that shows the key with them. A
/// key of 250 versions at three nodes is moved twice in it.
pub const MAX_ORDER_BYTES_BY_PRINCIPALS: usize = 512 * 1024;

/// Keys of one alias in a tenant that a node shows when it is asked for the alias; where there are more, it shows none.
pub const MAX_KEYS_PER_ALIAS: usize = 32;

/// Documents under one tenant at a node, whether they count or not, in use or over. What an authority
/// version left out stays stored, so a tenant whose credentials were stolen can shed what was made with them
/// three times over before its node's operator is asked; and one that makes and revokes ten a day goes on for ten years.
pub const MAX_STORED_PER_TENANT: u32 = 4 * MAX_DOCUMENTS_PER_TENANT;

/// Of these, those whose first version a principal signed: half. One that makes and revokes grants in a loop leaves
/// room for what administrators sign, who may have to act against it.
pub const MAX_STORED_BY_PRINCIPALS: u32 = MAX_STORED_PER_TENANT / 2;

/// Bytes of all documents under one tenant at a node: 10,000 keys of three nodes with monthly
/// versions for three years.
pub const MAX_DOCUMENT_BYTES_PER_TENANT: u64 = 1024 * 1024 * 1024;

/// Bytes of all versions of one roster or tenant past which its administrators add no other: sixty-four
/// that each keep [`MAX_FRONTIER`] documents. Recovery keys may, so nobody is locked out for good.
pub const MAX_BYTES_PER_AUTHORITY: usize = 64 * MAX_AUTHORITY_BYTES;

/// Policies of one tenant: each is read for every request that concerns its keys.
pub const MAX_POLICIES_PER_TENANT: u32 = 64;

/// Bytes of one policy.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// Terms of one tenant: each is read for every request of its principals.
pub const MAX_TERMS_PER_TENANT: u32 = 16;

/// Days for which a grant may last, as a roster may.
pub const GRANT_DAYS: u64 = 400;

/// Seconds that a key waits for its destruction at least: a week, in which somebody notices.
pub const MIN_DESTRUCTION_SECONDS: u64 = 7 * 86_400;

/// Seconds that a key may wait for its destruction at most.
pub const MAX_DESTRUCTION_SECONDS: u64 = 400 * 86_400;

/// Seconds between two versions of a key that rotates by itself, at least.
pub const MIN_ROTATION_SECONDS: u64 = 86_400;

/// Changes of state that one key document remembers.
pub const MAX_STATE_CHANGES: usize = 256;

/// Retired public keys that a principal remembers: at one rotation a month for over a year.
pub const MAX_RETIRED_KEYS: usize = 16;

/// Heads of one document past which no principal adds another: people race in twos and threes, and each
/// head is read for every request that concerns the key. Administrators may, to merge.
pub const MAX_HEADS_PER_DOCUMENT: usize = 16;

/// Bytes of all versions of one document past which no principal adds another: half of a reply, which a
/// key of 128 nodes reaches after 20 years of monthly rotation. Administrators may.
pub const MAX_BYTES_PER_DOCUMENT: usize = 4 * 1024 * 1024;

/// Documents in one `PutDocuments`.
pub const MAX_DOCUMENTS_PER_REQUEST: usize = 64;

/// Signatures on one envelope: a certificate carries one of each participant.
pub const MAX_SIGNATURES: usize = 2 * MAX_COMMITTEE as usize;

/// Pairs of one encryption context.
pub const MAX_CONTEXT_PAIRS: usize = 32;

/// Bytes of one encryption context, canonically encoded.
pub const MAX_CONTEXT_BYTES: usize = 4096;

/// Bytes of a name or alias that people choose.
pub const MAX_NAME_BYTES: usize = 128;

/// Open ceremony sessions at one node. What they hold until they expire is bounded by
/// [`MAX_SESSION_BYTES`].
pub const MAX_SESSIONS: usize = 1024;

/// Open ceremony sessions of one principal at one node: half of its tenant's, so that none shuts out
/// the others of its tenant.
pub const MAX_SESSIONS_PER_PRINCIPAL: usize = 64;

/// Open ceremony sessions of all principals of one tenant at one node: an eighth of the table.
pub const MAX_SESSIONS_PER_TENANT: usize = 128;

/// Sessions that every tenant may open as long as the table is not full to the last place. Past
/// three quarters of [`MAX_SESSIONS`] and of [`MAX_SESSION_BYTES`] only tenants with fewer than these
/// open another: those with many cannot shut out those with few.
pub const SESSIONS_OF_EVERY_TENANT: usize = 4;

/// Bytes on disk of all open sessions at one node, counted by [`session_bytes`]: some 250 sessions of
/// the largest committee.
pub const MAX_SESSION_BYTES: usize = 16 * 1024 * 1024;

/// Bytes on disk of one tenant's open sessions at one node: a quarter of all, which is 62 sessions of
/// the largest committee.
pub const MAX_SESSION_BYTES_PER_TENANT: usize = 4 * 1024 * 1024;

/// What an open session may come to hold on disk: its secrets, sealed, its own messages, and a signed
/// round 0 of each participant (about 440 bytes). 66 KiB with 128 participants.
#[must_use]
pub const fn session_bytes(participants: usize) -> usize {
    2048 + 512 * participants
}

/// Rounds of ceremonies in one `CeremonyBatch`: as many as one principal may have sessions. With three nodes
/// they take a core about 0.1 s, and their replies 100 KB.
pub const MAX_CEREMONIES_PER_REQUEST: usize = MAX_SESSIONS_PER_PRINCIPAL;

/// Messages and signatures of participants in one `CeremonyBatch`, all ceremonies together: four rounds of the
/// largest committee, so that no core is held for longer than by as many labels.
pub const MAX_PARTICIPANTS_PER_REQUEST: usize = 4 * MAX_COMMITTEE as usize;

/// Attempts of one order. A last mover can bias a key by aborting, so it may do so few times.
pub const MAX_ATTEMPTS_PER_ORDER: u32 = 16;

/// Sessions of one reshare that a node signs and that never come to a certificate: each keeps a share.
pub const MAX_PROMISES_PER_PARENT: usize = 16;

/// Seconds until an unsigned session expires.
pub const SESSION_SECONDS: u64 = 600;

/// Seconds after which a principal that has all its places at a node gives up that of its oldest reshare for another
/// one. What is under way is done by then, also in batches of large committees on slow machines; what a coordinator left that
/// was killed must not hold up the next for long.
pub const SESSION_PLACE_SECONDS: u64 = 60;

/// Seconds that an object's creation time may differ from a node's clock when encrypting.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 60;

/// Seconds from T nodes' clocks within which the SDK stamps.
pub const STAMP_TOLERANCE_SECONDS: u64 = 30;

/// Days after which a roster is no longer believed, so that retired nodes cannot replay an old one.
pub const ROSTER_DAYS: u64 = 400;

/// Days after which a principal expires unless its document says otherwise.
pub const PRINCIPAL_DAYS: u64 = 90;

/// Inclusion proofs of one `GetProof`: each needs some hundred hashes to be read.
pub const MAX_PROOFS_PER_REQUEST: usize = 64;

/// Marks of one `PutMarks`: one of each node of the largest committee.
pub const MAX_MARKS_PER_REQUEST: usize = MAX_COMMITTEE as usize;

/// Stanzas of one sealed object: readers and versions, with room; bounds the header.
pub const MAX_STANZAS: usize = 64;
