use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::workspace;
use crate::clock::date_time::is_midnight;
use crate::lifecycle::{Expiry, FieldProblem, NewToken, Patch, TokenUpdate};
use crate::store::{TokenRecord, TokenState, TokenStatus};
use crate::wire::SaturatingInteger;
use crate::wire::{FieldProblems, rfc_3339_or_null};

/// The body of a creation. `null` is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct CreateRequest {
    name: Option<String>,
    description: Option<String>,
    permissions: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    expires_at: Option<String>,
    expires_in: Option<Lifetime>,
    workspace_uuid: Option<String>,
    preset: Option<String>,
}

/// The presets of the SDK. They grant nothing here.
const PRESETS: [&str; 4] = ["sandbox", "mcp", "sdk", "platform"];

/// The body of an update. `null` is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct UpdateRequest {
    name: Option<String>,
    description: Option<String>,
    permissions: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    expires_at: Option<String>,
    expires_in: Option<Lifetime>,
    is_active: Option<bool>,
}

/// A duration, or a number of days.
#[derive(Deserialize)]
#[serde(untagged, expecting = "not a duration or a number of days")]
enum Lifetime {
    Days(SaturatingInteger),
    Duration(String),
}

/// A token in a response.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON members")]
pub(super) struct Token<'a> {
    uuid: String,
    id: String,
    name: &'a str,
    description: &'a str,
    /// The secret. Only the response to a creation has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    token_prefix: &'a str,
    workspace_id: &'a str,
    permissions: Vec<&'a str>,
    scopes: Vec<&'a str>,
    is_active: bool,
    #[serde(serialize_with = "rfc_3339_or_null")]
    expires_at: Option<SystemTime>,
    #[serde(serialize_with = "rfc_3339_or_null")]
    created_at: Option<SystemTime>,
    #[serde(serialize_with = "rfc_3339_or_null")]
    updated_at: Option<SystemTime>,
    #[serde(serialize_with = "rfc_3339_or_null")]
    last_used_at: Option<SystemTime>,
}

impl CreateRequest {
    /// Returns the preset. An empty one, and an unknown one, which is a problem of the
    /// [token](Self::into_new_token), count as none.
    pub(super) fn preset(&self) -> Option<&'static str> {
        let given = self.preset.as_deref();
        PRESETS.into_iter().find(|preset| given == Some(preset))
    }

    /// Returns the members that have other names than those of the lifecycle.
    pub(super) fn names(&self) -> [(&'static str, &'static str); 3] {
        let [scopes, expiry] = names(
            self.permissions.as_ref(),
            self.scopes.as_ref(),
            self.expires_in.as_ref(),
        );
        [scopes, expiry, ("/labels/workspace", workspace::POINTER)]
    }

    /// Returns the new token with the label of its workspace.
    ///
    /// `workspaces` are those of the query. A request may name one workspace, and several times.
    pub(super) fn into_new_token(
        self,
        mut workspaces: BTreeSet<String>,
        default_workspace: &str,
    ) -> Result<NewToken, Vec<FieldProblem>> {
        let mut problems = FieldProblems::default();
        let has_unknown_preset = self.preset().is_none();
        if has_unknown_preset && self.preset.is_some_and(|preset| !preset.is_empty()) {
            let known = "the presets are sandbox, mcp, sdk and platform, and grant nothing";
            problems.push("/preset", known);
        }
        let mut new = NewToken::new(self.name.unwrap_or_default());
        new.description = self.description.filter(|text| !text.is_empty());
        let scopes = scopes(self.permissions, self.scopes, &mut problems);
        new.scopes = scopes.unwrap_or_default();
        new.expiry = expiry(self.expires_at, self.expires_in, &mut problems);
        workspaces.extend(self.workspace_uuid.filter(|uuid| !uuid.is_empty()));
        if workspaces.len() > 1 {
            problems.push(workspace::POINTER, workspace::TWO);
        }
        let workspace = workspaces.pop_first();
        let workspace = workspace.unwrap_or_else(|| default_workspace.to_owned());
        problems.finish(new.with_label(workspace::LABEL, workspace))
    }
}

impl UpdateRequest {
    /// Returns the new state if the request changes nothing else. A caller may then disable a token
    /// that has expired.
    pub(super) fn only_state(&self) -> Option<TokenState> {
        let is_alone = self.name.is_none()
            && self.description.is_none()
            && self.permissions.is_none()
            && self.scopes.is_none()
            && self.expires_at.is_none()
            && self.expires_in.is_none();
        self.state().filter(|_| is_alone)
    }

