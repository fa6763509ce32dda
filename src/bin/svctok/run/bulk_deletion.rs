use std::io::{self, IsTerminal};
use std::time::Duration;

use tower_service_token::registry::TokenFilter;
use tower_service_token::token::TokenId;
use tower_service_token::wire::{BulkPreviewResponse, BulkRevocationResponse};

use super::update::note_propagation;
use crate::failure::{Failure, FailureKind};
use crate::output::{Format, Progress, note, success};
use crate::tokens::Tokens;

/// If more tokens were deleted, a terminal shows their number in place of their IDs.
const MAX_LINES: usize = 20;

/// Shows which tokens a deletion would delete.
pub(super) async fn preview(
    filter: TokenFilter,
    tokens: &Tokens,
    output: Format,
) -> Result<(), Failure> {
    let preview = tokens.preview_revocation(filter).await?;
    output.show(&BulkPreviewResponse::from(&preview), || {
        let ids = preview.sample.iter();
        ids.flat_map(|id| [id.to_string(), "\n".to_owned()])
            .collect()
    })?;
    let (count, shown) = (preview.count, preview.sample.len());
    note(format_args!(
        "{} would be deleted.",
        pluralize(preview.count, "token")
    ));
    if shown < count {
        note(format_args!("The first {shown} of them are shown."));
    }
    if preview.forbidden > 0 {
        note(format_args!(
            "The deletion would be refused: the caller may not delete {} of them.",
            preview.forbidden
        ));
    }
    if preview.ends_administration {
        note("The deletion would be refused: no other valid token may administer tokens.");
    }
    Ok(())
}

/// Deletes the tokens that match, in as many calls as it takes, and shows which were deleted.
pub(super) async fn run(
    filter: TokenFilter,
    expect: usize,
    tokens: &Tokens,
    output: Format,
) -> Result<(), Failure> {
    let mut deletion = Deletion {
        ids: Vec::new(),
        remaining: expect,
        effective_within: Duration::ZERO,
    };
    let progress = Progress::new(expect, output == Format::Table);
    let done = deletion.run(filter, tokens, &progress).await;
    drop(progress);
    match done {
        Err(failure) if deletion.ids.is_empty() => Err(failure),
        // What was deleted so far is shown as well.
        done => {
            deletion.show(output)?;
            done
        }
    }
}

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
                let message = format!("{}: the last call deleted none", self.summary(""));
                return Err(Failure::new(FailureKind::Server, message).with_hint(RESUME_HINT));
            }
        }
    }

    /// The first call fails as it is; later ones say how far the deletion got.
    fn interrupted_by(&self, failure: Failure) -> Failure {
        if self.ids.is_empty() {
            return failure;
        }
        // An interrupted call may have deleted some.
        let is_known = failure.kind() == FailureKind::Refused;
        let up_to = if is_known { "" } else { "up to " };
        let message = format!("{}: {}", self.summary(up_to), failure.message());
        Failure::new(failure.kind(), message).with_hint(RESUME_HINT)
    }

    fn summary(&self, up_to: &str) -> String {
        format!(
            "deletion stopped: {} deleted, {up_to}{} remaining",
            pluralize(self.ids.len(), "token"),
            self.remaining
        )
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
            note(format_args!("Deleted {}.", pluralize(ids.len(), "token")));
        }
        note_propagation(self.effective_within);
        Ok(())
    }
}

const RESUME_HINT: &str =
    "count what remains with --dry-run, then repeat with that number as --expect";

fn pluralize(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
