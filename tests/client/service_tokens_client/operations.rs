//! The same calls on a store and over HTTP, compared step by step.

use std::time::{Duration, SystemTime};

use tower_service_token::client::{ClientError, ClientErrorKind, ServiceTokensClient};
use tower_service_token::lifecycle::{
    Expiry, FieldProblem, LifecycleError, NewToken, TokenPolicy, TokenUpdate,
};
use tower_service_token::registry::{AuthorityError, TokenFilter};
use tower_service_token::token::TokenId;
use tower_service_token::wire::TokenInfo;

use super::{HOUR, SECOND, TOKEN, TestServer, start};

/// A call on a token.
#[derive(Clone, Debug)]
enum Call {
    Get,
    Update(Box<TokenUpdate>),
    Rotate(Duration),
    Disable,
    Enable,
    Revoke,
    /// Advances the clock instead.
    Wait(Duration),
}

use Call::{Disable, Enable, Get, Revoke, Rotate, Wait};

/// The result of a call: the token, or the kind and the text of the error.
type CallResult = Result<Option<TokenInfo>, (ClientErrorKind, String, Vec<FieldProblem>)>;

/// Two equal stores: one is called directly, the other through its server.
struct Pair {
    direct: TestServer,
    remote: TestServer,
    client: ServiceTokensClient,
}

impl Pair {
    async fn new(policy: TokenPolicy) -> Self {
        let direct = TestServer::with_policy(policy.clone()).await;
        let remote = TestServer::with_policy(policy).await;
        let client = remote.client().await;
        Self {
            direct,
            remote,
            client,
        }
    }

    /// Creates a token on both sides and compares the result of each call.
    async fn compare(&self, new: &NewToken, calls: &[Call]) {
        let direct = self.direct.tokens.create(new.clone()).await;
        let remote = self.client.create(new.clone()).await;
        let ids = match (&direct, &remote) {
            (Ok(direct), Ok(remote)) => {
                let has_begun = remote.token().not_before.is_none_or(|time| time <= start());
                let is_accepted = self.remote.accepts(remote.expose_secret()).await;
                assert_eq!(is_accepted, has_begun);
                assert_eq!(remote.effective_within(), direct.effective_within());
                Some((direct.record().id(), remote.token().id))
            }
            _ => None,
        };
        let direct = direct.map(|issued| Some(self.direct.info_of(issued.record())));
        let remote = remote.map(|issued| Some(issued.token().clone()));
        assert_same(
            direct_result(direct),
            &remote_result(remote),
            &format!("{new:?}"),
        );
        let Some((direct, remote)) = ids else {
            assert!(calls.is_empty(), "{new:?} was not created");
            return;
        };
        for (step, call) in calls.iter().enumerate() {
            let expected = self.direct(direct, call).await;
            let found = self.remote(remote, call).await;
            assert_same(expected, &found, &format!("step {step} of {calls:?}"));
            let stored = self.remote.token_info(remote);
            if let Ok(Some(mut found)) = found {
                found.revision = found.revision.or(stored.revision);
                assert_eq!(found, stored);
            }
        }
    }

    async fn direct(&self, id: TokenId, call: &Call) -> CallResult {
        let tokens = &self.direct.tokens;
        let changed = match call.clone() {
            Get => tokens.get(id).await,
            Call::Update(update) => tokens.update(id, *update).await.map(|it| it.record),
            Rotate(grace) => {
                let issued = tokens.rotate(id, grace).await;
                issued.map(|it| it.record().clone())
            }
            Disable => tokens.disable(id).await.map(|it| it.record),
            Enable => tokens.enable(id).await.map(|it| it.record),
            Revoke => return direct_result(tokens.revoke(id).await.map(|_| None)),
            Wait(time) => {
                self.direct.clock.advance(time);
                return Ok(None);
            }
        };
        direct_result(changed.map(|record| Some(self.direct.info_of(&record))))
    }

