use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "api")]
use super::field::expiry_member;
use super::field::{FieldProblems, expiry_members, rfc_3339};
#[cfg(feature = "api")]
use super::schema;
#[cfg(any(feature = "api", feature = "client"))]
use crate::lifecycle::TokenUpdate;
use crate::lifecycle::{FieldProblem, NewToken, Patch};

/// The body of a creation. Except for the expiry, `null` is the same as absent.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenCreateRequest))]
pub(crate) struct CreateRequest {
    #[cfg_attr(feature = "api", schema(required, schema_with = schema::line))]
    name: Option<String>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::description))]
    description: Option<String>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::line_or_null))]
    subject: Option<String>,
    // Absent if there is none: an earlier server rejects the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::owner))]
    owner: Option<String>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::roles))]
    roles: Option<Vec<String>>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::scopes))]
    scopes: Option<Vec<String>>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::labels))]
    labels: Option<BTreeMap<String, String>>,
    #[cfg_attr(feature = "api", schema(schema_with = schema::not_before))]
    not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::new_expires_at))]
    expires_at: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::new_expires_in))]
    expires_in: Patch<String>,
}

#[cfg(any(feature = "api", feature = "client"))]
/// The body of an update: a merge patch (RFC 7396). Absent members stay as they are, `null` clears.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenUpdateRequest))]
pub(crate) struct UpdateRequest {
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::line))]
    name: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::description))]
    description: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::line_or_null))]
    subject: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::owner_patch))]
    owner: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::roles))]
    roles: Patch<Vec<String>>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::scopes))]
    scopes: Patch<Vec<String>>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::label_patch))]
    labels: Patch<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::not_before))]
    not_before: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::expires_at))]
    expires_at: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(schema_with = schema::expires_in))]
    expires_in: Patch<String>,
}

#[cfg(feature = "api")]
impl CreateRequest {
    /// Returns the pointer to the member that sets the expiry.
    pub(crate) fn expiry_member(&self) -> &'static str {
        expiry_member(&self.expires_in)
    }
}

#[cfg(feature = "api")]
impl UpdateRequest {
    /// Returns the pointer to the member that sets the expiry.
    pub(crate) fn expiry_member(&self) -> &'static str {
        expiry_member(&self.expires_in)
    }
}

impl TryFrom<CreateRequest> for NewToken {
    type Error = Vec<FieldProblem>;

    fn try_from(request: CreateRequest) -> Result<Self, Vec<FieldProblem>> {
        let mut problems = FieldProblems::default();
        let new = Self {
            name: request.name.unwrap_or_default(),
            description: request.description,
            subject: request.subject,
            owner: request.owner,
            roles: request.roles.unwrap_or_default(),
            scopes: request.scopes.unwrap_or_default(),
            labels: request.labels.unwrap_or_default(),
            not_before: problems.time("/not_before", request.not_before.as_ref()),
            expiry: problems.expiry(&request.expires_at, &request.expires_in),
            idempotency_key: None,
        };
        problems.finish(new)
    }
}

impl TryFrom<&NewToken> for CreateRequest {
    type Error = FieldProblem;

    fn try_from(new: &NewToken) -> Result<Self, FieldProblem> {
        let (expires_at, expires_in) = expiry_members(new.expiry.as_ref())?;
        let not_before = new.not_before.map(|start| rfc_3339("/not_before", start));
        Ok(Self {
            name: Some(new.name.clone()),
            description: new.description.clone(),
            subject: new.subject.clone(),
            owner: new.owner.clone(),
            roles: Some(new.roles.clone()),
            scopes: Some(new.scopes.clone()),
            labels: Some(new.labels.clone()),
            not_before: not_before.transpose()?,
            expires_at,
            expires_in,
        })
    }
}

#[cfg(any(feature = "api", feature = "client"))]
impl TryFrom<UpdateRequest> for TokenUpdate {
    type Error = Vec<FieldProblem>;

    fn try_from(request: UpdateRequest) -> Result<Self, Vec<FieldProblem>> {
        let mut problems = FieldProblems::default();
        let names = |names: Patch<Vec<String>>| match names {
            Patch::Keep => None,
            Patch::Clear => Some(Vec::new()),
            Patch::Set(names) => Some(names),
        };
        let mut update = Self {
            description: request.description,
            subject: request.subject,
            owner: request.owner,
            roles: names(request.roles),
            scopes: names(request.scopes),
            expiry: problems.expiry(&request.expires_at, &request.expires_in),
            ..Self::default()
        };
        match request.name {
            Patch::Keep => {}
            Patch::Clear => problems.push("/name", "a token needs a name"),
            Patch::Set(name) => update.name = Some(name),
        }
        match request.labels {
            Patch::Keep => {}
            Patch::Clear => update.clears_labels = true,
            Patch::Set(labels) => update.labels = labels,
        }
        update.not_before = match request.not_before {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(text) => problems
                .time("/not_before", Some(&text))
                .map_or(Patch::Keep, Patch::Set),
        };
        problems.finish(update)
    }
}

