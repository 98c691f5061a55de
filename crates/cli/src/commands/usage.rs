//! `quorate tenant usage`: what tenants have and use, as each node counts it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_sdk::{NodeAudit, TenantId, TenantUsage};
use serde::Serialize;

use crate::app::App;
use crate::commands::audit::{NodeLine, some_read, warn_unread};
use crate::failure::Outcome;
use crate::output;

/// One day at one node.
#[derive(Debug, Serialize)]
struct Day {
    /// 2026-11-22.
    day: String,
    requests: u64,
    labels: u64,
}

/// What one node has answered to a tenant's principals.
#[derive(Debug, Serialize)]
struct AtNode {
    node: String,
    /// Ever.
    requests: u64,
    labels: u64,
    /// Since midnight UTC.
    requests_today: u64,
    labels_today: u64,
    /// The last days on which there were any.
    days: Vec<Day>,
}

/// One tenant. What it has is what most nodes count.
#[derive(Debug, Serialize)]
struct Tenant {
    id: String,
    name: Option<String>,
    tenants: u64,
    principals: u64,
    keys: u64,
    document_bytes: u64,
    nodes: Vec<AtNode>,
    /// Where nodes count otherwise what must be the same everywhere.
    differences: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    nodes: Vec<NodeLine>,
    tenants: Vec<Tenant>,
}

/// Runs it.
pub async fn run(app: &App, selector: Option<&str>, below: bool) -> Outcome {
    let client = app.client()?;
    let known = client.list_tenants().await?;
    let tenant = match selector {
        None => None,
        Some(selector) => match selector.parse::<TenantId>() {
            Ok(id) => Some(id),
            Err(_) => Some(client.tenant_info(selector).await?.id),
        },
    };
    let names: BTreeMap<TenantId, String> = known.into_iter().map(|t| (t.id, t.name)).collect();
    let usages = client.usage(tenant, below).await;
    some_read(usages.iter().map(|at| at.result.as_ref().err()))?;
    let value = shown(&usages, &names);
    warn_unread(app, &value.nodes);
    app.out.result(&value, || text(&value));
    for tenant in &value.tenants {
        for difference in &tenant.differences {
            let name = tenant.name.as_ref().unwrap_or(&tenant.id);
            app.out.warn(&format!("{name}: {difference}"));
        }
    }
    app.warnings(&client);
    Ok(())
}

/// What most nodes say.
fn most(values: impl Iterator<Item = u64>) -> u64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(value, _)| value)
}

fn shown(usages: &[NodeAudit<Vec<TenantUsage>>], names: &BTreeMap<TenantId, String>) -> Shown {
    let nodes = usages.iter().map(|at| NodeLine::new(&at.node.name, at.result.as_ref().err()));
    let mut tenants: BTreeMap<TenantId, Vec<(&str, &TenantUsage)>> = BTreeMap::new();
    for at in usages {
        for usage in at.result.iter().flatten() {
            tenants.entry(usage.tenant).or_default().push((at.node.name.as_str(), usage));
        }
    }
    let read: Vec<&str> =
        usages.iter().filter(|at| at.result.is_ok()).map(|at| at.node.name.as_str()).collect();
    let mut tenants: Vec<Tenant> = tenants
        .into_iter()
        .map(|(id, found)| tenant(id, names.get(&id).cloned(), &found, &read))
        .collect();
    tenants.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Shown { nodes: nodes.collect(), tenants }
}

type Count = fn(&TenantUsage) -> u64;

/// What every node must count alike, once each has all documents.
const ALIKE: [(&str, Count); 3] = [
    ("tenants below it", |usage| u64::from(usage.tenants)),
    ("principals", |usage| u64::from(usage.principals)),
    ("keys", |usage| u64::from(usage.keys)),
];

fn tenant(
    id: TenantId,
    name: Option<String>,
    found: &[(&str, &TenantUsage)],
    read: &[&str],
) -> Tenant {
    let common = |of: Count| most(found.iter().map(|(_, usage)| of(usage)));
    let mut differences = Vec::new();
    for (what, of) in ALIKE {
        let common = common(of);
        for (node, usage) in found.iter().filter(|(_, usage)| of(usage) != common) {
            let count = of(usage);
            differences.push(format!(
                "{node} counts {count} {what}, and most nodes {common}; `quorate cluster sync` brings what is missing"
            ));
        }
    }
    for node in read.iter().filter(|node| found.iter().all(|(name, _)| name != *node)) {
        differences.push(format!("{node} does not know it; `quorate cluster sync` brings it"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let [(_, tenants), (_, principals), (_, keys)] = ALIKE;
    Tenant {
        id: id.to_string(),
        name,
        tenants: common(tenants),
        principals: common(principals),
        keys: common(keys),
        document_bytes: common(|usage| usage.document_bytes),
        nodes: found.iter().map(|(node, usage)| at_node(node, usage, now / 86_400)).collect(),
        differences,
    }
}

fn at_node(node: &str, usage: &TenantUsage, today: u64) -> AtNode {
    let now = usage.days.iter().find(|day| day.day == today);
    AtNode {
        node: node.to_owned(),
        requests: usage.requests,
        labels: usage.labels,
        requests_today: now.map_or(0, |day| day.requests),
        labels_today: now.map_or(0, |day| day.labels),
        days: usage
            .days
            .iter()
            .map(|day| Day {
                day: output::time(day.day.saturating_mul(86_400)).chars().take(10).collect(),
                requests: day.requests,
                labels: day.labels,
            })
            .collect(),
    }
}

fn text(value: &Shown) -> String {
    if value.tenants.is_empty() {
        return "no tenants".to_owned();
    }
    let heads = ["TENANT", "KEYS", "PRINCIPALS", "NODE", "REQUESTS", "LABELS", "TODAY", "LABELS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for tenant in &value.tenants {
        let name = tenant.name.as_ref().unwrap_or(&tenant.id);
        for (number, at) in tenant.nodes.iter().enumerate() {
            let own = |text: String| if number == 0 { text } else { String::new() };
            rows.push(vec![
                own(name.clone()),
                own(tenant.keys.to_string()),
                own(tenant.principals.to_string()),
                at.node.clone(),
                at.requests.to_string(),
                at.labels.to_string(),
                at.requests_today.to_string(),
                at.labels_today.to_string(),
            ]);
        }
    }
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(keys: u32, requests: u64) -> TenantUsage {
        TenantUsage {
            tenant: TenantId::from_bytes([1; 32]),
            tenants: 0,
            principals: 2,
            keys,
            document_bytes: 100,
            requests,
            labels: 3 * requests,
            days: Vec::new(),
        }
    }

    /// What every node must count alike is compared, and requests are not: clients ask T of N.
    #[test]
    fn nodes_that_count_otherwise_are_named() {
        let (a, b, c) = (usage(5, 10), usage(5, 0), usage(4, 10));
        let found = [("a", &a), ("b", &b), ("c", &c)];
        let id = TenantId::from_bytes([1; 32]);
        let tenant = tenant(id, None, &found, &["a", "b", "c", "d"]);
        assert_eq!((tenant.keys, tenant.differences.len()), (5, 2), "{tenant:?}");
        assert!(tenant.differences[0].starts_with("c counts 4 keys"));
        assert!(tenant.differences[1].starts_with("d does not know it"));
    }
}