    async fn remote(&self, id: TokenId, call: &Call) -> CallResult {
        let tokens = &self.client;
        remote_result(match call.clone() {
            Get => tokens.get(id).await.map(Some),
            Call::Update(update) => {
                let changed = tokens.update(id, *update).await;
                changed.map(|it| Some(it.token))
            }
            Rotate(grace) => {
                let issued = tokens.rotate(id, grace).await;
                if let Ok(issued) = &issued {
                    assert!(self.remote.accepts(issued.expose_secret()).await);
                }
                issued.map(|it| Some(it.token().clone()))
            }
            Disable => tokens.disable(id).await.map(|it| Some(it.token)),
            Enable => tokens.enable(id).await.map(|it| Some(it.token)),
            Revoke => tokens.revoke(id).await.map(|revocation| {
                assert_eq!(revocation.effective_within, Duration::ZERO);
                None
            }),
            Wait(time) => {
                self.remote.clock.advance(time);
                Ok(None)
            }
        })
    }
}

/// Asserts that two results are equal. Ignores IDs, values that contain an ID, and revisions, which
/// responses with a secret do not have.
#[track_caller]
fn assert_same(expected: CallResult, found: &CallResult, context: &str) {
    let without_random_values = |result: CallResult| {
        result.map(|token| {
            token.map(|mut token| {
                token.id = TokenId::from_i64(0).unwrap();
                (token.hint, token.created_by, token.revision) = (None, None, None);
                token
            })
        })
    };
    assert_eq!(
        without_random_values(found.clone()),
        without_random_values(expected),
        "{context}"
    );
}

fn direct_result(direct: Result<Option<TokenInfo>, LifecycleError>) -> CallResult {
    direct.map_err(|error| {
        let kind = match &error {
            LifecycleError::Invalid(_) => ClientErrorKind::Invalid,
            LifecycleError::NotFound => ClientErrorKind::NotFound,
            LifecycleError::RevisionMismatch => ClientErrorKind::RevisionMismatch,
            LifecycleError::LastAdmin => ClientErrorKind::LastAdmin,
            LifecycleError::Unauthorized(AuthorityError::EscalationDenied { .. }) => {
                ClientErrorKind::EscalationDenied
            }
            LifecycleError::NameTaken
            | LifecycleError::TooManyTokens
            | LifecycleError::Revoked
            | LifecycleError::Expired => ClientErrorKind::Conflict,
            error => panic!("{error}"),
        };
        match error {
            LifecycleError::Invalid(problems) => (kind, String::new(), problems),
            error => (kind, error.to_string(), Vec::new()),
        }
    })
}

fn remote_result(remote: Result<Option<TokenInfo>, ClientError>) -> CallResult {
    remote.map_err(|error| {
        let mut problems = error.problems().to_vec();
        if problems.is_empty() {
            return (error.kind(), error.to_string(), problems);
        }
        // The client sends a relative expiry as `expires_in`, and the server names that member.
        for problem in &mut problems {
            if problem.pointer == "/expires_in" {
                problem.pointer = "/expires_at".into();
            }
        }
        assert!(error.to_string().starts_with("fields break rules: /"));
        (error.kind(), String::new(), problems)
    })
}

fn full_token(name: &str) -> NewToken {
    NewToken::new(name)
        .with_description("line\nand \"quotes\" \u{e9}\u{1F512}")
        .with_subject("team-a")
        .with_roles(["deployer", "r\u{f4}le"])
        .with_scopes(["projects:write", "service-tokens:**"])
        .with_label("workspace", "w1")
        .with_label("a=b/~c", "")
        .with_not_before(start() - HOUR)
        .with_expiry(Expiry::at(start() + 30 * 24 * HOUR))
}

fn update() -> TokenUpdate {
    TokenUpdate::new()
}

/// Returns the call for this update.
fn change(update: TokenUpdate) -> Call {
    Call::Update(Box::new(update))
}

