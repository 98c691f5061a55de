//! Many tenants: a platform, its resellers, and businesses of which each has one key of its own and one principal.
//! How fast they are made, what each costs a node's disk, and whether 160,000 of them cost a node more memory, or an
//! evaluation more time, than 100.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quorate_sdk::{
    Above, Action, AdminKey, Client, Digest, EncryptionContext, Key, KeyOrder, KeySpecRequest,
    NewKeyOrder, NewPrincipal, NewTenant, PrincipalId, Profile, TenantId, TenantRequest,
};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{cpu_seconds, load, median, own_cpu_seconds, quantile, resident_bytes, round};
use crate::report::{seconds, table};
use crate::{Failure, Plan};

/// The committee.
const T: u16 = 2;
const N: u16 = 3;
/// Businesses of one reseller at most: a tenant has no more than 10,000 documents directly under it.
const PER_RESELLER: usize = 9_000;
/// Businesses of the first look, and those asked while there are all.
const FEW: usize = 100;
/// Runs of the same orders at most.
const RUNS: usize = 6;
/// Resellers that provision at once, each with as many ceremonies as one principal may have.
const AT_ONCE: usize = 3;
/// Businesses that are asked one after the other, once a node's caches hold fewer.
const SAMPLE: usize = 512;
/// Labels of a large request.
const BATCH: usize = 4096;
/// Tables of the audit log.
const AUDIT: [&str; 7] = [
    "log",
    "log_nodes",
    "log_tenants",
    "log_of",
    "log_state",
    "usage",
    "sqlite_autoindex_log_tenants_1",
];

/// Who makes businesses.
struct Reseller {
    client: Client,
    admin: AdminKey,
}

/// A business that is asked.
struct Business {
    client: Client,
    key: Key,
}

/// A business that was made, and of which the profile is known.
struct Sampled {
    profile: Profile,
    tenant: TenantId,
    principal: PrincipalId,
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let all = plan.tenants.max(FEW);
    let mut local = Local::start(plan, N)?;
    let resellers = all.div_ceil(PER_RESELLER);
    let (load_before, started) = (load(), Instant::now());
    let providers: Vec<Reseller> =
        (0..resellers).map(|number| reseller(&local, number)).collect::<Result<_, _>>()?;
    // The first hundred, which are asked before there are more, and after.
    let first = new_tenants(&local, &providers[0], "first", FEW)?;
    let mut sampled = keys(plan, &local, &providers[0], &first, 1)?;
    let few = |local: &Local| -> Result<Vec<Business>, Failure> {
        sampled.iter().map(|s| business(local, &providers[0], s)).collect()
    };
    let few_made = measure(&local, &few(&local)?)?;
    local.restart(plan)?;
    let few_restarted = measure(&local, &few(&local)?)?;

