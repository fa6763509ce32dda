//! The table of all figures.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use benches::results::Results;

use crate::plots::note;

const MANIFESTS: [&str; 2] = [
    include_str!("../Cargo.toml"),
    include_str!("../toolkits/Cargo.toml"),
];

/// A bench that a manifest declares.
struct Bench {
    name: String,
    command: String,
}

/// Returns a table of all figures.
pub(crate) fn markdown(all: &[Results]) -> String {
    let benches = benches();
    let mut text = String::new();
    let notes: BTreeSet<_> = all.iter().map(note).collect();
    for note in notes {
        line(&mut text, &format!("Measured on {note}.\n"));
    }
    if all.iter().any(has_several_runs) {
        let spread = "Medians of several runs, with the lowest and the highest in brackets.\n";
        line(&mut text, spread);
    }
    line(&mut text, "| measured | value | goal | verdict | command |");
    line(&mut text, "|---|---|---|---|---|");
    for results in all {
        let known = benches.iter().find(|bench| bench.name == results.bench);
        let command = match known {
            Some(_) if results.is_observed => {
                format!("cargo bench --all-features --bench {}", results.bench)
            }
            Some(bench) => bench.command.clone(),
            None => "–".to_owned(),
        };
        for figure in &results.figures {
            let (measured, value, goal) = (&figure.measured, figure.rounded(), figure.goal);
            let verdict = figure.verdict();
            line(
                &mut text,
                &format!("| {measured} | {value} | {goal} | {verdict} | `{command}` |"),
            );
        }
    }
    text
}

/// Returns the ages of the results, and the benches that have none.
pub(crate) fn missing(all: &[Results]) -> String {
    let mut text = String::new();
    line(&mut text, &ages(all));
    for bench in benches() {
        if all.iter().all(|results| results.bench != bench.name) {
            line(
                &mut text,
                &format!("not run: {} (`{}`)", bench.name, bench.command),
            );
        }
    }
    text
}

fn has_several_runs(results: &Results) -> bool {
    let mut figures = results.figures.iter();
    figures.any(|figure| figure.values.len() > 1)
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string accepts any text");
}

/// Returns how long ago each bench finished: earlier results stay until `benches/run` deletes them.
fn ages(all: &[Results]) -> String {
    let ages = all.iter().map(|results| {
        let finished = SystemTime::UNIX_EPOCH + Duration::from_secs(results.finished_at);
        let age = finished.elapsed().unwrap_or_default().as_secs() / 60;
        format!("{} {age} min", results.bench)
    });
    let ages: Vec<_> = ages.collect();
    format!("\nage of the results: {}", ages.join(", "))
}

/// Returns the benches of both packages that measure something.
fn benches() -> Vec<Bench> {
    let sections = MANIFESTS.iter().flat_map(|manifest| {
        let is_own = manifest.contains("name = \"toolkits\"");
        let sections = manifest.split("[[bench]]").skip(1);
        sections.map(move |section| (is_own, section))
    });
    let benches = sections.filter_map(|(is_own, section)| {
        let value_of = |key: &str| {
            let line = section.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(" = ")?.1)
        };
        let name = value_of("name")?.trim_matches('"').to_owned();
        let features = value_of("required-features").unwrap_or_default();
        let features: Vec<_> = features.split('"').skip(1).step_by(2).collect();
        // In the directory of the other benches, because `summary` reads the results there.
        let command = if is_own {
            format!("cargo bench --manifest-path benches/{name}/Cargo.toml --target-dir target")
        } else if features.is_empty() {
            format!("cargo bench --bench {name}")
        } else {
            format!(
                "cargo bench --features {} --bench {name}",
                features.join(",")
            )
        };
        (name != "summary").then_some(Bench { name, command })
    });
    benches.collect()
}
