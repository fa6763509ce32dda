//! Collects the goals of all benches from the results that they have written below the target
//! directory. Cargo runs this bench last.
//!
//! - `cargo bench --bench summary` prints a table in Markdown: the figures, their goals, whether they
//!   are held, the command of each, and the benches that have not been run.
//! - `cargo bench --bench summary -- --draw` also draws `benches/plots/*.svg`.
//!
//! `benches/run` deletes earlier results, runs all benches and draws the plots.

mod chart;
mod plots;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use benches::results::Results;

fn main() {
    let has = |expected: &str| std::env::args().any(|argument| argument == expected);
    if !has("--bench") || has("--test") || has("--list") {
        return;
    }
    let results = Results::read_all();
    print!("{}", table::markdown(&results));
    if has("--draw") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plots");
        fs::create_dir_all(&folder).expect("the folder is writable");
        for (name, svg) in plots::all(&results) {
            let path = folder.join(name);
            fs::write(&path, svg).expect("the folder is writable");
            println!("drew {}", path.display());
        }
    }
}
