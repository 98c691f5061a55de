//! A million labels against a 2-of-3 cluster: does a node's memory stay flat, and its database grow by
//! audit records alone?

use std::fs;
use std::path::Path;

use quorate_sdk::{EncryptionContext, ParsedHeader};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{resident_bytes, round};
use crate::report::table;
use crate::{Failure, Plan};

/// Times at which every node's memory is read, after the first.
const SAMPLES: usize = 50;
/// Labels of one request.
const BATCH: usize = 4096;
/// Requests between two samples, for each million of labels, that derive keys, proved, and that open headers, unproved.
const SEALING: usize = 2;
const OPENING: usize = 3;

/// The state of a node at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    labels: usize,
    resident: u64,
    disk: u64,
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    // A smoke run asks for 50 000.
    let (batch, singles) = if plan.quick { (200, 500) } else { (BATCH, 8192) };
    let millions = plan.millions.max(1);
    let local = Local::start(plan, 3)?;
    let (key, _) = local.make_key(2, "million")?;
    let Local { runtime, client, .. } = &local;
    let contexts = [EncryptionContext::default()];
    let headers: Vec<ParsedHeader> = runtime
        .block_on(client.derive_sealing_keys(&key, batch, &contexts))?
        .into_iter()
        .map(|key| ParsedHeader::parse(&key.start().0))
        .collect::<Result<_, _>>()?;

    let folders = local.data_dirs();
    let pids = local.pids();
    let mut series: Vec<Vec<Sample>> = vec![Vec::new(); pids.len()];
    let mut sample = |labels: usize| -> Result<(), Failure> {
        for ((pid, folder), series) in pids.iter().zip(&folders).zip(&mut series) {
            let (resident, disk) = (resident_bytes(*pid), bytes_of(folder)?);
            series.push(Sample { labels, resident, disk });
        }
        Ok(())
    };
    let mut labels = 0;
    sample(labels)?;
    let began = std::time::Instant::now();
    for _ in 0..SAMPLES {
        let seal = async {
            for _ in 0..SEALING * millions {
                client.derive_sealing_keys(&key, batch, &contexts).await?;
            }
            Ok::<(), Failure>(())
        };
        let open = async {
            for _ in 0..OPENING * millions {
                for opened in client.open_headers(&headers, &contexts).await {
                    opened?;
                }
            }
            Ok(())
        };
        runtime.block_on(async { tokio::try_join!(seal, open) })?;
        labels += (SEALING + OPENING) * millions * batch;
        sample(labels)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    // One label a request: every label then pays for a whole record.
    for at in 0..singles {
        let header = headers[at % headers.len()].clone();
        runtime.block_on(client.open_header(header, &contexts[0]))?;
    }
    sample(labels + singles)?;

    let mut rows = Vec::new();
    for at in (0..=SAMPLES).step_by(5).chain([SAMPLES + 1]) {
        let mut row = vec![format!("{}", series[0][at].labels)];
        row.extend(series.iter().map(|s| format!("{:.2} MB", s[at].resident as f64 / 1e6)));
        row.extend(series.iter().map(|s| format!("{:.1} MB", s[at].disk as f64 / 1e6)));
        rows.push(row);
    }
    let heads: Vec<String> = ["memory", "disk"]
        .iter()
        .flat_map(|what| (1..=series.len()).map(move |node| format!("{what} {node}")))
        .collect();
    let mut head = vec!["labels"];
    head.extend(heads.iter().map(String::as_str));
    table(&head, &rows);
    let mut figures = Vec::new();
    for (node, series) in (1..).zip(&series) {
        let [first, .., last, after] = series.as_slice() else { continue };
        // Caches and pools have filled by the half of it.
        let slope = slope(&series[SAMPLES / 2..=SAMPLES]);
        let each = (last.disk as f64 - first.disk as f64) / labels as f64;
        let single = (after.disk as f64 - last.disk as f64) / singles as f64;
        println!(
            "  node {node}: over the second half memory {slope:+.3} bytes a label; disk {each:.1} bytes \
             a label in requests of {batch}, {single:.0} in requests of one",
        );
        figures.push(json!({
            "node": node,
            "resident_bytes_per_label_second_half": round(slope, 3),
            "disk_bytes_per_label_batched": round(each, 2),
            "disk_bytes_per_label_one_a_request": round(single, 1),
            "samples": series
                .iter()
                .map(|s| json!([s.labels, s.resident, s.disk]))
                .collect::<Vec<Value>>(),
        }));
    }
    println!(
        "  {labels} labels in {seconds:.0} s, {} samples, every fifth shown; the client asks 2 of the 3; \
         disk: all files\n  of a node but its log; the last line: {singles} requests of one label",
        SAMPLES + 1
    );
    Ok(json!({
        "labels": labels,
        "labels_per_request": batch,
        "labels_one_a_request": singles,
        "seconds": round(seconds, 1),
        "sample_fields": ["labels", "resident_bytes", "disk_bytes"],
        "nodes": figures,
    }))
}

/// Bytes of all files of a folder, but a log.
fn bytes_of(folder: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != "node.log" {
            // Files of the database come and go.
            total += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(total)
}

/// Bytes of memory for each label, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let x = mean(&|s| s.labels as f64);
    let y = mean(&|s| s.resident as f64);
    let above = mean(&|s| (s.labels as f64 - x) * (s.resident as f64 - y));
    above / mean(&|s| (s.labels as f64 - x).powi(2))
}
