use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::json;
use tower_service_token::registry::TokenFilter;
use tower_service_token::token::TokenId;
use tower_service_token::wire::{BulkPreviewResponse, BulkRevocationResponse};

use super::report::note_propagation;
use crate::args::DeleteArgs;
use crate::failure::{Failure, FailureKind};
use crate::output::{Format, Progress, eprint_message, eprint_note, success};
use crate::tokens::{Conditions, Tokens};

/// If more tokens are deleted, a terminal shows only their number.
const MAX_LINES: usize = 20;

const RESUME_HINT: &str =
    "count the remaining tokens with --dry-run, then repeat with that number as --expect";

pub(super) async fn run(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    if args.id.text().is_empty() {
        delete_many(args, output).await
    } else {
        delete_one(args, output).await
    }
}

async fn delete_one(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let token = args.id.read_or_self()?;
    let conditions = Conditions {
        if_revision: args.revision.if_revision,
        allow_last_admin_removal: args.last_admin,
        ..Conditions::default()
    };
    let work = async |tokens: &Tokens| tokens.revoke(token).await;
    let (revoked, effective_within) = Tokens::with(&args.access, conditions, work).await?;
    let data = json!({ "id": revoked.to_string(), "state": "revoked" });
    output.show(&data, || {
        success(format_args!(
            "Service token deleted: {}",
            args.id.display(revoked)
        ))
    })?;
    note_propagation(effective_within);
    Ok(())
}

async fn delete_many(args: DeleteArgs, output: Format) -> Result<(), Failure> {
    let is_counted = args.dry_run || args.expect.is_some();
    let filter = args.filter.into_filter();
    let usage = |message, hint| Err(Failure::usage(message).with_hint(hint));
    if filter.is_empty() && !args.all_tokens {
        if !is_counted {
            return Err(Failure::usage(
                "specify either the ID of one token, or a filter",
            ));
        }
        let hint = "specify a filter, or --all-tokens for every token";
        return usage("no filter specified", hint);
    }
    if args.revision.if_revision.is_some() || args.last_admin {
        let message = "--if-revision and --last-admin apply to one token: specify its ID";
        return Err(Failure::usage(message));
    }
    if !is_counted {
        let hint =
            "preview the matching tokens with --dry-run, then confirm their number with --expect";
        return usage("no expected number of tokens specified", hint);
    }
    Tokens::with(
        &args.access,
        Conditions::default(),
        async |tokens| match args.expect {
            None => preview(filter, tokens, output).await,
            Some(expect) => delete_matching(filter, expect, tokens, output).await,
        },
    )
    .await
}

/// Shows which tokens a deletion would delete.
async fn preview(filter: TokenFilter, tokens: &Tokens, output: Format) -> Result<(), Failure> {
    let preview = tokens.preview_revocation(filter).await?;
    output.show(&BulkPreviewResponse::from(&preview), || {
        let lines = preview.sample.iter().map(|id| format!("{id}\n"));
        lines.collect()
    })?;
    let (count, shown) = (preview.count, preview.sample.len());
    eprint_note(format_args!("{} would be deleted.", count_tokens(count)));
    if shown < count {
        eprint_note(format_args!("The first {shown} of them are shown."));
    }
    if preview.forbidden > 0 {
        eprint_message(format_args!(
            "The deletion would be refused: the caller may not delete {} of them.",
            preview.forbidden
        ));
    }
    if preview.ends_administration {
        eprint_message(
            "The deletion would be refused: no other valid token may administer tokens.",
        );
    }
    Ok(())
}

/// Deletes the tokens that match, in as many calls as needed, and shows which were deleted.
async fn delete_matching(
    filter: TokenFilter,
    expect: usize,
    tokens: &Tokens,
    output: Format,
) -> Result<(), Failure> {
    let mut deletion = Deletion {
        remaining: expect,
        ..Deletion::default()
    };
    let progress = Progress::new(expect, output == Format::Table);
    let done = deletion.run(filter, tokens, &progress).await;
    drop(progress);
    // After a failure, the tokens that were deleted before are shown too.
    if done.is_ok() || !deletion.ids.is_empty() {
        deletion.show(output)?;
    }
    done
}

#[derive(Default)]
struct Deletion {
    ids: Vec<TokenId>,
    remaining: usize,
    effective_within: Duration,
}

impl Deletion {
    async fn run(
        &mut self,
        filter: TokenFilter,
        tokens: &Tokens,
        progress: &Progress,
    ) -> Result<(), Failure> {
        loop {
            let revoked = tokens.revoke_where(filter.clone(), self.remaining).await;
            let revoked = revoked.map_err(|failure| self.interrupted_by(failure))?;
            let is_stuck = revoked.ids.is_empty();
            self.ids.extend(revoked.ids);
            self.remaining = revoked.remaining;
            self.effective_within = self.effective_within.max(revoked.effective_within);
            progress.set(self.ids.len());
            if self.remaining == 0 {
                return Ok(());
            }
            if is_stuck {
                let why = "the last call deleted none";
                return Err(self.stopped(FailureKind::Server, "", why));
            }
        }
    }

    /// Returns the failure of the first call unchanged, and adds the progress to that of a later one.
    fn interrupted_by(&self, failure: Failure) -> Failure {
        if self.ids.is_empty() {
            return failure;
        }
        // An interrupted call may have deleted some.
        let is_known = failure.kind() == FailureKind::Rejected;
        let up_to = if is_known { "" } else { "up to " };
        self.stopped(failure.kind(), up_to, failure.message())
    }

    fn stopped(&self, kind: FailureKind, up_to: &str, why: &str) -> Failure {
        let (deleted, remaining) = (count_tokens(self.ids.len()), self.remaining);
        let message =
            format!("deletion stopped: {deleted} deleted, {up_to}{remaining} remaining: {why}");
        Failure::new(kind, message).with_hint(RESUME_HINT)
    }

    fn show(&self, output: Format) -> Result<(), Failure> {
        let ids = &self.ids;
        let data = BulkRevocationResponse::new(ids, self.remaining);
        let is_brief =
            output == Format::Table && ids.len() > MAX_LINES && io::stdout().is_terminal();
        output.show(&data, || {
            if is_brief {
                return success(format_args!("Service tokens deleted: {}", ids.len()));
            }
            let lines = ids.iter();
            let lines = lines.map(|id| success(format_args!("Service token deleted: {id}")));
            lines.collect()
        })?;
        if !is_brief {
            eprint_note(format_args!("Deleted {}.", count_tokens(ids.len())));
        }
        note_propagation(self.effective_within);
        Ok(())
    }
}

fn count_tokens(count: usize) -> String {
    format!("{count} token{}", if count == 1 { "" } else { "s" })
}
