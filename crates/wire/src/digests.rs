//! Digests of the things that documents, ceremonies and proofs refer to.

use prost::Message;
use quorate_types::{Digest, KeyId, KeyVersion, SessionId};

use crate::Transcript;
use crate::proto::v1::{EvaluateRequest, Order, Session};

/// The digest of a document version: of the payload bytes that were signed.
#[must_use]
pub fn document_digest(payload: &[u8]) -> Digest {
    Transcript::new("document").field(payload).digest()
}

/// The digest of an order of a key version. Bound to the key and version, so that an order copied
/// into another key document is another order.
#[must_use]
pub fn order_digest(key: KeyId, version: KeyVersion, order: &Order) -> Digest {
    Transcript::new("order")
        .field(key.as_bytes())
        .number(u64::from(version.get()))
        .field(&order.encode_to_vec())
        .digest()
}

/// A session's id: the digest of all that it is bound to.
#[must_use]
pub fn session_id(session: &Session) -> SessionId {
    let digest = Transcript::new("session").field(&session.encode_to_vec()).digest();
    SessionId::from_bytes(*digest.as_bytes())
}

/// The digest of an evaluation request, which batch proofs are bound to: of its canonical encoding,
/// whatever encoding it was sent in.
#[must_use]
pub fn request_digest(request: &EvaluateRequest) -> Digest {
    Transcript::new("evaluate-request").field(&request.encode_to_vec()).digest()
}

/// The digest of all round-0 payloads of a reshare: of the members of the new committee in the order of
/// their indices, then of the other dealers in the order of theirs.
#[must_use]
pub fn reshare_round0_digest<T: AsRef<[u8]>>(payloads: impl ExactSizeIterator<Item = T>) -> Digest {
    Transcript::new("reshare-round0-set").list(payloads).digest()
}

/// The digest of all round-0 payloads of a session, in the order of indices.
#[must_use]
pub fn round0_digest<T: AsRef<[u8]>>(payloads: impl ExactSizeIterator<Item = T>) -> Digest {
    Transcript::new("dkg-round0-set").list(payloads).digest()
}
