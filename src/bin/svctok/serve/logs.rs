use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, ServeArgs};
use crate::failure::{Failure, FailureKind};

/// Logs to stderr from now on.
pub(super) fn start(args: &ServeArgs) -> Result<(), Failure> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(args)?)
        // They would go to stderr too, and panic where that is closed.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let started = match args.log_format {
        LogFormat::Text => {
            let no_color = env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
            let colors = io::stderr().is_terminal() && !no_color;
            builder.with_ansi(colors).try_init()
        }
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init(),
    };
    started.map_err(|error| Failure::new(FailureKind::Refused, format!("cannot log: {error}")))
}

fn filter(args: &ServeArgs) -> Result<EnvFilter, Failure> {
    let given = args.log_level.clone();
    let (from, text) = match given.filter(|text| !text.is_empty()) {
        Some(text) => ("--log-level", text),
        None => ("RUST_LOG", env::var("RUST_LOG").unwrap_or_default()),
    };
    let text = if text.is_empty() { "info" } else { &text };
    EnvFilter::builder().parse(text).map_err(|error| {
        Failure::usage(format!("{from}: {error}"))
            .with_hint("a level such as info, or directives such as warn,svctok=debug")
    })
}
