use std::collections::BTreeMap;
use std::time::SystemTime;

use super::{Expiry, FieldProblem, LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use crate::principal::{Roles, Scopes};
use crate::store::TokenRecord;

const MAX_TEXT: usize = 200;
const MAX_DESCRIPTION: usize = 2000;
const MAX_NAMES: usize = 100;
const MAX_LABELS: usize = 50;
const MAX_LABEL_KEY: usize = 100;

/// The maximum number of problems that an error names.
const MAX_PROBLEMS: usize = 100;

/// The fields of a token that callers choose, before they are validated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    name: String,
    description: Option<String>,
    subject: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    labels: BTreeMap<String, String>,
    expires_at: Option<SystemTime>,
    not_before: Option<SystemTime>,
    /// Why the requested expiry is invalid. [`check`](Self::check) reports it with the others.
    expiry_problem: Option<FieldProblem>,
}

impl Fields {
    /// Creates the fields of a new token.
    pub(super) fn from_new_token(new: NewToken, policy: &TokenPolicy, now: SystemTime) -> Self {
        let mut fields = Self {
            name: new.name,
            description: new.description,
            subject: new.subject,
            roles: new.roles,
            scopes: new.scopes,
            labels: new.labels,
            expires_at: policy.default_expiry(now),
            not_before: new.not_before,
            expiry_problem: None,
        };
        if let Some(expiry) = &new.expiry {
            fields.set_expiry(expiry, policy, now, now);
        }
        fields
    }

    /// Creates the fields of a token after an update.
    pub(super) fn from_update(
        update: TokenUpdate,
        record: &TokenRecord,
        policy: &TokenPolicy,
        now: SystemTime,
    ) -> Self {
        let mut fields = Self::from_record(record);
        fields.name = update.name.unwrap_or(fields.name);
        fields.description = update.description.apply(fields.description);
        fields.subject = update.subject.apply(fields.subject);
        fields.roles = update.roles.unwrap_or(fields.roles);
        fields.scopes = update.scopes.unwrap_or(fields.scopes);
        fields.not_before = update.not_before.apply(fields.not_before);
        fields.labels.retain(|_, _| !update.clears_labels);
        for (key, value) in update.labels {
            match value {
                Some(value) => fields.labels.insert(key, value),
                None => fields.labels.remove(&key),
            };
        }
        if let Some(expiry) = &update.expiry {
            let issued_at = record.rotated_at().or(record.created_at());
            fields.set_expiry(expiry, policy, now, issued_at.unwrap_or(now));
        }
        fields
    }

    fn from_record(record: &TokenRecord) -> Self {
        let labels = record.labels();
        Self {
            name: record.name().to_owned(),
            description: record.description().map(str::to_owned),
            subject: record.subject().map(str::to_owned),
            roles: record.roles().iter().map(str::to_owned).collect(),
            scopes: record.scopes().iter().map(str::to_owned).collect(),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            expires_at: record.expires_at(),
            not_before: record.not_before(),
            expiry_problem: None,
        }
    }

    /// Sets the expiry of a token whose secret was issued at `issued_at`.
    fn set_expiry(
        &mut self,
        expiry: &Expiry,
        policy: &TokenPolicy,
        now: SystemTime,
        issued_at: SystemTime,
    ) {
        match expiry.resolve(now) {
            Ok(expires_at) => {
                self.expires_at = expires_at;
                self.expiry_problem = policy.check_expiry(expires_at, issued_at).err();
            }
            Err(error) => {
                self.expires_at = None;
                self.expiry_problem = Some(FieldProblem::new("/expires_at", error.to_string()));
            }
        }
    }

    /// Moves the expiry forward to `latest` if it is later. `None` is no limit.
    pub(super) fn limit_expiry(&mut self, latest: Option<SystemTime>) {
        self.expires_at = self.expires_at.into_iter().chain(latest).min();
    }

    /// Checks the length of the lists. Call it before any other work on them, which is then bounded
    /// by these limits instead of the size of the request.
    pub(super) fn check_counts(&self) -> Result<(), LifecycleError> {
        let counts = [
            ("/roles", self.roles.len(), MAX_NAMES, ""),
            ("/scopes", self.scopes.len(), MAX_NAMES, ""),
            ("/labels", self.labels.len(), MAX_LABELS, " labels"),
        ];
        let too_long = counts.into_iter().filter(|(_, count, max, _)| count > max);
        let problems = too_long.map(|(pointer, _, max, unit)| {
            FieldProblem::new(pointer, format!("at most {max}{unit}"))
        });
        LifecycleError::check(problems.collect())
    }

    /// Checks the rules for all tokens and those of the policy.
    pub(super) fn check(&self, policy: &TokenPolicy) -> Result<(), LifecycleError> {
        self.check_counts()?;
        let mut problems = Vec::from_iter(self.expiry_problem.clone());
        self.check_name(policy, &mut problems);
        if let Some(description) = &self.description {
            check_length("/description", description, MAX_DESCRIPTION, &mut problems);
        }
        if let Some(subject) = &self.subject {
            check_line("/subject", subject, &mut problems);
        }
        check_names("/roles", &self.roles, Roles::is_name, &mut problems);
        check_names("/scopes", &self.scopes, Scopes::is_scope, &mut problems);
        self.check_labels(&mut problems);
        if let (Some(start), Some(end)) = (self.not_before, self.expires_at)
            && start >= end
        {
            let detail = "the start must be before the expiry";
            problems.push(FieldProblem::new("/not_before", detail));
        }
        problems.truncate(MAX_PROBLEMS);
        LifecycleError::check(problems)
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

    /// Returns whether the record has these fields. Ignores the order of roles and scopes, and the
    /// expiry, which may be relative to the time of the call.
    pub(super) fn match_record(&self, record: &TokenRecord) -> bool {
        let comparable = |record: &TokenRecord| {
            let mut fields = Self::from_record(record);
            fields.roles.sort_unstable();
            fields.scopes.sort_unstable();
            fields.expires_at = None;
            fields
        };
        comparable(&self.apply_to(record.clone())) == comparable(record)
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

/// Checks a line of text: not empty, and without white space at either end.
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
