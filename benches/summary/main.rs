//! Collects the goals of all benches from the results that they have written below the target
//! directory. Cargo runs this bench last.
//!
//! - `cargo bench --bench summary` prints a table in Markdown: the figures, their goals, whether they
//!   are held, the command of each, and the benches that have not been run.
//! - `cargo bench --bench summary -- --draw` also draws `benches/plots/*.svg` and writes the table to
//!   `benches/README.md`.
//!
//! `benches/run` deletes earlier results, runs all benches, draws the plots and writes the table.

mod chart;
mod plots;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use benches::results::{Goal, Results};

/// The lines around the table in `benches/README.md`.
const BEGIN: &str = "<!-- `benches/run` writes this table. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

fn main() {
    let has = |expected: &str| std::env::args().any(|argument| argument == expected);
    if has("--list") {
        return;
    }
    if !has("--bench") || has("--test") {
        check();
        check_runs();
        check_sizes();
        return;
    }
    let results = Results::read_all();
    let table = table::markdown(&results);
    print!("{table}{}", table::missing(&results));
    if has("--draw") {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = fs::read_to_string(&readme).expect("README.md is readable");
        fs::write(&readme, with_table(&text, &table)).expect("README.md is writable");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plots");
        fs::create_dir_all(&folder).expect("the folder is writable");
        for (name, svg) in plots::all(&results) {
            let path = folder.join(name);
            fs::write(&path, svg).expect("the folder is writable");
            println!("drew {}", path.display());
        }
    }
}

/// Returns a text with another table.
fn with_table(text: &str, table: &str) -> String {
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (_, after) = rest.split_once(END).expect("the table ends");
    format!("{before}{BEGIN}\n{table}\n{END}{after}")
}

/// Checks the table of several runs, and that it replaces the one of README.md.
fn check_runs() {
    let mut all = Results::new("peers");
    for ratio in [1.3, 1.0, 1.1] {
        let mut run = Results::new("peers");
        run.add("ratio", ratio, Goal::AtMost(1.2));
        run.add_reading("peers/1", "memory", ratio);
        all.append(run);
    }
    assert_eq!(all.reading("peers/1", "memory"), Some(1.1));
    let table = table::markdown(&[all]);
    let row = "| ratio | 1.10 (1.00 to 1.30) | at most 1.2 | held in 2 of 3 runs |";
    assert!(table.contains(row), "{table}");
    let text = with_table(include_str!("../README.md"), &table);
    assert_eq!(text.matches(row).count(), 1);
    assert_eq!(with_table(&text, &table), text);
}

/// Checks the table and a plot of made-up results, for `cargo bench -- --test`.
fn check() {
    let mut results = Results::new("peers");
    results.is_observed = false;
    for (keys, ratio) in [("1", 1.2049), ("10", 1.196), ("1000", 0.994)] {
        let group = format!("peers/{keys}");
        results.add_reading(&group, "memory", 250.0);
        results.add_reading(&group, "tower_http", 250.0 * ratio);
        results.add(format!("peer, {keys}"), ratio, Goal::AtLeast(1.2));
    }
    results.add("cost", 1.2049, Goal::AtMost(1.2));
    let all = [results];
    let text = table::markdown(&all) + &table::missing(&all);
    for line in [
        "| peer, 1 | 1.20 | at least 1.2 | held | `cargo bench --bench peers` |",
        "| peer, 10 | 1.196 | at least 1.2 | not held | `cargo bench --bench peers` |",
        "| peer, 1000 | 0.99 | at least 1.2 | not held | `cargo bench --bench peers` |",
        "| cost | 1.205 | at most 1.2 | not held | `cargo bench --bench peers` |",
        "not run: cached (`cargo bench --features tokio --bench cached`)",
        "not run: toolkits (`cargo bench --manifest-path benches/toolkits/Cargo.toml --target-dir target`)",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("not run: peers"), "{text}");
    let drawn = plots::all(&all);
    let [("peers.svg", svg)] = &drawn[..] else {
        panic!("only one plot has readings");
    };
    assert_eq!(
        svg.matches("<circle").count(),
        4 + 2,
        "four dots and a legend"
    );
    assert!(svg.contains("tower-http, least check") && svg.len() < 20_000);
    assert!(
        svg.contains(&format!("{}, 1970-01-01<", all[0].processor)),
        "{svg}"
    );
}

/// Checks that the plot by size has each size that `scale` measures.
fn check_sizes() {
    let mut results = Results::new("scale");
    results.is_observed = false;
    for size in [1, 100, 1_000, 10_000, 1_000_000] {
        let group = format!("scale/{size}");
        for (id, time) in [
            ("bare_with_principal", 100.0),
            ("floor", 200.0),
            ("memory", 210.0),
        ] {
            results.add_reading(&group, id, time);
        }
    }
    let drawn = plots::all(&[results]);
    let [("scale.svg", svg)] = &drawn[..] else {
        panic!("only one plot has readings");
    };
    let circles = svg.matches("<circle").count();
    assert_eq!(circles, 2 * 5 + 2 * 2, "five sizes and a legend of each");
}
