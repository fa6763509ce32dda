//! Runs the checks of the fuzz targets on the stable compiler, with every seed and with generated
//! bytes.

#[expect(
    unreachable_pub,
    reason = "the module is also the library of the fuzz targets"
)]
#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 3] = [
    ("digest", checks::digest),
    ("credential_sources", checks::credential_sources),
    ("token_format", checks::token_format),
];

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = format!("fuzz/seeds/{target}");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(&folder).expect(&folder) {
        let path = entry.expect("the entry is readable").path();
        let seed = fs::read(&path).expect("the seed is readable");
        seeds.push((path, seed));
    }
    seeds
}

/// Generates random bytes, and seeds with some bytes replaced, which are closer to valid input.
fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds: Vec<_> = seeds(target).into_iter().map(|(_, seed)| seed).collect();
    let altered = (
        select(seeds),
        any::<Index>(),
        0..4_usize,
        vec(any::<u8>(), 0..4),
    );
    let altered = altered.prop_map(|(mut seed, index, removed_count, inserted)| {
        let start = index.index(seed.len() + 1);
        let end = seed.len().min(start + removed_count);
        seed.splice(start..end, inserted);
        seed
    });
    prop_oneof![vec(any::<u8>(), 0..64), altered]
}

#[test]
fn fuzz_seeds_pass_their_checks() {
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 6, "{target} has {} seeds", seeds.len());
        for (path, seed) in seeds {
            let outcome = catch_unwind(|| check(&seed));
            assert!(outcome.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn generated_bytes_pass_the_fuzz_checks() {
    for (target, check) in TARGETS {
        let config = Config {
            cases: 2_000,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let outcome = runner.run(&inputs(target), |data| {
            check(&data);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{target}: {error}");
        }
    }
}

#[test]
fn runs_every_fuzz_target() {
    let manifest = fs::read_to_string("fuzz/Cargo.toml").expect("the manifest is readable");
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")));
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
