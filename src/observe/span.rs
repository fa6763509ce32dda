use tracing::level_filters::LevelFilter;
use tracing::{Span, dispatcher};

use crate::principal::Principal;
use crate::text::{escape_invisible, redact_tokens};
use crate::token::DisplayId;

const TOKEN_ID: &str = "token_id";
const TOKEN_NAME: &str = "token_name";

/// Records the caller in the current span, if the span declares the fields.
#[inline]
pub(crate) fn record_caller(principal: &Principal) {
    if has_spans() && is_declared() {
        record_declared(principal);
    }
}

#[cold]
fn record_declared(principal: &Principal) {
    record_token_id(&principal.display_id());
    // Stores of other programs may have any name.
    let name = redact_tokens(principal.name());
    Span::current().record(TOKEN_NAME, escape_invisible(&name));
}

/// Records the token of a rejected request, whose secret was presented.
pub(crate) fn record_rejected(id: &DisplayId) {
    if has_spans() && is_declared() {
        record_token_id(id);
    }
}

fn record_token_id(id: &DisplayId) {
    Span::current().record(TOKEN_ID, tracing::field::display(id));
}

/// Returns false if no subscriber enables any span.
#[inline]
fn has_spans() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

/// Returns whether the current span declares one of the fields. Unlike [`Span::current`], this counts
/// no reference to the span.
fn is_declared() -> bool {
    dispatcher::get_default(|dispatch| {
        let current = dispatch.current_span();
        let is_field = |name| {
            let fields = current.metadata().map(tracing::Metadata::fields);
            fields.is_some_and(|fields| fields.field(name).is_some())
        };
        is_field(TOKEN_ID) || is_field(TOKEN_NAME)
    })
}
