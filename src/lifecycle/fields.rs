use std::collections::BTreeMap;
use std::time::SystemTime;

use super::field_rules::{
    MAX_TEXT_CHARS, check_count, check_description, check_line, check_names, is_role, trimmed,
};
use super::{Expiry, FieldProblem, LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use crate::clock::earliest;
use crate::principal::Scopes;
use crate::store::TokenRecord;
use crate::text::{escape_pointer, has_invisible, is_blank};

const MAX_NAMES_PER_LIST: usize = 100;
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
    owner: Option<String>,
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
            owner: new.owner,
            roles: trimmed(new.roles, &[]),
            scopes: trimmed(new.scopes, &[]),
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

    /// Returns these fields of `record` after an update.
    pub(super) fn updated(
        &self,
        update: TokenUpdate,
        record: &TokenRecord,
        policy: &TokenPolicy,
        now: SystemTime,
    ) -> Self {
        let mut fields = self.clone();
        fields.name = update.name.unwrap_or(fields.name);
        fields.description = update.description.apply(fields.description);
        fields.subject = update.subject.apply(fields.subject);
        fields.owner = update.owner.apply(fields.owner);
        if let Some(roles) = update.roles {
            fields.roles = trimmed(roles, &self.roles);
        }
        if let Some(scopes) = update.scopes {
            fields.scopes = trimmed(scopes, &self.scopes);
        }
        fields.not_before = update.not_before.apply(fields.not_before);
        fields.labels.retain(|_, _| !update.clears_labels);
        for (key, value) in update.labels {
            match value {
                Some(value) => fields.labels.insert(key, value),
                None => fields.labels.remove(&key),
            };
        }
        let issued_at = record.rotated_at().or(record.created_at());
        let issued_at = issued_at.unwrap_or(now);
        // An expiry that stays may have passed.
        if let Some(expiry) = &update.expiry
            && !expiry.is(self.expires_at)
        {
            fields.set_expiry(expiry, policy, now, issued_at);
        } else if fields.has_new_owner(Some(self)) {
            fields.expiry_problem = policy.check_expiry(fields.expires_at, issued_at).err();
        }
        fields
    }

    pub(super) fn from_record(record: &TokenRecord) -> Self {
        let labels = record.labels();
        Self {
            name: record.name().to_owned(),
            description: record.description().map(str::to_owned),
            subject: record.subject().map(str::to_owned),
            owner: record.owner().map(str::to_owned),
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

    /// Returns whether these fields are those of a token with another owner than `known`. The rules of
    /// that owner apply to unchanged fields too.
    fn has_new_owner(&self, known: Option<&Self>) -> bool {
        self.owner.is_some() && known.is_some_and(|known| known.owner != self.owner)
    }

    /// Gives a new token without an owner this one. `None` is no owner.
    pub(super) fn default_owner(&mut self, owner: Option<&str>) {
        if let (None, Some(owner)) = (&self.owner, owner) {
            self.owner = Some(owner.to_owned());
        }
    }

    /// Moves the expiry forward to `latest` if it is later. `None` is no limit.
    pub(super) fn limit_expiry(&mut self, latest: Option<SystemTime>) {
        self.expires_at = earliest(self.expires_at, latest);
    }

    /// Checks the length of the lists that differ from `known`. Call it before any other work on
    /// them, which is then bounded by these limits instead of the size of the request.
    pub(super) fn check_counts(&self, known: Option<&Self>) -> Result<(), LifecycleError> {
        let mut problems = Vec::new();
        if known.is_none_or(|known| known.roles != self.roles) {
            check_count(
                "/roles",
                self.roles.len(),
                MAX_NAMES_PER_LIST,
                &mut problems,
            );
        }
        if known.is_none_or(|known| known.scopes != self.scopes) {
            check_count(
                "/scopes",
                self.scopes.len(),
                MAX_NAMES_PER_LIST,
                &mut problems,
            );
        }
        if known.is_none_or(|known| known.labels != self.labels) {
            check_count("/labels", self.labels.len(), MAX_LABELS, &mut problems);
        }
        LifecycleError::check(problems)
    }

    /// Checks the rules for all tokens and those of the policy, for the fields that differ from
    /// `known`: a token that was stored before a rule existed can still be changed.
    pub(super) fn check(
        &self,
        known: Option<&Self>,
        policy: &TokenPolicy,
    ) -> Result<(), LifecycleError> {
        self.check_counts(known)?;
        let mut problems = Vec::from_iter(self.expiry_problem.clone());
        if known.is_none_or(|known| known.name != self.name) {
            self.check_name(policy, &mut problems);
        } else if self.has_new_owner(known)
            && let Err(detail) = policy.check_name(&self.name)
        {
            problems.push(FieldProblem::new("/name", detail));
        }
        if let Some(description) = &self.description
            && known.is_none_or(|known| known.description != self.description)
        {
            check_description(description, &mut problems);
        }
        if let Some(subject) = &self.subject
            && known.is_none_or(|known| known.subject != self.subject)
        {
            check_line("/subject", subject, &mut problems);
        }
        self.check_owner(known, &mut problems);
        let [roles, scopes] = known.map_or([&[][..]; 2], |known| [&known.roles, &known.scopes]);
        check_names("/roles", &self.roles, roles, is_role, &mut problems);
        check_names(
            "/scopes",
            &self.scopes,
            scopes,
            Scopes::is_scope,
            &mut problems,
        );
        self.check_labels(known, &mut problems);
        self.check_times(known, &mut problems);
        problems.truncate(MAX_PROBLEMS);
        LifecycleError::check(problems)
    }

    /// Returns the record with these fields.
    pub(super) fn apply_to(&self, record: TokenRecord) -> TokenRecord {
        let record = record
            .with_name(self.name.as_str())
            .with_description(self.description.as_deref())
            .with_subject(self.subject.as_deref())
            .with_owner(self.owner.as_deref())
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
    pub(super) fn matches_record(&self, record: &TokenRecord) -> bool {
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

    fn check_owner(&self, known: Option<&Self>, problems: &mut Vec<FieldProblem>) {
        if let Some(owner) = &self.owner
            && known.is_none_or(|known| known.owner != self.owner)
        {
            check_line("/owner", owner, problems);
        }
    }

    fn check_labels(&self, known: Option<&Self>, problems: &mut Vec<FieldProblem>) {
        for (key, value) in &self.labels {
            if known.is_some_and(|known| known.labels.get(key) == Some(value)) {
                continue;
            }
            let is_valid = |text: &str, max| text.chars().count() <= max && !has_invisible(text);
            if is_blank(key) || !is_valid(key, MAX_LABEL_KEY) || !is_valid(value, MAX_TEXT_CHARS) {
                let key = escape_pointer(key);
                let detail = format!(
                    "a key has 1 to {MAX_LABEL_KEY} characters, one of them visible, and a value at most \
                     {MAX_TEXT_CHARS}; neither may contain control or invisible characters"
                );
                problems.push(FieldProblem::new(format!("/labels/{key}"), detail));
            }
        }
    }

    fn check_times(&self, known: Option<&Self>, problems: &mut Vec<FieldProblem>) {
        let times = |fields: &Self| (fields.not_before, fields.expires_at);
        if let (Some(start), Some(end)) = times(self)
            && start >= end
            && known.is_none_or(|known| times(known) != times(self))
        {
            let detail = "the start must be before the expiry";
            problems.push(FieldProblem::new("/not_before", detail));
        }
    }
}
