use serde_json::json;

use super::delete;
use super::fields::{new_token, update};
use super::report::{note_propagation, show_change, show_secret};
use crate::args::{
    ChangeArgs, CreateArgs, DisableArgs, GetArgs, ListArgs, RotateArgs, SecretFileArgs,
    TokenCommand, UpdateArgs, UpdateFieldArgs,
};
use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, token_details, token_table};
use crate::tokens::{Conditions, IfMissing, Listing, Tokens};

pub(super) async fn run(command: TokenCommand, output: Format) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create(args, output).await,
        TokenCommand::Delete(args) => delete::run(args, output).await,
        TokenCommand::Disable(args) => disable(&args, output).await,
        TokenCommand::Enable(args) => enable(&args, output).await,
        TokenCommand::Get(args) => get(&args, output).await,
        TokenCommand::List(args) => list(args, output).await,
        TokenCommand::Rotate(args) => rotate(&args, output).await,
        TokenCommand::Update(args) => run_update(args, output).await,
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
    let output = output.without_secret()?;
    let token = args.id.read_or_self()?;
    let work = async |tokens: &Tokens| tokens.get(token).await;
    let token = Tokens::with(&args.access, Conditions::default(), work).await?;
    output.show(&TokenData::from(&token), || token_details(&token))
}

async fn list(args: ListArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let filter = args.filter.into_filter();
    let listing = Listing {
        include_revoked: args.all || filter.status.is_some(),
        filter,
        limit: args.limit,
    };
    let work = async |tokens: &Tokens| tokens.list(listing).await;
    let tokens = Tokens::with(&args.access, Conditions::default(), work).await?;
    output.show(&json!({ "service_tokens": tokens }), || {
        token_table(&tokens)
    })
}

async fn rotate(args: &RotateArgs, output: Format) -> Result<(), Failure> {
    let token = args.change.id.read_or_self()?;
    let file = args.file.open()?;
    let conditions = args.change.conditions(false);
    Tokens::with(&args.change.access, conditions, async |tokens| {
        let issued = tokens.rotate(token, args.grace).await?;
        show_secret(&issued, "rotated", file, output)?;
        note_propagation(issued.effective_within);
        Ok(())
    })
    .await
}

async fn run_update(args: UpdateArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let change = args.change;
    let id = change.id.read()?;
    let has_expiry = args.expiry.expiration.is_some() || args.expiry.expires_in.is_some();
    if args.fields == UpdateFieldArgs::default() && !has_expiry {
        return Err(Failure::usage("no changes specified")
            .with_hint("`svctok update --help` shows the flags for changes"));
    }
    let update = update(args.fields, args.expiry);
    let work = async |tokens: &Tokens| tokens.update(id, update).await;
    let changed = Tokens::with(&change.access, change.conditions(args.last_admin), work).await?;
    show_change(&changed, "updated", change.id.text(), output)
}

async fn disable(args: &DisableArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let change = &args.change;
    let id = change.id.read()?;
    let work = async |tokens: &Tokens| tokens.disable(id).await;
    let changed = Tokens::with(&change.access, change.conditions(args.last_admin), work).await?;
    show_change(&changed, "disabled", change.id.text(), output)
}

async fn enable(change: &ChangeArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = change.id.read()?;
    let work = async |tokens: &Tokens| tokens.enable(id).await;
    let changed = Tokens::with(&change.access, change.conditions(false), work).await?;
    show_change(&changed, "enabled", change.id.text(), output)
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
        let path = self.output_file.as_deref();
        path.map(|path| SecretFile::open(path, self.force))
            .transpose()
    }
}
