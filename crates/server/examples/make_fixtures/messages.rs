//! A request and a reply of every method.

use std::collections::BTreeSet;

use prost::Message;
use quorate_documents::Statement;
use quorate_sdk::{Key, Profile};
use quorate_types::Action;
use quorate_wire::proto::v1::{self, ceremony_call::Call};
use quorate_wire::{SigningKey, digests};

use crate::ceremonies::Dealt;
use crate::cluster::Cluster;
use crate::reshared::DealtAnew;
use crate::support::now;

/// Everything but ceremonies, asked of the first node, about the second version of a key.
pub async fn of_use(cluster: &mut Cluster, key: &Key, app: &Profile) {
    let node = cluster.id(0);
    let _: v1::InfoReply = cluster.call(0, "Info", &v1::InfoRequest {}).await;
    let status = v1::StatusRequest { node: node.clone() };
    let _: v1::StatusReply = cluster.call(0, "Status", &status).await;
    let which = Some(v1::get_key_request::Which::Alias(key.alias().to_owned()));
    let get = v1::GetKeyRequest { node: node.clone(), which };
    let got: v1::GetKeyReply = cluster.call(0, "GetKey", &get).await;
    let list = v1::ListKeysRequest { node: node.clone(), after: Vec::new() };
    let _: v1::ListKeysReply = cluster.call(0, "ListKeys", &list).await;
    let evaluate = v1::EvaluateRequest {
        node: node.clone(),
        key: got.keys[0].id.clone(),
        key_version: 2,
        generation: key.versions()[1].generation.unwrap().as_bytes().to_vec(),
        action: Action::Encrypt.number(),
        contexts: vec![v1::Context {
            pairs: vec![v1::Attribute { name: "customer".into(), value: "4711".into() }],
        }],
        items: (0..3)
            .map(|n| v1::Item {
                nonce: vec![n; 24],
                created_at: now().0,
                creator: Vec::new(),
                context: u32::from(n % 2),
            })
            .collect(),
        with_proof: true,
        from_version: 0,
    };
    let _: v1::EvaluateReply = cluster.call(0, "Evaluate", &evaluate).await;
    let state =
        v1::ReshareStateRequest { node: node.clone(), key: got.keys[0].id.clone(), key_version: 2 };
    let _: v1::ReshareStateReply = cluster.call(0, "ReshareState", &state).await;
    let audit = v1::GetAuditRequest { node: node.clone(), limit: 30, ..Default::default() };
    let _: v1::GetAuditReply = cluster.call(0, "GetAudit", &audit).await;
    let mut marks = Vec::new();
    for at in 0..2 {
        let proof = v1::GetProofRequest { node: cluster.id(at), ..Default::default() };
        let proof: v1::GetProofReply = cluster.call(at, "GetProof", &proof).await;
        marks.push(v1::Mark { checkpoint: proof.checkpoint, ..Default::default() });
    }
    let marks = v1::PutMarksRequest { node: node.clone(), marks };
    let _: v1::PutMarksReply = cluster.call(0, "PutMarks", &marks).await;
    let usage = v1::GetUsageRequest { node: node.clone(), ..Default::default() };
    let _: v1::GetUsageReply = cluster.call(0, "GetUsage", &usage).await;
    let as_app = v1::EvaluateRequest { action: Action::Decrypt.number(), ..evaluate.clone() };
    let mut refused = cluster.connect(0, app.principal_key()).await;
    let refused = refused.post("Evaluate", "application/proto", as_app.encode_to_vec()).await;
    cluster.output.message("messages/Refusal", &refused.refusal());
    cluster.output.write("messages/Refusal.connect.json", &refused.body);

    // Who asks for the generation before is shown the certificate of the one in use.
    let shown = got.keys[0].certificates.iter();
    let shown = shown.map(|envelope| Statement::from_payload(&envelope.payload).unwrap());
    let in_use = shown.filter(|s| s.version().get() == 2).max_by_key(Statement::rank).unwrap();
    let generation = in_use.parent().unwrap().as_bytes().to_vec();
    let before = v1::EvaluateRequest { generation, ..evaluate };
    let owner = SigningKey::from_seed(cluster.owner.seed().duplicate());
    let mut refused = cluster.connect(0, &owner).await;
    let refused = refused.post("Evaluate", "application/proto", before.encode_to_vec()).await;
    let refusal = refused.refusal();
    assert_eq!(refusal.code, "generation_not_held");
    cluster.output.message("messages/Refusal.generation", &refusal);
}

/// Every round of both ceremonies in one request to the first node, which has answered each of them before.
pub async fn batch(
    cluster: &mut Cluster,
    [dealt, signed]: [&Dealt; 2],
    [dealt_anew, signed_anew]: [&DealtAnew; 2],
    certificate: v1::PutCertificateRequest,
) {
    let node = cluster.id(0);
    let key = signed.session.key.clone();
    let calls = [
        Call::Open(v1::DkgOpenRequest { node: node.clone(), session: Some(dealt.session.clone()) }),
        Call::Deal(v1::DkgDealRequest {
            node: node.clone(),
            session: digests::session_id(&dealt.session).as_bytes().to_vec(),
            round0: dealt.round0.clone(),
        }),
        Call::Sign(cluster.signing(signed).remove(0)),
        Call::Signature(v1::DkgSignatureRequest { node: node.clone(), key, key_version: 1 }),
        Call::Certificate(certificate),
        Call::ReshareState(v1::ReshareStateRequest {
            node: node.clone(),
            key: signed_anew.session.key.clone(),
            key_version: 1,
        }),
        Call::ReshareOpen(v1::ReshareOpenRequest {
            node: node.clone(),
            session: Some(dealt_anew.session.clone()),
        }),
        Call::ReshareDeal(cluster.dealing_anew(dealt_anew, 0)),
        Call::ReshareSign(cluster.signing_anew(signed_anew).remove(0).1),
    ];
    let calls = calls.into_iter().map(|call| v1::CeremonyCall { call: Some(call) }).collect();
    let request = v1::CeremonyBatchRequest { node, calls };
    let reply: v1::CeremonyBatchReply = cluster.call(0, "CeremonyBatch", &request).await;
    assert_eq!(reply.results.len(), 9);
    for one in reply.results {
        let refused = matches!(one.result, Some(v1::ceremony_result::Result::Refusal(_)) | None);
        assert!(!refused, "{one:?}");
    }
    let missing = quorate_node::METHODS.iter().filter(|method| !cluster.methods.contains(**method));
    let missing: BTreeSet<&str> = missing.copied().collect();
    assert!(missing.is_empty(), "a set has messages of every method: {missing:?}");
}