#[tokio::test]
async fn sends_every_field_of_a_new_token() {
    let pair = Pair::new(TokenPolicy::new()).await;
    let bare = || NewToken::new("bare");
    for new in [
        bare(),
        full_token("full"),
        bare().with_expiry(Expiry::NEVER),
        bare().with_expiry(Expiry::after(Duration::from_millis(1_500))),
        bare().with_expiry(Expiry::after(90 * SECOND)),
        bare().with_expiry(Expiry::at(start() + Duration::from_nanos(1_234_567_891))),
        bare().with_roles(["a"; 100]),
        bare().with_not_before(start() + HOUR),
    ] {
        pair.compare(&new, &[Get]).await;
    }
    for text in [
        "30d",
        "P1M",
        "1y 6mo 2h 3m 4s",
        "2027-02-28",
        "2030-01-01T12:00:00.5+01:00",
    ] {
        let new = bare().with_expiry(text.parse().unwrap());
        pair.compare(&new, &[Get]).await;
    }
}

#[tokio::test]
async fn returns_the_problems_of_the_store() {
    let policy = TokenPolicy::new().with_max_lifetime(365 * 24 * HOUR);
    let pair = Pair::new(policy).await;
    let long = "x".repeat(201);
    for new in [
        NewToken::new(""),
        NewToken::new(" a")
            .with_roles([""])
            .with_scopes(["a b", "\""]),
        NewToken::new(long)
            .with_label("", "")
            .with_label("a/b~c", "\n"),
        NewToken::new("ci").with_expiry(Expiry::at(start())),
        NewToken::new("ci").with_expiry(Expiry::NEVER),
        NewToken::new("ci").with_expiry("2y".parse().unwrap()),
        NewToken::new("ci").with_not_before(start() + 400 * 24 * HOUR),
        NewToken::new("ci").with_expiry(Expiry::after(Duration::MAX)),
        NewToken::new("ci").with_idempotency_key("two words"),
        NewToken::new("ci").with_idempotency_key("k".repeat(256)),
    ] {
        pair.compare(&new, &[]).await;
    }
}

#[tokio::test]
async fn rejects_unrepresentable_times_before_sending() {
    let server = TestServer::new().await;
    let client = server.client().await;
    // The time is before the year 0, so RFC 3339 cannot represent it.
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(62_200_000_000);
    let id = server.admin.record().id();
    let filter = || TokenFilter::new().with_expires_before(early);
    let results = [
        (
            "/expires_at",
            client
                .create(NewToken::new("ci").with_expiry(Expiry::at(early)))
                .await
                .map(drop),
        ),
        (
            "/not_before",
            client
                .create(NewToken::new("ci").with_not_before(early))
                .await
                .map(drop),
        ),
        (
            "/not_before",
            client
                .update(id, update().with_not_before(early))
                .await
                .map(drop),
        ),
        (
            "/expires_at",
            client
                .update(id, update().with_expiry(Expiry::at(early)))
                .await
                .map(drop),
        ),
        (
            "/filter/expires_before",
            client.preview_revocation(filter()).await.map(drop),
        ),
        (
            "/filter/expires_before",
            client.revoke_where(filter(), None).await.map(drop),
        ),
    ];
    for (pointer, result) in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Invalid);
        assert_eq!(error.problems()[0].pointer, pointer);
        assert_eq!(error.status(), None);
    }
    assert_eq!(server.token_info(id).revision, Some(1));
}

#[tokio::test]
async fn sends_every_change_of_every_field() {
    let pair = Pair::new(TokenPolicy::new()).await;
    let changes = [
        change(update()),
        change(update().with_name("another")),
        change(update().with_description("why")),
        change(update().without_description()),
        change(update().with_subject("team-b")),
        change(update().without_subject()),
        change(update().with_roles(["auditor"])),
        change(update().with_roles(Vec::<String>::new())),
        change(update().with_scopes(["projects:read"])),
        change(update().with_scopes(Vec::<String>::new())),
        change(update().with_label("b", "2").without_label("workspace")),
        change(update().without_label("none")),
        change(
            update()
                .without_labels()
                .with_label("c", "3")
                .without_label("b"),
        ),
        change(update().without_labels().without_label("c")),
        change(update().with_label("d", "4")),
        change(update().without_labels()),
        change(update().with_not_before(start() + HOUR)),
        change(update().without_not_before()),
        change(update().with_expiry(Expiry::NEVER)),
        Wait(HOUR),
        change(update().with_expiry("30d".parse().unwrap())),
        change(update().with_expiry("2027-03-01".parse().unwrap())),
        change(update().with_expiry(Expiry::at(start()))),
        change(update().with_name("").with_roles([""])),
        Get,
    ];
    for new in [full_token("full"), NewToken::new("bare")] {
        pair.compare(&new, &changes).await;
    }
}

