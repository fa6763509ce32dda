use serde_json::json;

use super::bulk_deletion;
use super::update::note_propagation;
use crate::args::{DeleteArgs, IdArgs};
use crate::failure::Failure;
use crate::output::{Format, success};
use crate::tokens::{IfMissing, TokenRef, Tokens};

const ID_OR_FILTER: &str = "name one token by its ID, or several by a filter";

pub(super) async fn run(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    if args.id.is_some() || args.id_flag.is_some() {
        delete_one(args, output).await
    } else {
        delete_many(args, output).await
    }
}

async fn delete_one(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let is_of_many = args.dry_run || args.expect.is_some() || args.all_tokens;
    if is_of_many || !args.filter.into_filter().is_empty() {
        return Err(Failure::usage(ID_OR_FILTER));
    }
    let (id, id_flag) = (args.id, args.id_flag);
    let id = IdArgs { id, id_flag };
    let token = id.read_or_self()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens
        .if_revision(args.revision)
        .allow_last_admin_removal(args.last_admin);
    let revoked = tokens.revoke(token).await;
    tokens.close().await;
    let revoked = revoked?;
    let revoked_id = revoked.id.to_string();
    let data = json!({ "id": revoked_id, "state": "revoked" });
    output.show(&data, || {
        let shown = match token {
            TokenRef::Id(_) => id.text(),
            TokenRef::Own => &revoked_id,
        };
        success(format_args!("Service token deleted: {shown}"))
    })?;
    note_propagation(revoked.effective_within);
    Ok(())
}

async fn delete_many(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let is_counted = args.dry_run || args.expect.is_some();
    let filter = args.filter.into_filter();
    match (filter.is_empty(), args.all_tokens) {
        (true, false) if is_counted => {
            return Err(Failure::usage("no filter specified")
                .with_hint("specify a filter, or --all-tokens for every token"));
        }
        (true, false) => return Err(Failure::usage(ID_OR_FILTER)),
        (false, true) => {
            return Err(Failure::usage("--all-tokens takes no filter")
                .with_hint("leave out --all-tokens to delete only the tokens that match"));
        }
        (true, true) | (false, false) => {}
    }
    if args.revision.if_revision.is_some() || args.last_admin.is_confirmed {
        return Err(Failure::usage(
            "--if-revision and --last-admin apply to one token: specify its ID",
        ));
    }
    if !is_counted {
        return Err(
            Failure::usage("no expected number of tokens specified").with_hint(
                "preview the matching tokens with --dry-run, then confirm their number with --expect",
            ),
        );
    }
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let deleted = match args.expect {
        None => bulk_deletion::preview(filter, &tokens, output).await,
        Some(expect) => bulk_deletion::run(filter, expect, &tokens, output).await,
    };
    tokens.close().await;
    deleted
}
