//! Versions of requests at a node: what it speaks it says, and refuses the rest by a code of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use prost::Message;
use quorate_wire::Versions;
use quorate_wire::proto::v1;
use support::{Answer, Client, Cluster};

async fn post(
    client: &mut Client,
    method: &str,
    version: Option<&str>,
    request: &impl Message,
) -> Answer {
    let mut head = Request::post(format!("/quorate.v1.Node/{method}"))
        .header("content-type", "application/proto");
    if let Some(version) = version {
        head = head.header("quorate-version", version);
    }
    client.send(head.body(Full::new(Bytes::from(request.encode_to_vec()))).unwrap()).await.unwrap()
}

/// A request of a version that nobody speaks is refused without being read, says which versions are spoken, leaves no audit
/// record and uses no share; the same request in a version that is spoken is answered, on the same connection. Every reply says
/// what is spoken, and `Info` is answered whatever the version. Fails where the version is not looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_another_version_is_refused_by_what_is_spoken() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    let request = cluster.evaluate(0, &key, 1);
    let status = v1::StatusRequest { node: cluster.places[0].id() };
    let spoken = Versions::SPOKEN;
    for alpn in ["h2", "http/1.1"] {
        let mut client = cluster.client_as(0, &cluster.owner, alpn).await;
        let before: v1::StatusReply = client.call("Status", &status).await;
        assert_eq!(before.lowest_version, spoken.lowest().get());
        assert_eq!(before.highest_version, spoken.highest().get());
        assert!(before.store_format >= 3 && before.store_format == before.newest_store_format);
        for version in ["99", "4294967295"] {
            let answer = post(&mut client, "Evaluate", Some(version), &request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert_eq!(answer.headers["quorate-versions"], spoken.to_string());
            assert!(!answer.headers.contains_key("quorate-audit"));
            let refusal = answer.refusal();
            assert_eq!(refusal.code, "version_unsupported");
            assert!(refusal.message.contains(version), "{}", refusal.message);
            assert_eq!(
                (refusal.lowest_version, refusal.highest_version),
                (spoken.lowest().get(), spoken.highest().get())
            );
        }
        for version in ["0", "x", "1-2"] {
            let answer = post(&mut client, "Evaluate", Some(version), &request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{version}");
            assert!(answer.json()["details"].is_null());
            assert_eq!(answer.headers["quorate-versions"], spoken.to_string());
        }
        let info = post(&mut client, "Info", Some("99"), &v1::InfoRequest {}).await;
        assert_eq!(info.status, StatusCode::OK);
        let info = v1::InfoReply::decode(info.body).unwrap();
        assert_eq!(info.protocols, spoken.numbers().collect::<Vec<_>>());
        let after: v1::StatusReply = client.call("Status", &status).await;
        assert_eq!(after.audit_records, before.audit_records + 1, "of the first status alone");
        for version in [None, Some("1")] {
            let answer = post(&mut client, "Evaluate", version, &request).await;
            assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
            assert_eq!(answer.headers["quorate-versions"], spoken.to_string());
        }
    }
    cluster.stop().await;
}
