//! The commands that use neither a server nor a store.

use clap_complete::generate;
use clap_mangen::{Man, generate_to};
use serde_json::json;
use tower_service_token::digest::TokenDigest;
use tower_service_token::token::{TokenFormat, TokenShape};

use crate::args::{
    CompletionsArgs, InspectArgs, ManArgs, Scanner, ScannerRulesArgs, TokenInputArgs, command,
};
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::{Format, details, print};

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "svctok", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn hash(args: &TokenInputArgs, output: Format) -> Result<(), Failure> {
    let token = args.read()?;
    let digest = TokenDigest::of(token.as_presented_token()?.expose_secret()).to_string();
    output.show(&json!({ "digest": digest }), || format!("{digest}\n"))
}

pub(super) fn inspect(args: &InspectArgs, output: Format) -> Result<(), Failure> {
    let mut format = TokenFormat::default();
    for prefix in &args.prefixes {
        format = format.with_accepted_format(format_of(prefix)?);
    }
    let token = args.input.read()?;
    let text = token.as_presented_token()?;
    let text = text.expose_secret();
    let id = match format.inspect(text) {
        TokenShape::WellFormed(id) => id,
        TokenShape::Damaged => {
            return Err(Failure::rejected(
                "wrong checksum: the token is mistyped, incomplete or made up",
            )
            .with_hint("copy the whole token again"));
        }
        TokenShape::Unrecognized => {
            return Err(Failure::rejected(
                "unknown token format: the token is incomplete, or from another issuer",
            )
            .with_hint(
                "specify its prefix with --prefix, or check it at a server with `svctok verify`",
            ));
        }
    };
    let (decimal, hint) = (id.number(), format.redact(text));
    let prefix = hint.split(&id.to_string()).next().unwrap_or_default();
    let data = json!({
        "id": id.to_string(),
        "decimal_id": decimal,
        "prefix": prefix,
        "checksum": "good",
        "hint": hint,
    });
    output.show(&data, || {
        details([
            ("ID", id.to_string()),
            ("DECIMAL ID", decimal.to_string()),
            ("PREFIX", prefix.to_owned()),
            ("CHECKSUM", "good".to_owned()),
            ("HINT", hint.clone()),
        ])
    })
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    if let Some(directory) = &args.dir {
        let attempted = format_args!("cannot write to {}", directory.display());
        return generate_to(command(), directory).or_fail(FailureKind::Rejected, attempted);
    }
    let mut page = Vec::new();
    let rendered = Man::new(command()).render(&mut page);
    rendered.or_fail(FailureKind::Rejected, "cannot write the page")?;
    print(&String::from_utf8_lossy(&page))
}

fn format_of(prefix: &str) -> Result<TokenFormat, Failure> {
    TokenFormat::new(prefix).map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn scanner_rules(args: &ScannerRulesArgs) -> Result<(), Failure> {
    let format = format_of(&args.prefix)?;
    let prefix = format.prefix();
    let name = prefix.trim_end_matches(['-', '_']);
    let body = format!("{prefix}[0-9A-Za-z]{{10}}_[0-9A-Za-z]{{30}}");
    print(&match args.format {
        Scanner::Gitleaks => format!(
            r#"# A gitleaks configuration: `gitleaks dir --config FILE`.
[extend]
useDefault = true

[[rules]]
id = "{name}-service-token"
description = "Service token ({prefix}…), which grants access to anyone who has it"
regex = '''\b{body}\b'''
keywords = ["{}"]
"#,
            prefix.to_lowercase()
        ),
        Scanner::Trufflehog => format!(
            r"# A TruffleHog configuration: `trufflehog filesystem --config FILE .`.
detectors:
  - name: {name}-service-token
    keywords:
      - '{prefix}'
    regex:
      token: '\b{body}\b'
"
        ),
        Scanner::Github => format!(
            r"# The fields of a custom pattern for GitHub secret scanning.
Pattern name: {name} service token
Secret format: {body}
Before secret: \A|[^0-9A-Za-z]
After secret: \z|[^0-9A-Za-z]
"
        ),
    })
}
