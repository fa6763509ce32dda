use std::time::SystemTime;

use tower_service_token::TokenStore;
use tower_service_token::clock::SystemClock;
use tower_service_token::principal::Scopes;
use tower_service_token::store::{Credential, TokenRecord, verdict};
use tower_service_token::token::{TokenFormat, TokenShape};
use tower_service_token::wire::TokenInfo;

use crate::args::VerifyArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::{Format, eprint_message, success};
use crate::secret::SecretText;
use crate::store_url::{StoreOptions, StoreUrl};
use crate::target::Target;
use crate::token_input;
use crate::tokens::{Conditions, ServerTokens, require_file};

pub(super) async fn run(args: VerifyArgs, output: Format) -> Result<(), Failure> {
    let target = Target::resolve(&args.access)?;
    let token = token_input::from_flags_or_stdin(args.positional.as_ref(), &args.access.token)?;
    let text = token.as_presented_token()?;
    if TokenFormat::default().inspect(text.expose_secret()) == TokenShape::Damaged {
        return Err(denial("wrong checksum: a character is mistyped"));
    }
    let shown = match target {
        Target::Store(store) => verify_in_store(&store, &token).await?,
        Target::Server { url, .. } => {
            let server = ServerTokens::open(&url, Some(&token), Conditions::default())?;
            server.own().await?.map_err(|reason| denial(&reason))?
        }
    };
    check_requirements(&args, &shown)?;
    output.show(&shown, || {
        success(format_args!("Service token is valid: {}", shown.id))
    })
}

async fn verify_in_store(url: &StoreUrl, token: &SecretText) -> Result<TokenInfo, Failure> {
    require_file(url)?;
    let credential = Credential::new(token.as_presented_token()?);
    let store = url.open_registry(StoreOptions::default()).await?;
    let found = store.find(&credential).await;
    if let Err(error) = store.close().await {
        eprint_message(format_args!("cannot close the store: {error}"));
    }
    let attempted = format_args!("cannot look up the token in {url}");
    let found: Option<TokenRecord> = found.or_fail(FailureKind::Unreachable, attempted)?;
    let shown = found
        .as_ref()
        .map(|record| TokenInfo::new(record, SystemTime::now()));
    let principal = verdict(found, &credential, &SystemClock);
    let principal = principal.map_err(|error| denial(&error.to_string()))?;
    if principal.uses_previous_secret() {
        eprint_message("This is the previous secret: it is valid until its grace period ends.");
    }
    Ok(shown.expect("a missing record is denied"))
}

/// Returns an error unless the token has all required roles and scopes.
fn check_requirements(args: &VerifyArgs, token: &TokenInfo) -> Result<(), Failure> {
    let scopes: Scopes = token.scopes.iter().collect();
    let roles = args.roles.iter().filter(|role| !token.roles.contains(role));
    let missing: Vec<&str> = roles
        .chain(args.scopes.iter().filter(|scope| !scopes.allow(scope)))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::rejected(format!(
        "the token {} is valid, but lacks {}",
        token.id,
        missing.join(", ")
    )))
}

fn denial(reason: &str) -> Failure {
    Failure::rejected(format!("token rejected: {reason}"))
}
