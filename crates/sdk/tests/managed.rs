//! Orders of keys of tenants that another tenant's administrator manages, against real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::sync::Arc;
use std::time::SystemTime;

use quorate_sdk::{
    Above, AdminKey, BatchedKey, Client, Digest, KeepNoDealings, Key, KeyId, KeyOrder,
    KeySpecRequest, KeyVersion, ManagedKey, NewKeyOrder, NewTenant, OrderChange, SignedOrders,
    TenantRequest, UnixSeconds,
};
use support::Cluster;

fn spec() -> KeySpecRequest {
    KeySpecRequest { alias: "files".into(), threshold: 2, ..Default::default() }
}

/// Tenants below the cluster's own, and a key of each whose ceremonies the client runs.
async fn tenants(cluster: &Cluster, of: &[(&str, &AdminKey)]) -> Vec<KeyId> {
    let client = &cluster.client;
    let admin = client.admin(&cluster.admin);
    let new = of.iter().map(|(name, administrator)| NewTenant {
        name: (*name).to_owned(),
        requests: vec![TenantRequest::by(administrator)],
        quorum: None,
        recovery: None,
        support_contact: String::new(),
    });
    let (made, _) = admin.create_tenants(Above::Tenant, new.collect()).await.unwrap();
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut orders = Vec::new();
    for (tenant, (_, administrator)) in made.iter().zip(of) {
        let new = NewKeyOrder {
            tenant: tenant.id,
            authority: Digest::from_bytes(*tenant.id.as_bytes()),
            key: spec(),
            coordinator: client.principal(),
            principals: Vec::new(),
        };
        orders.push(KeyOrder::sign(client, administrator, new, UnixSeconds(at)).unwrap());
    }
    let ids = orders.iter().map(KeyOrder::key).collect();
    let told = |_, (_, made): quorate_sdk::Provisioned| drop(made.unwrap());
    client.provision_keys(orders, Arc::new(KeepNoDealings), told).await;
    ids
}

async fn keys(client: &Client, ids: &[KeyId]) -> Vec<Key> {
    client.keys_of(ids, &[]).await.into_iter().map(Result::unwrap).collect()
}

async fn order_all(
    client: &Client,
    keys: &[Key],
    administrator: Option<&AdminKey>,
) -> SignedOrders {
    let anew = OrderChange { anew: true, ..OrderChange::default() };
    let wanted: Vec<_> =
        keys.iter().map(|key| (key.clone(), KeyVersion::FIRST, anew.clone())).collect();
    client.sign_orders(&wanted, administrator).await.unwrap()
}

fn number(key: &Key) -> u32 {
    key.versions()[0].order.as_ref().unwrap().number
}

