use serde_json::json;

use super::bulk_deletion;
use super::id::Id;
use super::update::say_when;
use crate::args::{DeleteArgs, IdArgs};
use crate::failure::Failure;
use crate::output::{Format, success};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let DeleteArgs {
        id,
        id_flag,
        filter,
        dry_run,
        expect,
        revision,
        last_admin,
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
        let id = IdArgs { id, id_flag }.read()?;
        let tokens = Tokens::open(&access, IfMissing::Fail).await?;
        let tokens = tokens.at_revision(revision).confirmed(last_admin);
        return delete_one(&id, &tokens, output).await;
    }
    if revision.if_revision.is_some() || last_admin.is_confirmed {
        return Err(Failure::usage(
            "--if-revision and --last-admin apply to one token: specify its ID",
        ));
    }
    if !is_of_many {
        return Err(
            Failure::usage("no expected number of tokens specified").with_hint(
                "preview the matching tokens with --dry-run, then confirm their number with --expect",
            ),
        );
    }
    let tokens = Tokens::open(&access, IfMissing::Fail).await?;
    match expect {
        None => bulk_deletion::preview(filter, &tokens, output).await,
        Some(expect) => bulk_deletion::run(filter, expect, &tokens, output).await,
    }
}

async fn delete_one(id: &Id, tokens: &Tokens, output: Format) -> Result<(), Failure> {
    let effective_within = tokens.revoke(id.id).await?;
    let data = json!({ "id": id.id.to_string(), "state": "revoked" });
    output.show(&data, || {
        success(format_args!("Service token deleted: {}", id.text))
    })?;
    say_when(effective_within);
    Ok(())
}
