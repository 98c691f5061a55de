//! Certificates that are not what they should be.

use prost::Message;
use quorate_documents::Certificate;
use quorate_node::{Request, RowKey};
use quorate_schemes::dkg::{ReceiveKey, Ristretto255};
use quorate_wire::proto::store::v1::SignedRow;
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode, SigningKey, strict};
use rand_core::Rng;

use super::{By, Right, Stop, Visited, Visitor, defect};
use crate::cluster::OrderedKey;

/// A certificate with its statement changed, and signed anew by whoever has these keys.
fn forged(
    certificate: &Request,
    by: &SigningKey,
    change: impl FnOnce(&mut v1::CertificateStatement),
) -> Result<Request, Stop> {
    let Request::PutCertificate(mut request) = certificate.clone() else {
        return Err(defect("no certificate"));
    };
    let envelope = request.certificate.as_mut().ok_or_else(|| defect("no certificate"))?;
    let mut statement: v1::CertificateStatement =
        strict::decode("CertificateStatement", &envelope.payload)
            .map_err(|_| defect("no statement"))?;
    change(&mut statement);
    envelope.payload = strict::encode(&statement);
    envelope.signatures = vec![by.sign(PayloadType::Certificate, &envelope.payload)];
    Ok(Request::PutCertificate(request))
}

/// A key of the node alone, for which it has signed; and its certificate, which it does not have.
fn signed(visitor: &mut Visitor<'_>) -> Result<(OrderedKey, Request), Stop> {
    let (_, key) = visitor.lone(|_| {})?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    visitor.deal_all(&mut ceremony)?;
    let signed = visitor.sign(&ceremony)?;
    let certificate = visitor.certificate(&ceremony, &signed)?;
    Ok((key, certificate))
}

pub(super) fn forged_in_name(visitor: &mut Visitor<'_>) -> Visited {
    let (_, good) = signed(visitor)?;
    let stolen = visitor.node()?.identity_again();
    let point = ReceiveKey::<Ristretto255>::random(visitor.rng).public().to_vec();
    let other = forged(&good, &stolen, |statement| statement.commitments = vec![point])?;
    let code = RefusalCode::CertificateForged;
    visitor.refused(By::Courier, &other, code, "it never signed")?;
    visitor.demand(By::Courier, &good, Right::Yes)?;
    // Also once it has the certificate.
    visitor.refused(By::Courier, &other, code, "it never signed")
}

pub(super) fn old_identity(visitor: &mut Visitor<'_>) -> Visited {
    let (_, good) = signed(visitor)?;
    let stolen = visitor.node()?.identity_again();
    let point = ReceiveKey::<Ristretto255>::random(visitor.rng).public().to_vec();
    // Of the transcript that the node signed, so that everything but the statement is right.
    let other = forged(&good, &stolen, |statement| statement.commitments = vec![point])?;
    let new = SigningKey::generate(visitor.rng);
    visitor.node()?.take_identity(Some(new));
    let code = RefusalCode::CertificateInvalid;
    let found = visitor.refused(By::Courier, &other, code, "has no part");
    let taken = found.and_then(|()| visitor.demand(By::Courier, &good, Right::Yes));
    visitor.node()?.take_identity(None);
    taken.map(drop)
}

pub(super) fn damaged(visitor: &mut Visitor<'_>) -> Visited {
    let (key, good) = signed(visitor)?;
    let place = RowKey::signed(key.id, key.version);
    let whole = visitor.node()?.store().row(&place).map(<[u8]>::to_vec);
    let whole = whole.ok_or_else(|| defect("nothing is signed"))?;
    let mut row = SignedRow::decode(whole.as_slice()).map_err(|_| defect("a row"))?;
    // What the transcript ends with says what else was agreed: it decodes, whatever it is.
    if let Some(last) = row.transcript.last_mut() {
        *last ^= 1 << (visitor.rng.next_u32() % 8);
    }
    visitor.node()?.damage(place.clone(), row.encode_to_vec());
    let found = visitor.refused(By::Courier, &good, RefusalCode::StorageFailed, "transcript");
    visitor.node()?.damage(place, whole);
    found?;
    // What the simulator noted of the damaged row is not what the node signed.
    let (id, node) = visitor.nodes.get(visitor.at).ok_or_else(|| defect("nobody is honest"))?;
    visitor.judge.note_transcripts(*id, node, visitor.keys);
    visitor.demand(By::Courier, &good, Right::Yes).map(drop)
}

/// Whoever fetches a certificate takes none of another key version, order or suite, though its participants signed it.
pub(super) fn other_keys(visitor: &mut Visitor<'_>) -> Visited {
    let (key, good) = signed(visitor)?;
    let identity = visitor.node()?.identity_again();
    type Change = (fn(&mut v1::CertificateStatement), &'static str);
    let changes: [Change; 7] = [
        (|_| {}, ""),
        (|statement| statement.key.reverse(), "key"),
        (|statement| statement.key_version += 1, "key version"),
        (|statement| statement.order.reverse(), "order"),
        (|statement| statement.order_number += 1, "number of an order"),
        (|statement| statement.suite.push('!'), "suite"),
        (
            |statement| {
                statement.height = 2;
                statement.parent = vec![7; 32];
            },
            "parent",
        ),
    ];
    for (change, what) in changes {
        let Request::PutCertificate(other) = forged(&good, &identity, change)? else { continue };
        let envelope = other.certificate.ok_or_else(|| defect("no certificate"))?;
        let taken = Certificate::verify(envelope, key.id, key.version, &key.order).is_ok();
        let right = taken == what.is_empty();
        visitor.concludes(right, &format!("a client takes a certificate of another {what}"));
    }
    Ok(())
}
