use serde_json::{Value, json};

use crate::args::{AccessArgs, ContextArgs, ContextCommand, NameArgs, SaveArgs};
use crate::context::{Context, ContextFile, is_valid_name};
use crate::environment::Environment;
use crate::failure::{Failure, FailureKind};
use crate::output::{Format, columns, details, eprint_note, print, success};
use crate::secret::{SecretText, redact_secrets};
use crate::store_url::StoreUrl;
use crate::target::Target;
use crate::token_input;
use crate::tokens::{Conditions, ServerTokens, Tokens};

pub(super) async fn run(args: ContextArgs, output: Format) -> Result<(), Failure> {
    let file = ContextFile::locate();
    match args.command {
        None => save(&file, args.save).await,
        Some(ContextCommand::Save(args)) => save(&file, args).await,
        Some(ContextCommand::List) => list(&file, output),
        Some(ContextCommand::Show(args)) => show(&file, args, output),
        Some(ContextCommand::Set(args)) => set(&file, args),
        Some(ContextCommand::Delete(args)) => delete(&file, args),
        Some(ContextCommand::Validate(args)) => validate(&file, args).await,
    }
}

async fn save(file: &ContextFile, args: SaveArgs) -> Result<(), Failure> {
    let name = args.name.unwrap_or_default();
    if !is_valid_name(&name) {
        let message = "a context name is 1 to 100 letters, digits, `.`, `_` and `-`";
        return Err(Failure::usage(message));
    }
    let mut contexts = file.read()?;
    let context = context_from_args(&args.access)?;
    if !args.skip_validate {
        check_access(&name, &context).await?;
    }
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    file.write(&contexts)?;
    print(&success(format_args!("Context saved: {name}")))
}

/// Returns the context that the flags specify, or else the environment.
fn context_from_args(args: &AccessArgs) -> Result<Context, Failure> {
    let Environment { target, token } = Environment::read()?;
    let is_given = args.target.url.is_some() || args.target.store.is_some();
    let target = if is_given { &args.target } else { &target };
    let named = token_input::from_flags(&args.token)?;
    let (url, store) = (target.url.clone(), target.store.clone());
    if url.is_some() == store.is_some() {
        let message = "specify either a server with --url or a store with --store";
        return Err(Failure::usage(message));
    }
    if store.is_some() && named.is_some() {
        return Err(Failure::usage("a store needs no token"));
    }
    let service_token = named.or(token).filter(|_| url.is_some());
    let service_token = service_token
        .as_ref()
        .map(SecretText::trimmed)
        .transpose()?;
    Ok(Context {
        url,
        service_token,
        store: store.map(StoreUrl::absolute).transpose()?,
    })
}

fn list(file: &ContextFile, output: Format) -> Result<(), Failure> {
    let contexts = file.read()?;
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    let data: Vec<Value> = contexts
        .contexts
        .iter()
        .map(|(name, context)| to_json(name, context, is_current(name)))
        .collect();
    output.show(&json!({ "contexts": data }), || {
        let rows = contexts.contexts.iter().map(|(name, context)| {
            let mark = if is_current(name) { "*" } else { "" };
            [mark.to_owned(), name.clone(), location(context)]
        });
        columns(["CURRENT", "NAME", "URL"], rows)
    })
}

fn show(file: &ContextFile, args: NameArgs, output: Format) -> Result<(), Failure> {
    let contexts = file.read()?;
    let (name, context) = contexts.named_or_current(args.into_name())?;
    let is_current = contexts.current.as_ref() == Some(&name);
    output.show(&to_json(&name, context, is_current), || {
        let token = context.service_token.as_ref();
        details([
            ("NAME", name.clone()),
            ("URL", location(context)),
            ("TOKEN", token.map(SecretText::hint).unwrap_or_default()),
            ("CURRENT", if is_current { "yes" } else { "no" }.to_owned()),
        ])
    })
}

fn set(file: &ContextFile, args: NameArgs) -> Result<(), Failure> {
    let name = args.into_name().unwrap_or_default();
    let mut contexts = file.read()?;
    contexts.get(&name)?;
    contexts.current = Some(name.clone());
    file.write(&contexts)?;
    print(&success(format_args!("Current context: {name}")))
}

fn delete(file: &ContextFile, args: NameArgs) -> Result<(), Failure> {
    let name = args.into_name().unwrap_or_default();
    let mut contexts = file.read()?;
    contexts.get(&name)?;
    contexts.contexts.remove(&name);
    if contexts.current.as_ref() == Some(&name) {
        contexts.current = None;
        eprint_note("No context is current; `svctok context set` sets one.");
    }
    file.write(&contexts)?;
    print(&success(format_args!("Context deleted: {name}")))
}

async fn validate(file: &ContextFile, args: NameArgs) -> Result<(), Failure> {
    let contexts = file.read()?;
    let (name, context) = contexts.named_or_current(args.into_name())?;
    check_access(&name, context).await?;
    print(&success(format_args!("Context is valid: {name}")))
}

/// Authenticates at the server, or opens the store.
async fn check_access(name: &str, context: &Context) -> Result<(), Failure> {
    let conditions = Conditions::default();
    match Target::from_context(name, context, None)? {
        Target::Store(store) => {
            let tokens = Tokens::open_store(&store, conditions).await?;
            tokens.close().await;
            Ok(())
        }
        Target::Server { url, token } => {
            let server = ServerTokens::open(&url, token.as_ref(), conditions)?;
            let own = server.own().await?;
            own.map(drop).map_err(|reason| {
                let message = format!("{} rejected the token: {reason}", redact_secrets(&url));
                Failure::new(FailureKind::Unreachable, message)
                    .with_hint("create or rotate a token, and save the context again")
            })
        }
    }
}

fn location(context: &Context) -> String {
    let store = context.store.as_ref().map(StoreUrl::to_string);
    let url = context.url.as_deref().map(redact_secrets);
    url.or(store).unwrap_or_default()
}

/// Returns a context as JSON, without its token.
fn to_json(name: &str, context: &Context, is_current: bool) -> Value {
    json!({
        "name": name,
        "url": context.url.as_deref().map(redact_secrets),
        "store": context.store.as_ref().map(StoreUrl::to_string),
        "token_hint": context.service_token.as_ref().map(SecretText::hint),
        "current": is_current,
    })
}
