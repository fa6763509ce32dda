use tower_service_token::token::TokenFormat;

use crate::args::{Scanner, ScannerRulesArgs};
use crate::failure::Failure;
use crate::output::print;

pub(super) fn run(args: &ScannerRulesArgs) -> Result<(), Failure> {
    let format = TokenFormat::new(&args.prefix);
    let format = format.map_err(|error| Failure::usage(error.to_string()))?;
    print(&rules(args.format, format.prefix()))
}

fn rules(scanner: Scanner, prefix: &str) -> String {
    let name = prefix.trim_end_matches(['-', '_']);
    let body = format!("{prefix}[0-9A-Za-z]{{10}}_[0-9A-Za-z]{{30}}");
    match scanner {
        Scanner::Gitleaks => format!(
            r#"# A configuration of gitleaks: `gitleaks dir --config FILE`.
[extend]
useDefault = true

[[rules]]
id = "{name}-service-token"
description = "Service token ({prefix}…), which lets in whoever has it"
regex = '''\b{body}\b'''
keywords = ["{}"]
"#,
            prefix.to_lowercase()
        ),
        Scanner::Trufflehog => format!(
            r"# A configuration of TruffleHog: `trufflehog filesystem --config FILE .`.
detectors:
  - name: {name}-service-token
    keywords:
      - '{prefix}'
    regex:
      token: '\b{body}\b'
"
        ),
        Scanner::Github => format!(
            r"# The fields of a custom pattern of GitHub secret scanning.
Pattern name: {name} service token
Secret format: {body}
Before secret: \A|[^0-9A-Za-z]
After secret: \z|[^0-9A-Za-z]
"
        ),
    }
}
