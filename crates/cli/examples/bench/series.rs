//! Three series as the Multi-SGX paper plots them: the time to initialise, to upload and to
//! download, over the number of nodes and the size of the file.
//!
//! Upload is from a file to a sealed file, download back; T is a majority of the nodes. Nothing is
//! sent to a storage provider: what is stored where is not this system's affair.

use std::fs;
use std::path::Path;
use std::time::Instant;

use quorate_sdk::{EncryptionContext, Key};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{median, round};
use crate::report::{bytes, seconds, table};
use crate::{Failure, Plan};

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let mut nodes = if plan.quick { vec![3, 5] } else { vec![3, 5, 10, 20] };
    if plan.large {
        nodes.extend([50, 100]);
    }
    let sizes: Vec<u64> = if plan.quick {
        vec![1 << 10, 1 << 20, 16 << 20]
    } else {
        vec![1 << 10, 16 << 10, 256 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20]
    };
    let (mut initialisation, mut upload, mut download) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut ups, mut downs) = (Vec::new(), Vec::new(), Vec::new());
    for n in nodes {
        let t = n / 2 + 1;
        let local = Local::start(plan, n)?;
        let (key, dkg) = local.make_key(t, "series")?;
        let total = local.made_in + local.started_in + dkg;
        first.push(vec![
            format!("{t}/{n}"),
            seconds(local.made_in),
            seconds(local.started_in),
            seconds(dkg),
            seconds(total),
        ]);
        initialisation.push(json!({
            "nodes": n,
            "threshold": t,
            "make_seconds": round(local.made_in, 4),
            "start_seconds": round(local.started_in, 4),
            "dkg_seconds": round(dkg, 4),
            "seconds": round(total, 4),
        }));
        let mut rows = [vec![format!("{t}/{n}")], vec![format!("{t}/{n}")]];
        for &size in &sizes {
            let times = transfer(plan, &local, &key, size)?;
            for ((took, series), row) in
                times.iter().zip([&mut upload, &mut download]).zip(&mut rows)
            {
                series.push(json!({
                    "nodes": n,
                    "threshold": t,
                    "bytes": size,
                    "seconds": round(*took, 6),
                }));
                row.push(seconds(*took));
            }
        }
        let [up, down] = rows;
        ups.push(up);
        downs.push(down);
    }
    table(&["initialisation", "make nodes", "start", "DKG", "all"], &first);
    let heads: Vec<String> = sizes.iter().map(|size| bytes(*size)).collect();
    for (name, rows) in [("upload (seal a file)", ups), ("download (open it)", downs)] {
        let mut head = vec![name];
        head.extend(heads.iter().map(String::as_str));
        table(&head, &rows);
    }
    let rounds = if plan.quick { 1 } else { 3 };
    println!("  files in the page cache, not synced; medians of {rounds}");
    Ok(json!({ "initialisation": initialisation, "upload": upload, "download": download }))
}

/// Median seconds to seal a file of this size into another, and to open that into a third.
fn transfer(plan: &Plan, local: &Local, key: &Key, size: u64) -> Result<[f64; 2], Failure> {
    let folder = local.folder()?;
    let [plain, sealed, opened] = ["plain", "sealed", "opened"].map(|name| folder.join(name));
    fs::write(&plain, vec![0x5a; usize::try_from(size)?])?;
    let context = EncryptionContext::default();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    // Once more than is counted, for connections and caches.
    let rounds = if plan.quick { 1 } else { 3 };
    for attempt in 0..=rounds {
        let took = local.runtime.block_on(async {
            let [mut from, mut into] = files(&plain, &sealed).await?;
            let start = Instant::now();
            local.client.encrypt_stream(key, &mut from, &mut into, &context).await?;
            let sealed_in = start.elapsed().as_secs_f64();
            let [mut from, mut into] = files(&sealed, &opened).await?;
            let start = Instant::now();
            local.client.decrypt_stream(&mut from, &mut into, &context).await?;
            Ok::<_, Failure>([sealed_in, start.elapsed().as_secs_f64()])
        })?;
        if attempt > 0 {
            up.push(took[0]);
            down.push(took[1]);
        }
    }
    if fs::metadata(&opened)?.len() != size {
        return Err("what was opened has another size than what was sealed".into());
    }
    Ok([median(&up), median(&down)])
}

async fn files(from: &Path, into: &Path) -> Result<[tokio::fs::File; 2], Failure> {
    Ok([tokio::fs::File::open(from).await?, tokio::fs::File::create(into).await?])
}