    let few_tables = tables(&local.data_dirs()[0])?;
    let more = all - FEW;
    let every = more.div_ceil(SAMPLE - FEW).max(1);
    let share = |number: usize| more / resellers + usize::from(number < more % resellers);
    let tenants_from = Instant::now();
    let tenants = at_once(resellers, |number| {
        new_tenants(&local, &providers[number], &format!("business-{number}"), share(number))
    })?;
    let tenant_seconds = tenants_from.elapsed().as_secs_f64();
    println!(
        "  {more} tenants in {tenant_seconds:.0} s: {:.0} a second",
        more as f64 / tenant_seconds
    );
    let (keys_from, cpu) = (Instant::now(), (own_cpu_seconds(), nodes_cpu(&local)));
    let done = AtomicUsize::new(0);
    let made = at_once(resellers, |number| {
        let mut sampled = Vec::new();
        for some in tenants[number].chunks(1024) {
            sampled.extend(keys(plan, &local, &providers[number], some, every)?);
            let done = done.fetch_add(some.len(), Ordering::Relaxed) + some.len();
            let seconds = keys_from.elapsed().as_secs_f64();
            println!(
                "  {done} of {more} keys, {seconds:.0} s, {:.1} keys/s, load {:.1}",
                done as f64 / seconds,
                load()
            );
        }
        Ok(sampled)
    })?;
    let key_seconds = keys_from.elapsed().as_secs_f64();
    let (client_cpu, node_cpu) = (own_cpu_seconds() - cpu.0, nodes_cpu(&local) - cpu.1);
    drop(tenants);
    sampled.extend(made.into_iter().flatten());
    let whole = started.elapsed().as_secs_f64();
    let after = tables(&local.data_dirs()[0])?;
    let figures = costs(&few_tables, &after, more);
    let provider = &providers[0];
    let ask = |which: &[Sampled]| -> Result<Vec<Business>, Failure> {
        which.iter().map(|s| business(&local, provider, s)).collect()
    };
    // As many as were asked before, of all of them.
    let step = (sampled.len() / FEW).max(1);
    sampled.sort_by_key(|s| s.tenant);
    let some: Vec<usize> = (0..sampled.len()).step_by(step).take(FEW).collect();
    let (mut asked, mut rest) = (Vec::new(), Vec::new());
    for (at, business) in sampled.into_iter().enumerate() {
        if some.contains(&at) { asked.push(business) } else { rest.push(business) }
    }
    let all_made = measure(&local, &ask(&asked)?)?;
    local.restart(plan)?;
    let ask = |which: &[Sampled]| -> Result<Vec<Business>, Failure> {
        which.iter().map(|s| business(&local, provider, s)).collect()
    };
    let businesses = ask(&asked)?;
    let all_restarted = measure(&local, &businesses)?;
    // More than a node's caches hold, so that each answer is read from its database.
    let mut businesses = businesses;
    businesses.extend(ask(&rest)?);
    let cold = one_after_the_other(&local, &businesses, 2)?;
    drop(businesses);

    let file = |dir: &Path| std::fs::metadata(dir.join("node.db")).map_or(0, |m| m.len());
    let files: Vec<u64> = local.data_dirs().iter().map(|dir| file(dir)).collect();
    let rate = more as f64 / key_seconds;
    println!(
        "\n  {} businesses below {resellers} resellers, 2/3 node processes; {rate:.1} keys/s, {:.1} tenants/s; {whole:.0} s in all",
        all,
        more as f64 / tenant_seconds
    );
    println!(
        "  of one key: {:.1} ms of the client's processor, {:.1} ms of each node's",
        client_cpu * 1e3 / more as f64,
        node_cpu * 1e3 / more as f64 / f64::from(N)
    );
    let mut rows: Vec<Vec<String>> = figures
        .iter()
        .map(|(name, cost)| {
            vec![
                name.clone(),
                format!("{:.0}", cost.pages),
                format!("{:.0}", cost.payload),
                format!("{:.2}", cost.rows),
            ]
        })
        .collect();
    let audit = |name: &str| AUDIT.contains(&name);
    let sum = |of: &dyn Fn(&str) -> bool| -> f64 {
        figures.iter().filter(|(name, _)| of(name)).map(|(_, cost)| cost.pages).sum()
    };
    let (state, log) = (sum(&|name| !audit(name)), sum(&audit));
    rows.push(vec![
        "all but the audit log".into(),
        format!("{state:.0}"),
        String::new(),
        String::new(),
    ]);
    rows.push(vec!["audit log".into(), format!("{log:.0}"), String::new(), String::new()]);
    table(&["bytes of a node for one business", "pages", "payload", "rows"], &rows);
    let measured = [
        ("100, just made", &few_made),
        ("100, restarted", &few_restarted),
        ("all, just made", &all_made),
        ("all, restarted", &all_restarted),
    ];
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(name, m)| {
            vec![
                (*name).to_owned(),
                format!("{:.1} MB", m.resident / 1e6),
                seconds(m.single_p50),
                seconds(m.single_p99),
                seconds(m.batch_p50),
                seconds(m.batch_p99),
                format!("{:.0} us", m.node_cpu * 1e6),
            ]
        })
        .collect();
    table(
        &[
            "tenants",
            "node's memory",
            "one label p50",
            "p99",
            "4096 labels p50",
            "p99",
            "nodes' CPU each",
        ],
        &rows,
    );
    let ratio = |of: fn(&Measured) -> f64| of(&all_restarted) / of(&few_restarted);
    println!(
        "  all to 100, restarted: memory {:.2}, one label {:.2}, 4096 labels {:.2}, nodes' CPU {:.2}; one label of {} businesses in turn, \
         more than caches hold: {} ({} p99)",
        ratio(|m| m.resident),
        ratio(|m| m.single_p50),
        ratio(|m| m.batch_p50),
        ratio(|m| m.node_cpu),
        cold.0,
        seconds(cold.1),
        seconds(cold.2)
    );
    Ok(json!({
        "tenants": all,
        "principal_of_each": !plan.keys_alone,
        "resellers": resellers,
        "threshold": T,
        "nodes": N,
        "load_before": load_before,
        "load_after": load(),
        "seconds": round(whole, 1),
        "keys_per_second": round(rate, 2),
        "tenants_per_second": round(more as f64 / tenant_seconds, 1),
        "client_cpu_seconds_per_key": round(client_cpu / more as f64, 6),
        "node_cpu_seconds_per_key": round(node_cpu / more as f64 / f64::from(N), 6),
        "database_bytes": files,
        "bytes_per_tenant": { "all_but_audit": round(state, 0), "audit": round(log, 0) },
        "bytes_per_tenant_by_table": figures
            .iter()
            .map(|(name, cost)| (name.clone(), json!({
                "pages": round(cost.pages, 1), "payload": round(cost.payload, 1), "rows": round(cost.rows, 3),
            })))
            .collect::<serde_json::Map<String, Value>>(),
        "with": measured
            .iter()
            .map(|(name, m)| ((*name).to_owned(), m.figures()))
            .collect::<serde_json::Map<String, Value>>(),
        "ratio_of_all_to_100_restarted": {
            "resident": round(ratio(|m| m.resident), 3),
            "one_label_p50": round(ratio(|m| m.single_p50), 3),
            "batch_p50": round(ratio(|m| m.batch_p50), 3),
            "node_cpu_of_one_label": round(ratio(|m| m.node_cpu), 3),
        },
        "cold": { "businesses": cold.0, "one_label_p50": round(cold.1, 6), "one_label_p99": round(cold.2, 6),
                  "node_cpu_seconds": round(cold.3, 7) },
    }))
}

