//! What the control plane writes.

use quorate_sdk::{
    Above, AdminKey, Client, KeyChange, NewGrant, NewTenant, Profile, TenantRequest,
};
use quorate_types::Action;
use quorate_wire::proto::v1;
use serde_json::{Value, json};

use crate::DAY;
use crate::cluster::NODES;
use crate::objects::context;

/// Policies about somebody who is not there, so that they change nothing of what else the set shows.
const POLICY: &str = "@id(\"guests\") forbid (principal, action, resource)\n\
    when { principal.name == \"guest\" && resource.hasTag(\"class\") };\n\
    permit (principal, action == Quorate::Action::\"decrypt\", resource)\n\
    when { principal.name == \"auditor\" && context.encryption.hasTag(\"customer\") };\n";

/// A tenant below with terms, a policy that forbids and permits somebody who is not there, a grant to the tenant below,
/// tags and a period of a key, and a principal that has another key than it had.
pub async fn control_plane(client: &Client, admin: &AdminKey) -> (Value, Vec<v1::Envelope>) {
    let administration = client.admin(admin);
    let mut branch = Profile::create("profiles/branch").unwrap();
    let new = NewTenant {
        name: "branch".into(),
        requests: vec![TenantRequest::of(&branch).unwrap()],
        quorum: None,
        recovery: None,
        support_contact: "help@branch.example".into(),
    };
    let (made, _) = administration.create_tenants(Above::Tenant, vec![new]).await.unwrap();
    let (below, invitation) = (made[0].id, &made[0].invitation);
    let told = invitation.fingerprint();
    let joined = branch.prepare_tenant(invitation, told, "branch").await.unwrap();
    branch.join_tenant(&joined, invitation).unwrap();
    assert_eq!(client.put_documents(&joined.documents()).await.confirmed(), NODES);
    let contact = Some("sales@fixtures.example");
    administration.set_quota("branch", contact, |quota| quota.keys = 10).await.unwrap();
    administration.set_policy("house", POLICY).await.unwrap();
    let key = client.key("files").await.unwrap();
    let class = ("class".to_owned(), Some("secret".to_owned()));
    for change in [KeyChange::Tags([class].into()), KeyChange::Rotation(90 * DAY)] {
        let key = client.key("files").await.unwrap();
        client.change_key(&key, &change, Some(admin)).await.unwrap();
    }
    let grantee = branch.membership().unwrap().principal;
    let grant = NewGrant {
        grantee,
        grantee_tenant: below,
        actions: vec![Action::Decrypt],
        key: key.id(),
        context: context(&[("customer", "4711")]),
        days: 7,
    };
    let (grant, _) = client.create_grant(&grant, Some(admin)).await.unwrap();
    let mut app = Profile::open("profiles/app").unwrap();
    let before = app.public_key().to_string();
    app.rotate_key(&Client::open(&app).unwrap()).await.unwrap();
    let known = json!({
        "tenant": below.to_string(),
        "grantee": grantee.to_string(),
        "grant": grant.to_string(),
        "policy": POLICY,
        "retired": before,
    });
    (known, joined.documents())
}
