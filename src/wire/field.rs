//! Parsing and formatting of members that are strings.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::time::SystemTime;

use crate::clock::date_time;
use crate::lifecycle::{Expiry, ExpiryKind, FieldProblem, Patch};

/// Converts members and collects the rules that they break.
#[derive(Debug, Default)]
pub(crate) struct FieldProblems(Vec<FieldProblem>);

impl FieldProblems {
    pub(crate) fn push(&mut self, pointer: impl Into<Cow<'static, str>>, detail: impl Display) {
        let problem = FieldProblem::new(pointer, detail.to_string());
        self.0.push(problem);
    }

    /// Parses a member that is present.
    pub(crate) fn parse<T: FromStr<Err: Display>>(
        &mut self,
        pointer: impl Into<Cow<'static, str>>,
        text: Option<&String>,
    ) -> Option<T> {
        let parsed = text?.parse();
        parsed.map_err(|error| self.push(pointer, error)).ok()
    }

    /// Parses an RFC 3339 time that is present, or a date as its start.
    pub(crate) fn time(
        &mut self,
        pointer: impl Into<Cow<'static, str>>,
        text: Option<&String>,
    ) -> Option<SystemTime> {
        let time = date_time::parse_start(text?);
        time.map_err(|error| self.push(pointer, error)).ok()
    }

    /// Returns the expiry that `expires_at` or `expires_in` sets. `null` is never.
    pub(crate) fn expiry(&mut self, at: &Patch<String>, after: &Patch<String>) -> Option<Expiry> {
        let mut parse = |pointer, text: &Patch<String>| match text {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(text) => self
                .parse(pointer, Some(text))
                .map_or(Patch::Keep, Patch::Set),
        };
        match [parse("/expires_at", at), parse("/expires_in", after)] {
            [Patch::Keep, Patch::Keep] => None,
            [Patch::Set(expiry), Patch::Keep] | [Patch::Keep, Patch::Set(expiry)] => Some(expiry),
            [Patch::Set(_), _] | [_, Patch::Set(_)] => {
                self.push("/expires_in", "either this or expires_at");
                None
            }
            _ => Some(Expiry::NEVER),
        }
    }

    /// Returns `value` if no rule is broken.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Vec<FieldProblem>> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self.0)
        }
    }
}

/// The members that set an expiry: `expires_at` and `expires_in`. A relative expiry stays relative,
/// so that only the server's clock counts.
pub(super) fn expiry_members(
    expiry: Option<&Expiry>,
) -> Result<(Patch<String>, Patch<String>), FieldProblem> {
    Ok(match expiry.map(|expiry| &expiry.0) {
        None => (Patch::Keep, Patch::Keep),
        Some(ExpiryKind::Never) => (Patch::Clear, Patch::Keep),
        Some(ExpiryKind::At(end)) => (Patch::Set(rfc_3339("/expires_at", *end)?), Patch::Keep),
        Some(ExpiryKind::After(span)) => (Patch::Keep, Patch::Set(span.to_string())),
    })
}

/// Returns the pointer to the member that sets an expiry: `expires_in` if it is present.
#[cfg(feature = "api")]
pub(super) fn expiry_member(after: &Patch<String>) -> &'static str {
    match after {
        Patch::Keep => "/expires_at",
        Patch::Clear | Patch::Set(_) => "/expires_in",
    }
}

/// Formats a time. Returns an error if it is not within the years of RFC 3339.
pub(super) fn rfc_3339(pointer: &'static str, time: SystemTime) -> Result<String, FieldProblem> {
    date_time::format(time).ok_or_else(|| FieldProblem::new(pointer, "before the year 0"))
}
