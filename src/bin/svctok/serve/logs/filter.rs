use std::env;
use std::fmt::Display;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::writer::{AUDIT_TARGET, REPORT_TARGET};
use crate::args::ServeArgs;
use crate::failure::Failure;

/// Returns the filter of `--log-level`, else of `RUST_LOG`, else `info`. Audit events and reports of
/// dropped lines pass it unless a directive names their targets.
pub(super) fn filter(args: &ServeArgs) -> Result<EnvFilter, Failure> {
    let given = args.log_level.clone();
    let (from, text) = match given.filter(|text| !text.is_empty()) {
        Some(text) => ("--log-level", text),
        None => ("RUST_LOG", env::var("RUST_LOG").unwrap_or_default()),
    };
    let invalid = |reason: &dyn Display| {
        Failure::usage(format!("{from}: {reason}"))
            .with_hint("a level such as info, or directives such as warn,svctok=debug")
    };
    if let Some(word) = invalid_level(&text) {
        return Err(invalid(&format_args!("`{word}` is not a level")));
    }
    let filter = EnvFilter::builder().parse(directives(&text));
    filter.map_err(|error| invalid(&error))
}

/// Returns the first directive that is one word and not a level. It would be taken for a target, so
/// that `warning` would switch everything else off.
fn invalid_level(text: &str) -> Option<&str> {
    let mut words = text.split(',').map(str::trim);
    words
        .find(|it| !it.is_empty() && !it.contains(['=', '[']) && it.parse::<LevelFilter>().is_err())
}

fn directives(text: &str) -> String {
    let text = if text.is_empty() { "info" } else { text };
    let mut directives = text.to_owned();
    for (required, level) in [(AUDIT_TARGET, "info"), (REPORT_TARGET, "error")] {
        if !text.split(',').any(|it| target(it) == required) {
            directives.extend([",", required, "=", level]);
        }
    }
    directives
}

/// The target of a directive such as `target[span{field=value}]=level`.
fn target(directive: &str) -> &str {
    let end = directive.find(['[', '=']).unwrap_or(directive.len());
    directive[..end].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_and_report_targets_pass_unless_set() {
        for text in ["warn", "off", "tower_service_token=error", "svctok=debug"] {
            let all = format!("{text},tower_service_token::audit=info,svctok::log=error");
            assert_eq!(directives(text), all);
        }
        assert!(directives("").starts_with("info,"));
        for text in [
            "tower_service_token::audit=off",
            "info, tower_service_token::audit=warn",
            "tower_service_token::audit[request]=off,info",
        ] {
            assert_eq!(directives(text), format!("{text},svctok::log=error"));
        }
        let named = "svctok::log=off,tower_service_token::audit=off";
        assert_eq!(directives(named), named);
    }
}
