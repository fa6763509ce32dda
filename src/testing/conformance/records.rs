use std::time::{Duration, SystemTime};

use crate::audit::{AuditAction, AuditEvent, FieldChange};
use crate::digest::TokenDigest;
use crate::registry::Write;
use crate::store::{Credential, RotationKey, TokenRecord};
use crate::token::{PresentedToken, TokenId};

fn token(number: i64) -> String {
    format!("conformance-token-{number}")
}

pub(super) fn id(number: i64) -> TokenId {
    TokenId::from_i64(number).expect("a small number")
}

pub(super) fn digest(number: i64) -> TokenDigest {
    TokenDigest::of(&token(number))
}

pub(super) fn credential(number: i64) -> Credential<'static> {
    let token = token(number);
    let token = PresentedToken::new(&token).expect("visible ASCII");
    Credential::new(token).into_owned()
}

/// Returns a time this many seconds from a fixed time in 2026.
pub(super) fn at(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(1_780_000_000 + seconds).expect("a time after 1970");
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns a record with a name, a creation time and a revision, and the default of all other fields.
pub(super) fn plain_record(number: i64) -> TokenRecord {
    TokenRecord::new(id(number), digest(number))
        .with_name(format!("token {number}"))
        .with_created_at(at(number))
        .with_revision(1)
}

/// Returns a record with a value in each field, including characters that need escaping.
pub(super) fn full_record(number: i64) -> TokenRecord {
    plain_record(number)
        .with_name("näme 'with' \"quotes\" % _ \\ ; --")
        .with_description("first line\nsecond line\t\u{1F980}")
        .with_subject("team/ä")
        .with_owner("user:ü 'x'")
        .with_roles(["deployer", "with space", "comma,comma", "[\"json\"]"])
        .with_scopes(["projects:*", "audit:**"])
        .with_label("workspace", "w1")
        .with_label("a=b", "c=d")
        .with_expires_at(at(1_000_000_000) + Duration::from_millis(1))
        .with_not_before(SystemTime::UNIX_EPOCH - Duration::from_secs(219_000_000))
        .with_previous_digest((digest(number + 1000), at(60)))
        .with_created_by("operator")
        .with_updated_at(at(number + 1))
        .with_rotated_at(at(number + 2))
        .with_last_used_at(at(number + 3))
        .with_hint("svctok-0000000002_***")
        .with_rotation_key(RotationKey::from_bytes(*digest(number + 2000).as_bytes()))
        .with_revision(7)
}

/// Returns a write without limits, whose audit event has a change.
pub(super) fn write(record: TokenRecord) -> Write {
    let event = AuditEvent::new(at(0), "conformance", AuditAction::Updated, record.id());
    let change = FieldChange {
        field: "name".into(),
        before: None,
        after: Some("x".to_owned()),
    };
    Write::new(record, event.with_change(change))
}

/// Returns whether all fields of two records are equal.
pub(super) fn records_are_equal(a: &TokenRecord, b: &TokenRecord) -> bool {
    principals_are_equal(a, b)
        && a.description() == b.description()
        && a.created_by() == b.created_by()
        && a.hint() == b.hint()
        && a.rotation_key() == b.rotation_key()
        && a.created_at() == b.created_at()
        && a.updated_at() == b.updated_at()
        && a.rotated_at() == b.rotated_at()
        && a.last_used_at() == b.last_used_at()
        && a.revision() == b.revision()
}

/// Checks all fields of a record.
pub(super) fn assert_same(found: &TokenRecord, expected: &TokenRecord) {
    assert_principal(found, expected);
    assert!(
        records_are_equal(found, expected),
        "returned {found:?} instead of {expected:?}: they differ in fields that `Debug` omits"
    );
}

/// Checks the fields that a verdict and a principal use.
pub(super) fn assert_principal(found: &TokenRecord, expected: &TokenRecord) {
    assert!(
        principals_are_equal(found, expected),
        "returned {found:?} instead of {expected:?}"
    );
}

fn principals_are_equal(a: &TokenRecord, b: &TokenRecord) -> bool {
    a.id() == b.id()
        && a.digest() == b.digest()
        && a.previous_digest() == b.previous_digest()
        && a.grace_ends_at() == b.grace_ends_at()
        && a.name() == b.name()
        && a.subject() == b.subject()
        && a.owner() == b.owner()
        && a.roles() == b.roles()
        && a.scopes() == b.scopes()
        && a.labels().eq(b.labels())
        && a.expires_at() == b.expires_at()
        && a.not_before() == b.not_before()
        && a.state() == b.state()
}