fn reseller(local: &Local, number: usize) -> Result<Reseller, Failure> {
    let mut profile = Profile::create(local.folder()?.join(format!("reseller-{number}")))?;
    let request = TenantRequest::of(&profile)?;
    let root = local.administrator()?;
    let new = NewTenant {
        name: format!("reseller-{number}"),
        requests: vec![request],
        quorum: None,
        recovery: None,
        support_contact: format!("help@reseller-{number}.example"),
    };
    let client = local.runtime.block_on(async {
        let administrator = local.client.admin(&root);
        let (made, delivered) = administrator.create_tenants(Above::Tenant, vec![new]).await?;
        if delivered.confirmed() < delivered.of() {
            return Err(format!("a reseller did not arrive: {delivered:?}").into());
        }
        let invitation = &made[0].invitation;
        let joined =
            profile.prepare_tenant(invitation, invitation.fingerprint(), "operator").await?;
        profile.join_tenant(&joined, invitation)?;
        let client = local.client_of(&profile)?;
        let delivered = client.put_documents(&joined.documents()).await;
        if delivered.confirmed() < delivered.of() {
            return Err(format!("a reseller's principal did not arrive: {delivered:?}").into());
        }
        Ok::<Client, Failure>(client)
    })?;
    Ok(Reseller { client, admin: profile.admin_key()? })
}

/// Does something for each reseller, some at once.
fn at_once<T: Send>(
    resellers: usize,
    work: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, T>> = Mutex::default();
    std::thread::scope(|scope| {
        let worker = || -> Result<(), Failure> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= resellers {
                    return Ok(());
                }
                let result = work(number)?;
                done.lock().unwrap().insert(number, result);
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    })?;
    Ok(done.into_inner().unwrap().into_values().collect())
}