/// The orders of keys of several tenants are signed at once, each under its own tenant, and the shares are dealt; a key
/// of a tenant that others administer is named, and holds up no other.
///
/// Fails where orders are signed under the client's own tenant: no node takes any.
#[tokio::test(flavor = "multi_thread")]
async fn orders_of_other_tenants_keys_are_signed_under_their_own_tenants() {
    let cluster = Cluster::start(3).await;
    let (client, admin) = (&cluster.client, &cluster.admin);
    let other = AdminKey::generate();
    let own = cluster.create("own", 2).await.key;
    let of = [("shop-1", admin), ("shop-2", admin), ("independent", &other)];
    let mut ids = tenants(&cluster, &of).await;
    let independent = ids[2];
    ids.push(own.id());
    let all = keys(client, &ids).await;

    // Without an administrator's key only those of the principal's own tenant are ordered.
    let signed = order_all(client, &all, None).await;
    let reports: Vec<KeyId> = signed.in_force.iter().map(|report| report.key).collect();
    assert_eq!(reports, [own.id()]);
    let codes: Vec<&str> = signed.refused.iter().map(|refused| refused.error.code()).collect();
    assert_eq!(codes, ["not_administrator"; 3]);

    let all = keys(client, &ids).await;
    let signed = order_all(client, &all, Some(admin)).await;
    assert_eq!(signed.in_force.len(), 3);
    for report in &signed.in_force {
        let confirmed = report.delivered.as_ref().map(quorate_sdk::Delivered::confirmed);
        // That of its own waits already.
        assert_eq!(confirmed, (report.key != own.id()).then_some(3), "{report:?}");
    }
    let [refused] = signed.refused.as_slice() else { panic!("{signed:?}") };
    assert_eq!((refused.key, refused.error.code()), (independent, "not_administrator"));
    let numbers: Vec<u32> = keys(client, &ids).await.iter().map(number).collect();
    assert_eq!(numbers, [2, 2, 1, 2]);
    for id in ids.iter().filter(|id| **id != independent) {
        let dealt = client.reshare_key(*id, KeyVersion::FIRST, |_| ()).await.unwrap();
        assert_eq!((dealt.height, dealt.holders.len()), (2, 3));
    }
    // Singly it is an error; and where the order in force says it already, nobody must sign.
    let anew = OrderChange { anew: true, ..OrderChange::default() };
    let refused = client.new_order(independent, KeyVersion::FIRST, anew, Some(admin)).await;
    assert_eq!(refused.unwrap_err().code(), "not_administrator");
    let same = client.new_order(ids[0], KeyVersion::FIRST, OrderChange::default(), None).await;
    assert_eq!((same.as_ref().unwrap().number, &same.unwrap().delivered), (2, &None));
}

/// A tenant that is suspended in the middle of a list holds up nobody that is handed over with it; and the orders follow
/// the tenant's version that is in force, whatever it was when the key was made.
///
/// Fails where what one refuses refuses all that were handed over together.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_node_takes_holds_up_no_other_tenants() {
    let cluster = Cluster::start(3).await;
    let (client, admin) = (&cluster.client, &cluster.admin);
    let ids = tenants(&cluster, &[("shop-1", admin), ("shop-2", admin), ("shop-3", admin)]).await;
    let all = keys(client, &ids).await;
    client.admin(admin).suspend_tenant("shop-2", "unpaid", None).await.unwrap();
    let signed = order_all(client, &all, Some(admin)).await;
    let reports: Vec<KeyId> = signed.in_force.iter().map(|report| report.key).collect();
    assert_eq!(reports, [ids[0], ids[2]]);
    let [refused] = signed.refused.as_slice() else { panic!("{signed:?}") };
    assert_eq!((refused.key, refused.error.code()), (ids[1], "tenant_suspended"));
    // It is not shown any more either.
    let again = client.keys_of(&ids, &[]).await;
    let codes: Vec<Option<&str>> =
        again.iter().map(|key| key.as_ref().err().map(quorate_sdk::Error::code)).collect();
    assert_eq!(codes, [None, Some("tenant_suspended"), None]);
}

/// Orders of new keys and of those that are there are signed by the same rule: whoever may not order a tenant's keys may
/// not order others for them.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_order_a_tenants_new_keys_orders_its_others() {
    let cluster = Cluster::start(3).await;
    let (client, other) = (&cluster.client, AdminKey::generate());
    let key = tenants(&cluster, &[("shop", &other)]).await.remove(0);
    for (administrator, code) in [(&cluster.admin, Some("not_administrator")), (&other, None)] {
        let new = ManagedKey { tenant: "shop".into(), key: spec(), principals: Vec::new() };
        let wanted = vec![BatchedKey { new, before: None }];
        let ordered = client.admin(administrator).order_keys(wanted).await.unwrap().remove(0);
        assert_eq!(ordered.err().as_ref().map(quorate_sdk::Error::code), code);
        let signed = order_all(client, &keys(client, &[key]).await, Some(administrator)).await;
        let refused = signed.refused.first().map(|refused| refused.error.code());
        assert_eq!((refused, signed.in_force.len()), (code, usize::from(code.is_none())));
    }
}
