use serde_json::json;
use tower_service_token::store::TokenFilter;
use tower_service_token::token::TokenId;

use super::update::say_when;
use crate::args::{AccessArgs, DeleteArgs, IdArgs};
use crate::failure::Failure;
use crate::output::{Format, note, success};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let DeleteArgs {
        id,
        id_flag,
        filter,
        dry_run,
        expect,
        access,
    } = args;
    let has_id = id.is_some() || id_flag.is_some();
    let filter = filter.into_filter();
    let is_of_many = dry_run || expect.is_some();
    if has_id == (is_of_many || !filter.is_empty()) {
        return Err(Failure::usage(
            "name one token by its ID, or several by a filter",
        ));
    }
    if has_id {
        return delete_one(&IdArgs { id, id_flag }, &access, output).await;
    }
    if !is_of_many {
        return Err(
            Failure::usage("it is not said how many tokens the filter means")
                .with_hint("look by --dry-run, then say so by --expect"),
        );
    }
    let tokens = Tokens::open(&access, IfMissing::Fail).await?;
    delete_many(filter, expect, &tokens, output).await
}

async fn delete_one(id: &IdArgs, access: &AccessArgs, output: Format) -> Result<(), Failure> {
    let id = id.read()?;
    let tokens = Tokens::open(access, IfMissing::Fail).await?;
    let effective_within = tokens.revoke(id.id).await?;
    let data = json!({ "id": id.id.to_string(), "state": "revoked" });
    output.show(&data, || {
        success(format_args!("Service token deleted: {}", id.text))
    })?;
    say_when(effective_within);
    Ok(())
}

/// Without a number, it is told which tokens would be deleted.
async fn delete_many(
    filter: TokenFilter,
    expect: Option<usize>,
    tokens: &Tokens,
    output: Format,
) -> Result<(), Failure> {
    let Some(expect) = expect else {
        let ids = tokens.revocable(filter).await?;
        show(&ids, true, output)?;
        note(format_args!("{} would be deleted.", ids.len()));
        return Ok(());
    };
    let revoked = tokens.revoke_where(filter, expect).await?;
    show(&revoked.ids, false, output)?;
    say_when(revoked.effective_within);
    Ok(())
}

fn show(ids: &[TokenId], is_trial: bool, output: Format) -> Result<(), Failure> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let data = json!({ "ids": ids, "dry_run": is_trial });
    output.show(&data, || {
        let lines = ids.iter().map(|id| {
            if is_trial {
                format!("{id}\n")
            } else {
                success(format_args!("Service token deleted: {id}"))
            }
        });
        lines.collect()
    })
}