/// Makes tenants of one reseller; each business has an administrator of its own.
fn new_tenants(
    local: &Local,
    reseller: &Reseller,
    name: &str,
    count: usize,
) -> Result<Vec<(TenantId, AdminKey)>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let admins: Vec<AdminKey> = (0..count).map(|_| AdminKey::generate()).collect();
    let new = admins.iter().enumerate().map(|(at, admin)| NewTenant {
        name: format!("{name}-{at}"),
        requests: vec![TenantRequest::by(admin)],
        quorum: None,
        recovery: None,
        support_contact: String::new(),
    });
    let administrator = reseller.client.admin(&reseller.admin);
    let making = administrator.create_tenants(Above::Tenant, new.collect());
    let (tenants, delivered) = local.runtime.block_on(making)?;
    if delivered.confirmed() < delivered.of() {
        return Err(format!("tenants did not arrive: {:?}", delivered.nodes).into());
    }
    Ok(tenants.into_iter().map(|tenant| tenant.id).zip(admins).collect())
}

/// Makes a key, and as a rule a principal, for each of these tenants, ordered by the tenant's own administrator. Of every so many
/// the profile is kept.
fn keys(
    plan: &Plan,
    local: &Local,
    reseller: &Reseller,
    tenants: &[(TenantId, AdminKey)],
    every: usize,
) -> Result<Vec<Sampled>, Failure> {
    let folder = local.folder()?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let at = quorate_sdk::UnixSeconds(since.as_secs());
    let mut profiles: BTreeMap<TenantId, Profile> = BTreeMap::new();
    let mut orders = Vec::with_capacity(tenants.len());
    for (number, (tenant, admin)) in tenants.iter().enumerate() {
        let asked = number % every == 0;
        let public_key = if asked {
            let profile = Profile::create(folder.join(tenant.to_string()))?;
            let public_key = profile.public_key();
            profiles.insert(*tenant, profile);
            public_key
        } else {
            AdminKey::generate().public()
        };
        let app = NewPrincipal {
            name: "app".to_owned(),
            public_key,
            actions: vec![Action::Encrypt, Action::Decrypt, Action::Rewrap],
            days: Some(365),
        };
        let order = NewKeyOrder {
            tenant: *tenant,
            authority: Digest::from_bytes(*tenant.as_bytes()),
            key: KeySpecRequest {
                alias: "files".to_owned(),
                threshold: T,
                ..KeySpecRequest::default()
            },
            coordinator: reseller.client.principal(),
            principals: if asked || !plan.keys_alone { vec![app] } else { Vec::new() },
        };
        orders.push(KeyOrder::sign(&reseller.client, admin, order, at)?);
    }
    let mut sampled = Vec::new();
    for order in &orders {
        if let Some(profile) = profiles.remove(&order.tenant()) {
            let (tenant, principal) = (order.tenant(), order.principals().next());
            sampled.extend(principal.map(|principal| Sampled { profile, tenant, principal }));
        }
    }
    // A disk that others use hangs now and then, and a node then refuses. The same orders go on.
    for _ in 0..RUNS {
        let (mut again, mut why) = (Vec::new(), None);
        local.runtime.block_on(reseller.client.provision_keys(
            orders,
            Arc::new(quorate_sdk::KeepNoDealings),
            |_, (order, result)| match result {
                Ok(made) if made.lacking.is_empty() => {}
                Ok(_) => again.push(order),
                Err(error) => {
                    why = Some(error.to_string());
                    again.push(order);
                }
            },
        ));
        if again.is_empty() {
            return Ok(sampled);
        }
        let why = why.unwrap_or_default();
        println!("  {} of {} keys once more: {why}", again.len(), tenants.len());
        orders = again;
    }
    Err(format!("{} of {} keys were not made", orders.len(), tenants.len()).into())
}

fn nodes_cpu(local: &Local) -> f64 {
    local.pids().into_iter().map(cpu_seconds).sum()
}

/// The client of a business, and its key.
fn business(local: &Local, reseller: &Reseller, sampled: &Sampled) -> Result<Business, Failure> {
    let mut profile = Profile::open(sampled.profile.dir())?;
    if profile.membership().is_none() {
        let invitation = reseller.client.invitation_of_principal(sampled.tenant, sampled.principal);
        profile.accept(&invitation, invitation.fingerprint())?;
    }
    let client = local.client_of(&profile)?;
    let key = local.runtime.block_on(client.key("files"))?;
    Ok(Business { client, key })
}