#[tokio::test]
async fn rejects_changes_at_another_revision() {
    let pair = Pair::new(TokenPolicy::new()).await;
    let replaced = || update().without_labels().with_label("a", "1");
    let calls = [
        change(update().with_name("second").if_revision(1)),
        change(update().with_name("third").if_revision(1)),
        change(replaced().if_revision(1)),
        change(replaced().if_revision(2)),
        change(replaced().with_label("a", "2")),
        Get,
    ];
    pair.compare(&full_token("first"), &calls).await;
}

#[tokio::test]
async fn rotates_disables_and_revokes_like_the_store() {
    let pair = Pair::new(TokenPolicy::new()).await;
    let new = NewToken::new("ci").with_expiry(Expiry::after(3 * HOUR));
    let calls = [
        Rotate(Duration::ZERO),
        Rotate(Duration::from_micros(1_500)),
        Rotate(HOUR),
        Rotate(Duration::MAX),
        Disable,
        Disable,
        Get,
        Enable,
        Wait(3 * HOUR),
        Rotate(HOUR),
        change(update().with_expiry(Expiry::after(HOUR))),
        Rotate(HOUR),
        Revoke,
        Revoke,
        Get,
        change(update().with_name("renamed")),
        Rotate(HOUR),
        Disable,
        Enable,
    ];
    pair.compare(&new, &calls).await;
    let endless = [Rotate(Duration::MAX), Get, Rotate(HOUR), Get];
    pair.compare(&NewToken::new("endless"), &endless).await;
}

#[tokio::test]
async fn returns_the_kind_of_each_conflict() {
    let policy = TokenPolicy::new().require_unique_names().with_max_tokens(3);
    let pair = Pair::new(policy).await;
    pair.compare(&NewToken::new("one"), &[]).await;
    pair.compare(&NewToken::new("one"), &[]).await;
    pair.compare(&NewToken::new("two"), &[change(update().with_name("one"))])
        .await;
    pair.compare(&NewToken::new("three"), &[]).await;
    let error = pair.client.create(NewToken::new("one")).await.unwrap_err();
    assert_eq!(error.code(), Some("name_taken"));
    assert_eq!(error.status().unwrap(), 409);
}

#[tokio::test]
async fn distinguishes_missing_scopes_and_escalation() {
    let server = TestServer::new().await;
    let writer = NewToken::new("writer").with_scopes(["service-tokens:write"]);
    let writer = server.tokens.create(writer).await.unwrap();
    let client = server.client_as(writer.expose_secret()).await;
    let kind = |error: ClientError| error.kind();
    let denied = client
        .create(NewToken::new("root").with_roles(["root"]))
        .await;
    let denied = denied.unwrap_err();
    assert_eq!(denied.kind(), ClientErrorKind::EscalationDenied);
    assert_eq!(
        denied.to_string(),
        "caller is missing roles or scopes of the token: root"
    );
    assert_eq!(denied.missing(), ["root"]);
    assert_eq!(denied.forbidden(), None);
    let id = server.admin.record().id();
    assert_eq!(
        client.get(id).await.map_err(kind),
        Err(ClientErrorKind::Forbidden)
    );
    let unknown = TokenId::from_i64(1).unwrap();
    let unknown = client.disable(unknown).await.map_err(kind);
    assert_eq!(unknown.unwrap_err(), ClientErrorKind::NotFound);
    let unknown_client = server.client_as(TOKEN).await;
    let error = unknown_client.get_own().await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Unauthenticated);
    assert_eq!(error.code(), Some("invalid_token"));
}

