//! Small text tables.

use serde_json::Value;

/// The first lines: what all figures are of.
pub fn machine(machine: &Value) {
    let load = machine["load_before"].as_f64().unwrap_or(0.0);
    println!("{}, {} cores, load {load:.1}", text(&machine["processor"]), machine["cores"]);
    if load > 0.5 {
        println!("other work runs on this machine: absolute figures are too low");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A table: the first column to the left, others to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let mut text = String::from("  ");
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            match at {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        println!("{}", text.trim_end());
    };
    line(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
}

/// Seconds for people.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 1e-3 => format!("{:.1} us", v * 1e6),
        v if v < 1.0 => format!("{:.1} ms", v * 1e3),
        v => format!("{v:.2} s"),
    }
}

/// Bytes for people.
pub fn bytes(value: u64) -> String {
    match value {
        v if v >= 1 << 20 => format!("{} MiB", v >> 20),
        v if v >= 1 << 10 => format!("{} KiB", v >> 10),
        v => format!("{v} B"),
    }
}
