use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{FieldProblem, LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use crate::principal::{Roles, Scopes};
use crate::store::TokenRecord;

const MAX_TEXT: usize = 200;
const MAX_DESCRIPTION: usize = 2000;
const MAX_NAMES: usize = 100;
const MAX_LABELS: usize = 50;
const MAX_LABEL_KEY: usize = 100;

/// How many problems an error names at most.
const MAX_PROBLEMS: usize = 100;

/// The fields of a token that callers choose, before they are validated.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    name: String,
    description: Option<String>,
    subject: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    labels: BTreeMap<String, String>,
    expires_at: Option<SystemTime>,
    not_before: Option<SystemTime>,
}

impl Fields {
    /// Creates the fields of a new token.
    pub(super) fn from_new_token(
        new: NewToken,
        policy: &TokenPolicy,
        now: SystemTime,
        problems: &mut Vec<FieldProblem>,
    ) -> Self {
        let expires_at = match &new.expiry {
            None => policy.default_expiry(now),
            Some(expiry) => expiry.resolve(now).unwrap_or_else(|error| {
                problems.push(FieldProblem::new("/expires_at", error.to_string()));
                None
            }),
        };
        // An invalid expiry is reported once.
        if problems.is_empty() {
            problems.extend(policy.check_expiry(expires_at, now).err());
        }
        Self {
            name: new.name,
            description: new.description,
            subject: new.subject,
            roles: new.roles,
            scopes: new.scopes,
            labels: new.labels,
            expires_at,
            not_before: new.not_before,
        }
    }