#[cfg(feature = "client")]
impl UpdateRequest {
    /// Creates the patch of a token that has labels of these keys.
    ///
    /// The keys matter only if the update [replaces all labels](replaces_labels).
    pub(crate) fn new<'a>(
        update: &TokenUpdate,
        current_labels: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, FieldProblem> {
        let (expires_at, expires_in) = expiry_members(update.expiry.as_ref())?;
        let set = |names: &Option<Vec<String>>| names.clone().map_or(Patch::Keep, Patch::Set);
        let not_before = match update.not_before {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(start) => Patch::Set(rfc_3339("/not_before", start)?),
        };
        Ok(Self {
            name: update.name.clone().map_or(Patch::Keep, Patch::Set),
            description: update.description.clone(),
            subject: update.subject.clone(),
            owner: update.owner.clone(),
            roles: set(&update.roles),
            scopes: set(&update.scopes),
            labels: label_patch(update, current_labels),
            not_before,
            expires_at,
            expires_in,
        })
    }
}

/// Returns whether a merge patch needs the current labels. It either clears all labels or changes
/// some of them, so replacing all of them clears each current label.
#[cfg(feature = "client")]
pub(crate) fn replaces_labels(update: &TokenUpdate) -> bool {
    update.clears_labels && update.labels.values().any(Option::is_some)
}

#[cfg(feature = "client")]
fn label_patch<'a>(
    update: &TokenUpdate,
    current: impl IntoIterator<Item = &'a str>,
) -> Patch<BTreeMap<String, Option<String>>> {
    if update.clears_labels && !replaces_labels(update) {
        return Patch::Clear;
    }
    let cleared = current.into_iter().filter(|_| update.clears_labels);
    let mut labels: BTreeMap<_, _> = cleared.map(|key| (key.to_owned(), None)).collect();
    labels.extend(update.labels.clone());
    if labels.is_empty() {
        Patch::Keep
    } else {
        Patch::Set(labels)
    }
}

#[cfg(test)]
#[cfg(feature = "client")]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::{Value, json};

    use super::*;
    use crate::lifecycle::Expiry;

    fn created(new: &NewToken) -> Value {
        json!(CreateRequest::try_from(new).unwrap())
    }

    #[test]
    fn sends_relative_expiries_as_durations() {
        let half = Duration::from_millis(1_500);
        for (expiry, name, value) in [
            ("1y 30d".parse().unwrap(), "expires_in", json!("P1Y30D")),
            (Expiry::after(half), "expires_in", json!("PT1.5S")),
            (Expiry::NEVER, "expires_at", Value::Null),
            (
                Expiry::at(SystemTime::UNIX_EPOCH + half),
                "expires_at",
                json!("1970-01-01T00:00:01.5Z"),
            ),
        ] {
            let members = created(&NewToken::new("ci").with_expiry(expiry));
            let members = members.as_object().unwrap();
            let mut names = members.keys().filter(|name| name.starts_with("expires"));
            assert_eq!((names.next().unwrap().as_str(), names.next()), (name, None));
            assert_eq!(members[name], value);
        }
        let members = created(&NewToken::new("ci"));
        let mut names = members.as_object().unwrap().keys();
        assert!(names.all(|name| !name.starts_with("expires")));
    }

    #[test]
    fn replaces_labels_by_clearing_the_current_ones() {
        let labels = |update: &TokenUpdate| {
            let request = json!(UpdateRequest::new(update, ["a", "b"]).unwrap());
            request.get("labels").cloned()
        };
        let update = TokenUpdate::new;
        assert_eq!(labels(&update()), None);
        let added = update().with_label("a", "1").without_label("c");
        assert!(!replaces_labels(&added));
        assert_eq!(labels(&added), Some(json!({ "a": "1", "c": null })));
        let cleared = update().without_labels().without_label("c");
        assert!(!replaces_labels(&cleared));
        assert_eq!(labels(&cleared), Some(Value::Null));
        let replaced = update().without_labels().with_label("a", "1");
        assert!(replaces_labels(&replaced));
        assert_eq!(labels(&replaced), Some(json!({ "a": "1", "b": null })));
    }

    /// What the client sends, the server reads as the same change.
    #[cfg(feature = "api")]
    #[test]
    fn client_and_server_agree_on_every_member() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let new = NewToken::new("ci")
            .with_description("d")
            .with_subject("s")
            .with_owner("o")
            .with_roles(["r"])
            .with_scopes(["a:b"])
            .with_label("k", "v")
            .with_not_before(start)
            .with_expiry("2199-12-31".parse().unwrap());
        let body = created(&new).to_string();
        let read: CreateRequest = crate::wire::from_slice(body.as_bytes()).unwrap();
        assert_eq!(json!(read).to_string(), body);
        let read = NewToken::try_from(read).unwrap();
        assert_eq!(format!("{read:?}"), format!("{new:?}"));

        let update = TokenUpdate::new()
            .with_name("n")
            .without_description()
            .with_subject("s")
            .with_owner("o")
            .with_roles(["r"])
            .with_scopes([""; 0])
            .with_label("k", "v")
            .without_label("l")
            .without_not_before()
            .with_expiry(Expiry::NEVER);
        let body = json!(UpdateRequest::new(&update, []).unwrap()).to_string();
        let read: UpdateRequest = crate::wire::from_slice(body.as_bytes()).unwrap();
        let read = TokenUpdate::try_from(read).unwrap();
        assert_eq!(format!("{read:?}"), format!("{update:?}"));
    }
}
