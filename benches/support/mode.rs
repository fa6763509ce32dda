//! Detects whether this process measures or only runs each bench once.

/// Returns false under `cargo bench -- --test`, `--list` and `--profile-time`, and under `cargo
/// test --benches`.
pub(crate) fn is_full_run() -> bool {
    let has = |expected: &str| std::env::args().any(|argument| argument == expected);
    has("--bench") && !["--test", "--list", "--profile-time"].into_iter().any(has)
}
