//! Whether this process is to measure all it can or only to show that it would.

/// False under `cargo bench -- --test`, `--list` and `--profile-time`, and `cargo test --benches`.
pub(crate) fn is_full_run() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    has("--bench") && !["--test", "--list", "--profile-time"].into_iter().any(has)
}