/// What evaluations take, and how much memory nodes have.
struct Measured {
    resident: f64,
    single_p50: f64,
    single_p99: f64,
    batch_p50: f64,
    batch_p99: f64,
    /// Processor seconds of all nodes for one label.
    node_cpu: f64,
    load: f64,
}

impl Measured {
    fn figures(&self) -> Value {
        json!({
            "node_resident_bytes": round(self.resident, 0),
            "one_label_p50": round(self.single_p50, 6),
            "one_label_p99": round(self.single_p99, 6),
            "batch_of_4096_p50": round(self.batch_p50, 5),
            "batch_of_4096_p99": round(self.batch_p99, 5),
            "nodes_cpu_seconds_of_one_label": round(self.node_cpu, 7),
            "load": self.load,
        })
    }
}

/// One label of each business in turn: how many there are, the median, 99 %, and the nodes' processor time of one.
fn one_after_the_other(
    local: &Local,
    businesses: &[Business],
    rounds: usize,
) -> Result<(usize, f64, f64, f64), Failure> {
    let context = EncryptionContext::default();
    let mut times = Vec::new();
    let mut cpu = 0.0;
    for round in 0..=rounds {
        let before = nodes_cpu(local);
        for business in businesses {
            let began = Instant::now();
            local.runtime.block_on(business.client.encrypt(&business.key, b"x", &context))?;
            if round > 0 {
                times.push(began.elapsed().as_secs_f64());
            }
        }
        if round > 0 {
            cpu += nodes_cpu(local) - before;
        }
    }
    let each = cpu / times.len() as f64;
    Ok((businesses.len(), median(&times), quantile(&times, 0.99), each))
}

fn measure(local: &Local, businesses: &[Business]) -> Result<Measured, Failure> {
    let (_, single_p50, single_p99, node_cpu) = one_after_the_other(local, businesses, 10)?;
    let contexts = [EncryptionContext::default()];
    let mut batches = Vec::new();
    for business in businesses.iter().cycle().take(20) {
        let began = Instant::now();
        local.runtime.block_on(business.client.derive_sealing_keys(
            &business.key,
            BATCH,
            &contexts,
        ))?;
        batches.push(began.elapsed().as_secs_f64());
    }
    let resident: Vec<f64> =
        local.pids().into_iter().map(|pid| resident_bytes(pid) as f64).collect();
    Ok(Measured {
        resident: median(&resident),
        single_p50,
        single_p99,
        batch_p50: median(&batches),
        batch_p99: quantile(&batches, 0.99),
        node_cpu,
        load: load(),
    })
}

/// What one table of a database takes.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    pages: f64,
    payload: f64,
    rows: f64,
}

/// What the tables of a node's database take.
fn tables(data_dir: &Path) -> Result<BTreeMap<String, Taken>, Failure> {
    let path: PathBuf = data_dir.join("node.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(path, flags)?;
    // Cells of inner pages are rows too where a table has no row ids.
    let sql = "SELECT name, sum(pgsize), sum(payload), sum(ncell) FROM dbstat GROUP BY name";
    let mut statement = database.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let taken = Taken { pages: row.get(1)?, payload: row.get(2)?, rows: row.get(3)? };
        Ok((row.get::<_, String>(0)?, taken))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What one business takes of each table that it takes anything of.
fn costs(
    before: &BTreeMap<String, Taken>,
    after: &BTreeMap<String, Taken>,
    count: usize,
) -> BTreeMap<String, Taken> {
    let each = |after: f64, before: f64| (after - before) / count as f64;
    after
        .iter()
        .map(|(name, after)| {
            let before = before.get(name).copied().unwrap_or_default();
            let taken = Taken {
                pages: each(after.pages, before.pages),
                payload: each(after.payload, before.payload),
                rows: each(after.rows, before.rows),
            };
            (name.clone(), taken)
        })
        .filter(|(_, taken)| taken.pages.abs() >= 0.5)
        .collect()
}
