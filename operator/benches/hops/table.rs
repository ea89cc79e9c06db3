//! The figures of a run, read from the files of criterion: a table for people, `hops.json` for machines.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// One figure. Criterion's folders have names of their own; the name of the benchmark is in a file inside.
struct Figure {
    hop: String,
    size: String,
    nanoseconds: f64,
    low: f64,
    high: f64,
}

/// Folder of criterion's output: below the build's folder, beside the results of the other benches.
pub fn folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"))
        .join("bench/criterion")
}

/// Prints the last figures of every hop, and writes them to a file. Nothing was measured if cargo only tests or lists.
pub fn print(folder: &Path) {
    if !env::args().any(|arg| arg == "--bench") || env::args().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    let mut figures = Vec::new();
    collect(folder, &mut figures);
    let mut rows: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for figure in &figures {
        rows.entry(&figure.hop).or_default().insert(&figure.size, figure.nanoseconds);
    }
    let mut sizes: Vec<&str> =
        figures.iter().map(|it| it.size.as_str()).filter(|it| !it.is_empty()).collect();
    sizes.sort_by_key(|size| numbers(size));
    sizes.dedup();
    println!("\n| hop | {} |", sizes.join(" | "));
    println!("| --- |{}", " ---: |".repeat(sizes.len()));
    let cell = |time: Option<&f64>| time.map_or("–".to_owned(), |time| readable(*time));
    for (hop, of) in rows.iter().filter(|(_, of)| !of.contains_key("")) {
        let cells: Vec<String> = sizes.iter().map(|size| cell(of.get(size))).collect();
        println!("| {hop} | {} |", cells.join(" | "));
    }
    println!("\n| hop | time | a second |\n| --- | ---: | ---: |");
    for (hop, time) in rows.iter().filter_map(|(hop, of)| Some((hop, of.get("")?))) {
        println!("| {hop} | {} | {:.0} |", readable(*time), 1e9 / time);
    }
    let all: Vec<Value> = figures
        .iter()
        .map(|Figure { hop, size, nanoseconds, low, high }| {
            json!({"hop": hop, "size": size, "ns": nanoseconds, "ns_low": low, "ns_high": high})
        })
        .collect();
    let file = folder.with_file_name("hops.json");
    fs::write(&file, serde_json::to_vec_pretty(&all).unwrap()).unwrap();
    eprintln!("    written: {}", file.display());
}

fn collect(folder: &Path, figures: &mut Vec<Figure>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| path.is_dir()) {
        if path.ends_with("new") {
            figures.extend(figure(&path));
        } else {
            collect(&path, figures);
        }
    }
}

/// Returns the median and its confidence interval from criterion.
fn figure(folder: &Path) -> Option<Figure> {
    let read = |name: &str| serde_json::from_slice::<Value>(&fs::read(folder.join(name)).ok()?).ok();
    let (called, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let text = |field: &str| called.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| estimates.pointer(pointer).and_then(Value::as_f64);
    Some(Figure {
        hop: [text("group_id"), text("function_id")].join(", "),
        size: text("value_str"),
        nanoseconds: number("/median/point_estimate")?,
        low: number("/median/confidence_interval/lower_bound")?,
        high: number("/median/confidence_interval/upper_bound")?,
    })
}

fn numbers(size: &str) -> Vec<u64> {
    size.split(' ').filter_map(|word| word.parse().ok()).collect()
}

fn readable(nanoseconds: f64) -> String {
    match nanoseconds {
        long if long >= 1e6 => format!("{:.1} ms", long / 1e6),
        middle if middle >= 1e4 => format!("{:.0} µs", middle / 1e3),
        short => format!("{:.1} µs", short / 1e3),
    }
}
