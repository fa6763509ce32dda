use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::{AccessArgs, TokenInputArgs};
use crate::secret::SecretText;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// `-` for stdin, which is the default
    #[arg(value_name = "-", hide = true)]
    pub(crate) positional: Option<SecretText>,
    /// A role that the token must have; can be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// A scope that the token must have, directly or through a wildcard; can be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) input: TokenInputArgs,
    /// Another token prefix to recognize besides svctok-; can be repeated
    #[arg(long = "prefix", value_name = "PREFIX")]
    pub(crate) prefixes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ScannerRulesArgs {
    /// The scanner
    #[arg(long, value_enum)]
    pub(crate) format: Scanner,
    /// The prefix of the tokens
    #[arg(long, default_value = "svctok-")]
    pub(crate) prefix: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Scanner {
    /// A gitleaks configuration file, TOML
    Gitleaks,
    /// A TruffleHog configuration file, YAML
    Trufflehog,
    /// The fields of a custom pattern for GitHub secret scanning
    Github,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this directory [default: the first page, to stdout]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) dir: Option<PathBuf>,
}
