//! Clocks, and the machines' own files.

use super::checks::{DATA, RESTART, found};
use super::facts::Facts;
use super::finding::{At, Found, Remedy, quoted};

/// Seconds that a clock may be off: what clients stamp by must be that near.
const CLOCK_TOLERANCE: u64 = 30;

fn direction(seconds: i64) -> &'static str {
    if seconds < 0 { "behind" } else { "ahead of" }
}

pub(super) fn clock_here(facts: &Facts) -> Vec<Found> {
    let Some(ahead) = facts.nodes_ahead() else { return Vec::new() };
    let agreeing = facts
        .reports()
        .filter(|(_, report)| report.clock_offset.abs_diff(ahead) <= CLOCK_TOLERANCE)
        .count();
    // One node alone against this machine proves nothing.
    if ahead.unsigned_abs() <= CLOCK_TOLERANCE || agreeing < 2 {
        return Vec::new();
    }
    let what = format!(
        "this machine's clock is {} s {} those of {agreeing} nodes",
        ahead.unsigned_abs(),
        direction(ahead.saturating_neg())
    );
    vec![found("this machine", what, Remedy::here("timedatectl set-ntp true"))]
}

pub(super) fn clock_node(facts: &Facts) -> Vec<Found> {
    let Some(middle) = facts.nodes_ahead() else { return Vec::new() };
    facts
        .reports()
        .filter(|(_, report)| report.clock_offset.abs_diff(middle) > CLOCK_TOLERANCE)
        .map(|(node, report)| {
            let off = report.clock_offset.saturating_sub(middle);
            let what = format!(
                "{}'s clock is {} s {} most nodes'",
                node.name,
                off.unsigned_abs(),
                direction(off)
            );
            let moved = report.alarms.iter().any(|alarm| alarm == "clock_moved");
            let command =
                if moved { end_drill(DATA) } else { "timedatectl set-ntp true".to_owned() };
            let remedy = Remedy::node(&node.name, command);
            let remedy = if moved { remedy.note("A drill moves it (node.toml).") } else { remedy };
            found(&node.name, what, remedy)
        })
        .collect()
}

fn end_drill(data_dir: &str) -> String {
    format!("sed -i '/^clock_offset_seconds/d' {data_dir}/node.toml && {RESTART}")
}

pub(super) fn node_files_open(facts: &Facts) -> Vec<Found> {
    let remote = facts.reports().filter_map(|(node, report)| {
        let open: Vec<&str> = report
            .alarms
            .iter()
            .filter_map(|alarm| match alarm.as_str() {
                "config_writable" => Some("node.toml may be written"),
                "data_dir_open" => Some("the data directory may be read"),
                "root_key_file_open" => Some("the root key file may be read"),
                _ => None,
            })
            .collect();
        (!open.is_empty()).then(|| {
            let what = format!("on {}'s machine {} by others", node.name, open.join(", "));
            let remedy = Remedy::node(&node.name, format!("quorate doctor --data-dir {DATA}"));
            found(&node.name, what, remedy.note("That names the files, and what mends each."))
        })
    });
    let local =
        facts.local.iter().flat_map(|local| &local.open_files).map(|(path, mode, right)| {
            let path = path.display().to_string();
            let what = format!("{path} is open to others (mode {mode:o})");
            found(&path, what, Remedy::here(format!("chmod {right:o} {}", quoted(&path))))
        });
    remote.chain(local).collect()
}

pub(super) fn key_beside_data(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(path) = &local.key_beside_data else { return Vec::new() };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (from, config) = (path.display().to_string(), local.data_dir.join("node.toml"));
    let to = format!("/etc/quorate/{name}");
    let command = format!(
        "mkdir -p /etc/quorate && mv {} {} && sed -i 's|^root_key_file.*|root_key_file = \"{to}\"|' {}",
        quoted(&from),
        quoted(&to),
        quoted(&config.display().to_string())
    );
    let what = format!("the root key file {from} lies in the data directory");
    vec![found(&from, what, Remedy::here(command))]
}

pub(super) fn config_invalid(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(Err(why)) = &local.config else { return Vec::new() };
    let path = local.data_dir.join("node.toml").display().to_string();
    let remedy = Remedy { at: At::Here, commands: Vec::new(), note: Some(format!("Mend {path}.")) };
    vec![found(&path, why.clone(), remedy)]
}

pub(super) fn clock_moved(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(Ok(config)) = &local.config else { return Vec::new() };
    if config.clock_offset_seconds == 0 {
        return Vec::new();
    }
    let dir = local.data_dir.display().to_string();
    let what = format!("a drill moves the node's clock by {} s", config.clock_offset_seconds);
    vec![found("node.toml", what, Remedy::here(end_drill(&quoted(&dir))))]
}

pub(super) fn memory_exposed(facts: &Facts) -> Vec<Found> {
    facts
        .reports()
        .filter_map(|(node, report)| {
            let exposed: Vec<&str> = report
                .alarms
                .iter()
                .filter_map(|alarm| match alarm.as_str() {
                    "memory_not_locked" => Some("swap"),
                    "core_files_on" => Some("core files"),
                    "memory_readable" => Some("other processes"),
                    _ => None,
                })
                .collect();
            if exposed.is_empty() {
                return None;
            }
            let what = format!("{}'s memory could get into {}", node.name, exposed.join(", "));
            let folder = "/etc/systemd/system/quorate-node.service.d";
            let command = format!(
                "mkdir -p {folder} && printf '[Service]\\nLimitMEMLOCK=infinity\\nLimitCORE=0\\n' > \
                 {folder}/memory.conf && systemctl daemon-reload && {RESTART}"
            );
            Some(found(&node.name, what, Remedy::node(&node.name, command)))
        })
        .collect()
}

/// "quorate 1.2.3" as numbers that compare.
fn version(software: &str) -> Option<Vec<u64>> {
    let text = software.split_whitespace().nth(1)?;
    let numbers = text.split(['-', '+']).next()?;
    numbers.split('.').map(|part| part.parse().ok()).collect()
}

pub(super) fn software_older(facts: &Facts) -> Vec<Found> {
    let newest = facts.reports().filter_map(|(_, report)| version(&report.software)).max();
    let Some(newest) = newest else { return Vec::new() };
    let text = newest.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    facts
        .reports()
        .filter(|(_, report)| version(&report.software).is_some_and(|v| v < newest))
        .map(|(node, report)| {
            let what = format!("{} runs {}, another node runs {text}", node.name, report.software);
            let remedy = Remedy {
                at: At::Node(node.name.clone()),
                commands: vec!["quorate --version".to_owned(), RESTART.to_owned()],
                note: Some(format!("Install {text} first.")),
            };
            found(&node.name, what, remedy)
        })
        .collect()
}