    /// Creates the fields of a token after an update.
    pub(super) fn from_update(
        update: TokenUpdate,
        record: &TokenRecord,
        policy: &TokenPolicy,
        now: SystemTime,
        problems: &mut Vec<FieldProblem>,
    ) -> Self {
        let issued_at = record.rotated_at().or(record.created_at()).unwrap_or(now);
        let expires_at = match update.expiry.as_ref().map(|expiry| expiry.resolve(now)) {
            None => record.expires_at(),
            Some(Ok(expires_at)) => {
                problems.extend(policy.check_expiry(expires_at, issued_at).err());
                expires_at
            }
            Some(Err(error)) => {
                problems.push(FieldProblem::new("/expires_at", error.to_string()));
                None
            }
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let all = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Self {
            labels: update.apply_to_labels(record),
            name: update.name.unwrap_or_else(|| record.name().to_owned()),
            description: update.description.apply(owned(record.description())),
            subject: update.subject.apply(owned(record.subject())),
            roles: update
                .roles
                .unwrap_or_else(|| all(&mut record.roles().iter())),
            scopes: update
                .scopes
                .unwrap_or_else(|| all(&mut record.scopes().iter())),
            expires_at,
            not_before: update.not_before.apply(record.not_before()),
        }
    }

    /// Limits the expiry, if there is a limit.
    pub(super) fn with_max_expiry(mut self, latest: Option<SystemTime>) -> Self {
        if let Some(latest) = latest {
            self.expires_at = Some(self.expires_at.map_or(latest, |time| time.min(latest)));
        }
        self
    }

    /// Finds lists that are too long. Call it before any other work on them: their length is then
    /// bounded by that of a request's body alone.
    pub(super) fn check_counts(&self) -> Result<(), LifecycleError> {
        let counts = [
            ("/roles", self.roles.len(), MAX_NAMES, ""),
            ("/scopes", self.scopes.len(), MAX_NAMES, ""),
            ("/labels", self.labels.len(), MAX_LABELS, " labels"),
        ];
        let too_long = counts.into_iter().filter(|(_, count, max, _)| count > max);
        let problems: Vec<_> = too_long
            .map(|(pointer, _, max, what)| {
                FieldProblem::new(pointer, format!("at most {max}{what}"))
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(LifecycleError::Invalid(problems))
        }
    }

    /// Checks the rules for every token.
    pub(super) fn check(&self, policy: &TokenPolicy, problems: &mut Vec<FieldProblem>) {
        self.check_name(policy, problems);
        if let Some(description) = &self.description {
            check_length("/description", description, MAX_DESCRIPTION, problems);
        }
        if let Some(subject) = &self.subject {
            check_line("/subject", subject, problems);
        }
        check_names("/roles", &self.roles, Roles::is_name, problems);
        check_names("/scopes", &self.scopes, Scopes::is_scope, problems);
        self.check_labels(problems);
        if let (Some(start), Some(end)) = (self.not_before, self.expires_at)
            && start >= end
        {
            let detail = "the start must lie before the expiry";
            problems.push(FieldProblem::new("/not_before", detail));
        }
        problems.truncate(MAX_PROBLEMS);
    }

    pub(super) fn roles(&self) -> Roles {
        self.roles.iter().collect()
    }

    pub(super) fn scopes(&self) -> Scopes {
        self.scopes.iter().collect()
    }

    /// Returns the record with these fields.
    pub(super) fn apply_to(&self, record: TokenRecord) -> TokenRecord {
        let record = record
            .with_name(self.name.as_str())
            .with_description(self.description.as_deref())
            .with_subject(self.subject.as_deref())
            .with_roles(&self.roles)
            .with_scopes(&self.scopes)
            .with_expires_at(self.expires_at)
            .with_not_before(self.not_before)
            .without_labels();
        self.labels.iter().fold(record, |record, (key, value)| {
            record.with_label(key.as_str(), value.as_str())
        })
    }

    /// Returns whether the record has these fields, but for the expiry, which may be counted from
    /// now.
    pub(super) fn match_record(&self, record: &TokenRecord) -> bool {
        let asked = self.apply_to(record.clone());
        let names = |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
            names.map(str::to_owned).collect()
        };
        let fields = |record: &TokenRecord| {
            (
                [Some(record.name()), record.description(), record.subject()]
                    .map(|text| text.map(str::to_owned)),
                names(&mut record.roles().iter()),
                names(&mut record.scopes().iter()),
                record.not_before(),
            )
        };
        fields(&asked) == fields(record) && asked.labels().eq(record.labels())
    }

    fn check_name(&self, policy: &TokenPolicy, problems: &mut Vec<FieldProblem>) {
        let before = problems.len();
        check_line("/name", &self.name, problems);
        if problems.len() == before
            && let Err(detail) = policy.check_name(&self.name)
        {
            problems.push(FieldProblem::new("/name", detail));
        }
    }

    fn check_labels(&self, problems: &mut Vec<FieldProblem>) {
        for (key, value) in &self.labels {
            let is_valid =
                |text: &str, max| text.chars().count() <= max && !text.contains(char::is_control);
            if key.is_empty() || !is_valid(key, MAX_LABEL_KEY) || !is_valid(value, MAX_TEXT) {
                let key = key.replace('~', "~0").replace('/', "~1");
                let detail = format!(
                    "a key has 1 to {MAX_LABEL_KEY} characters and a value at most {MAX_TEXT}, \
                     none of them control characters"
                );
                problems.push(FieldProblem::new(format!("/labels/{key}"), detail));
            }
        }
    }
}

fn check_names(
    pointer: &'static str,
    names: &[String],
    is_valid: fn(&str) -> bool,
    problems: &mut Vec<FieldProblem>,
) {
    for (index, name) in names.iter().enumerate() {
        if !is_valid(name) || name.chars().count() > MAX_TEXT {
            let detail = match pointer {
                "/scopes" => "a scope is visible ASCII without quotes and backslashes",
                _ => "a role is not empty and has no control characters",
            };
            let detail = format!("{detail}, at most {MAX_TEXT} characters");
            problems.push(FieldProblem::new(format!("{pointer}/{index}"), detail));
        }
    }
}

/// One line of text that is not empty and does not begin or end with a space.
fn check_line(pointer: &'static str, text: &str, problems: &mut Vec<FieldProblem>) {
    if text.is_empty() {
        problems.push(FieldProblem::new(pointer, "must not be empty"));
    } else if text.trim() != text || text.contains(char::is_control) {
        let detail = "no space at either end, and no control characters";
        problems.push(FieldProblem::new(pointer, detail));
    }
    check_length(pointer, text, MAX_TEXT, problems);
}

fn check_length(pointer: &'static str, text: &str, max: usize, problems: &mut Vec<FieldProblem>) {
    if text.chars().count() > max {
        problems.push(FieldProblem::new(
            pointer,
            format!("at most {max} characters"),
        ));
    }
}