    /// Returns the members that have other names than those of the lifecycle.
    pub(super) fn names(&self) -> [(&'static str, &'static str); 2] {
        names(
            self.permissions.as_ref(),
            self.scopes.as_ref(),
            self.expires_in.as_ref(),
        )
    }

    pub(super) fn into_update(self) -> Result<TokenUpdate, Vec<FieldProblem>> {
        let mut problems = FieldProblems::default();
        let mut update = TokenUpdate::new();
        update.state = self.state();
        update.name = self.name;
        update.description = match self.description {
            None => Patch::Keep,
            Some(text) if text.is_empty() => Patch::Clear,
            Some(text) => Patch::Set(text),
        };
        update.scopes = scopes(self.permissions, self.scopes, &mut problems);
        update.expiry = expiry(self.expires_at, self.expires_in, &mut problems);
        problems.finish(update)
    }

    fn state(&self) -> Option<TokenState> {
        self.is_active.map(|is_active| {
            if is_active {
                TokenState::Active
            } else {
                TokenState::Disabled
            }
        })
    }
}

impl<'a> Token<'a> {
    /// Creates the token. `now` decides whether it has expired.
    pub(super) fn new(
        record: &'a TokenRecord,
        default_workspace: &'a str,
        now: SystemTime,
    ) -> Self {
        let id = record.id().to_string();
        let scopes: Vec<_> = record.scopes().iter().collect();
        Self {
            uuid: id.clone(),
            id,
            name: record.name(),
            description: record.description().unwrap_or_default(),
            token: None,
            token_prefix: record.hint().unwrap_or_default().trim_end_matches('*'),
            workspace_id: workspace::of_token(record, default_workspace),
            permissions: scopes.clone(),
            scopes,
            is_active: record.status(now) == TokenStatus::Active,
            expires_at: record.expires_at().map(displayed),
            created_at: record.created_at(),
            updated_at: record.updated_at(),
            last_used_at: record.last_used_at(),
        }
    }

    pub(super) fn with_secret(mut self, secret: &'a str) -> Self {
        self.token = Some(secret);
        self
    }
}

/// Returns the expiry to display: the last second of the day if the token ends with a day, so that the
/// date is the one that was given.
fn displayed(end: SystemTime) -> SystemTime {
    let last = end.checked_sub(Duration::from_secs(1));
    last.filter(|_| is_midnight(end)).unwrap_or(end)
}

/// Returns the scopes, under either name. If both lists have entries, they must be the same.
fn scopes(
    permissions: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    problems: &mut FieldProblems,
) -> Option<Vec<String>> {
    let (Some(permissions), Some(scopes)) = (&permissions, &scopes) else {
        return permissions.or(scopes);
    };
    let sets = [permissions, scopes].map(|list| list.iter().collect::<BTreeSet<_>>());
    if !sets[0].is_empty() && !sets[1].is_empty() && sets[0] != sets[1] {
        problems.push("/scopes", "not the same as permissions");
    }
    let list = if sets[0].is_empty() {
        scopes
    } else {
        permissions
    };
    Some(list.clone())
}

/// Returns the members that set the scopes and the expiry, after those of the lifecycle. It is the
/// list that [`scopes`] returns.
fn names(
    permissions: Option<&Vec<String>>,
    scopes: Option<&Vec<String>>,
    expires_in: Option<&Lifetime>,
) -> [(&'static str, &'static str); 2] {
    let uses_permissions = permissions.is_some_and(|list| !list.is_empty() || scopes.is_none());
    let scopes = if uses_permissions {
        "/permissions"
    } else {
        "/scopes"
    };
    let expiry = match expires_in {
        Some(_) => "/expires_in",
        None => "/expires_at",
    };
    [("/scopes", scopes), ("/expires_at", expiry)]
}

fn expiry(
    at: Option<String>,
    after: Option<Lifetime>,
    problems: &mut FieldProblems,
) -> Option<Expiry> {
    let after = after.map(|lifetime| match lifetime {
        Lifetime::Days(SaturatingInteger(days)) => format!("{days}d"),
        Lifetime::Duration(text) => text,
    });
    // The displayed end of a day is the end of that day, so that a client can send back what it read.
    let at = at.map(|text| match text.strip_suffix("T23:59:59Z") {
        Some(date) => date.to_owned(),
        None => text,
    });
    let [at, after] = [at, after].map(|text| text.map_or(Patch::Keep, Patch::Set));
    problems.expiry(&at, &after)
}
