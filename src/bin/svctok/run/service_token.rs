use serde_json::json;
use tower_service_token::client::ChangedTokenInfo;
use tower_service_token::token::TokenId;

use super::delete;
use super::fields::{new_token, token_update};
use super::report::{note_propagation, show_change, show_secret};
use crate::args::{
    ChangeArgs, CreateArgs, GetArgs, ListArgs, RotateArgs, SecretFileArgs, TokenCommand,
    UpdateArgs, UpdateFieldArgs,
};
use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, is_stdout, token_details, token_table};
use crate::tokens::{Conditions, IfMissing, Tokens};

pub(super) async fn run(command: TokenCommand, output: Format) -> Result<(), Failure> {
    let issues_secret = matches!(command, TokenCommand::Create(_) | TokenCommand::Rotate(_));
    let output = if issues_secret {
        output
    } else {
        output.without_secret()?
    };
    match command {
        TokenCommand::Create(args) => create(args, output).await,
        TokenCommand::Delete(args) => delete::run(args, output).await,
        TokenCommand::Disable(args) => {
            let work = async |tokens: &Tokens, id| tokens.disable(id).await;
            change(&args.change, args.last_admin, "disabled", output, work).await
        }
        TokenCommand::Enable(args) => {
            let work = async |tokens: &Tokens, id| tokens.enable(id).await;
            change(&args, false, "enabled", output, work).await
        }
        TokenCommand::Get(args) => get(&args, output).await,
        TokenCommand::List(args) => list(args, output).await,
        TokenCommand::Rotate(args) => rotate(&args, output).await,
        TokenCommand::Update(args) => update(args, output).await,
    }
}

async fn create(args: CreateArgs, output: Format) -> Result<(), Failure> {
    let file = args.file.open()?;
    let conditions = Conditions {
        if_missing: IfMissing::Create,
        ..Conditions::default()
    };
    Tokens::with(&args.access, conditions, async |tokens| {
        let new = new_token(args.name, args.fields, args.expiry);
        let issued = tokens.create(new).await?;
        show_secret(&issued, "created", file, output)
    })
    .await
}

async fn get(args: &GetArgs, output: Format) -> Result<(), Failure> {
    let token = args.id.read_or_self()?;
    let work = async |tokens: &Tokens| tokens.get(token).await;
    let token = Tokens::with(&args.access, Conditions::default(), work).await?;
    output.show(&TokenData::new(&token), || token_details(&token))
}

async fn list(args: ListArgs, output: Format) -> Result<(), Failure> {
    let filter = args.filter.into_filter();
    let include_revoked = args.all || filter.status.is_some();
    let work = async |tokens: &Tokens| tokens.list(filter, include_revoked, args.limit).await;
    let tokens = Tokens::with(&args.access, Conditions::default(), work).await?;
    output.show(&json!({ "service_tokens": tokens }), || {
        token_table(&tokens, args.all)
    })
}

async fn rotate(args: &RotateArgs, output: Format) -> Result<(), Failure> {
    let token = args.change.id.read_or_self()?;
    let file = args.file.open()?;
    let conditions = args.change.conditions(false);
    Tokens::with(&args.change.access, conditions, async |tokens| {
        let issued = tokens.rotate(token, args.grace).await?;
        show_secret(&issued, "rotated", file, output)?;
        note_propagation(issued.effective_within());
        Ok(())
    })
    .await
}

async fn update(args: UpdateArgs, output: Format) -> Result<(), Failure> {
    let has_expiry = args.expiry.expiration.is_some() || args.expiry.expires_in.is_some();
    if args.fields == UpdateFieldArgs::default() && !has_expiry {
        return Err(Failure::usage("no changes specified")
            .with_hint("`svctok update --help` shows the flags for changes"));
    }
    let update = token_update(args.fields, args.expiry);
    let work = async |tokens: &Tokens, id| tokens.update(id, update).await;
    change(&args.change, args.last_admin, "updated", output, work).await
}

/// Changes a token and shows the result.
async fn change(
    args: &ChangeArgs,
    allow_last_admin_removal: bool,
    action: &str,
    output: Format,
    work: impl AsyncFnOnce(&Tokens, TokenId) -> Result<ChangedTokenInfo, Failure>,
) -> Result<(), Failure> {
    let id = args.id.read()?;
    let conditions = args.conditions(allow_last_admin_removal);
    let work = async |tokens: &Tokens| work(tokens, tokens.id(id).await?).await;
    let changed = Tokens::with(&args.access, conditions, work).await?;
    show_change(&changed, action, &args.id, output)
}

impl ChangeArgs {
    fn conditions(&self, allow_last_admin_removal: bool) -> Conditions {
        Conditions {
            if_revision: self.revision.if_revision,
            allow_last_admin_removal,
            ..Conditions::default()
        }
    }
}

impl SecretFileArgs {
    /// Creates the file before the secret is issued, so that the secret cannot get lost.
    fn open(&self) -> Result<Option<SecretFile>, Failure> {
        let path = self.output_file.as_deref().filter(|path| !is_stdout(path));
        path.map(|path| SecretFile::open(path, self.force))
            .transpose()
    }
}
