//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz credential_sources`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tower_service_token_fuzz::credential_sources(data));