#[tokio::test]
async fn holders_manage_their_own_tokens() {
    let server = TestServer::new().await;
    let holder = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = holder.record().id();
    let client = server.client_as(holder.expose_secret()).await;
    assert_eq!(client.get_own().await.unwrap(), server.token_info(id));
    let rotated = client.rotate_own(HOUR).await.unwrap();
    assert_eq!(rotated.token().grace_ends_at, Some(start() + HOUR));
    // The client still sends the previous secret.
    assert_eq!(client.get_own().await.unwrap(), server.token_info(id));
    let client = server.client_as(rotated.expose_secret()).await;
    client.revoke_own().await.unwrap();
    assert!(!server.accepts(rotated.expose_secret()).await);
    let error = client.get_own().await.unwrap_err();
    assert_eq!(error.code(), Some("token_revoked"));
}

#[tokio::test]
async fn revokes_the_last_admin_only_if_allowed() {
    let narrowed = || update().with_scopes(["projects:read"]);
    for change in 0..4 {
        let server = TestServer::new().await;
        let (client, id) = (server.client().await, server.admin.record().id());
        let call = async |client: ServiceTokensClient| match change {
            0 => client.update(id, narrowed()).await.map(drop),
            1 => client.disable(id).await.map(drop),
            2 => client.revoke(id).await.map(drop),
            _ => client.revoke_own().await.map(drop),
        };
        let error = call(client.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::LastAdmin, "{change}");
        assert_eq!(error.code(), Some("last_admin"));
        assert_eq!(server.token_info(id).revision, Some(1));
        let confirmed = client.allow_last_admin_removal();
        let filter = TokenFilter::new().with_name("admin");
        let error = confirmed.revoke_where(filter, 1).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::LastAdmin);
        call(confirmed).await.unwrap();
        assert_eq!(server.token_info(id).revision, Some(2), "{change}");
    }
}

#[tokio::test]
async fn sends_the_revision_with_every_change() {
    let server = TestServer::new().await;
    let client = server.client().await;
    let issued = client.create(NewToken::new("ci")).await.unwrap();
    let id = issued.token().id;
    let replaced = || update().without_labels().with_label("a", "1");
    for change in 0..7 {
        let call = async |revision: u64| {
            let client = client.clone().if_revision(revision);
            match change {
                0 => client.update(id, update().with_name("b")).await.map(drop),
                1 => client.update(id, replaced()).await.map(drop),
                2 => client.rotate(id, HOUR).await.map(drop),
                3 => client.disable(id).await.map(drop),
                4 => client.enable(id).await.map(drop),
                5 => {
                    let update = update().with_name("c").if_revision(revision);
                    client.if_revision(0).update(id, update).await.map(drop)
                }
                _ => client.revoke(id).await.map(drop),
            }
        };
        let revision = client.get(id).await.unwrap().revision.unwrap();
        for other in [revision - 1, revision + 1] {
            let error = call(other).await.unwrap_err();
            assert_eq!(error.kind(), ClientErrorKind::RevisionMismatch, "{change}");
        }
        call(revision).await.unwrap();
        let changed = client.get(id).await.unwrap().revision;
        assert_eq!(changed, Some(revision + 1), "{change}");
    }
}

#[tokio::test]
async fn recovers_from_lost_rotations_by_the_revision() {
    let server = TestServer::new().await;
    let holder = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let client = server.client_as(holder.expose_secret()).await;
    // The response is lost.
    let _ = client.rotate_own(HOUR).await.unwrap();
    let error = client.rotate_own(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::RevisionRequired);
    assert_eq!(error.code(), Some("precondition_required"));
    let revision = client.get_own().await.unwrap().revision.unwrap();
    let stale = client.clone().if_revision(revision - 1);
    let error = stale.rotate_own(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::RevisionMismatch);
    let current = client.if_revision(revision);
    let recovered = current.rotate_own(Duration::ZERO).await.unwrap();
    assert!(server.accepts(recovered.expose_secret()).await);
    assert!(!server.accepts(holder.expose_secret()).await);
}
