//! The database of the guide's page about an existing table, and the requests that its code must
//! answer.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::Value;
use sqlx::postgres::{PgListener, PgPool};
use test_support::postgres::Postgres;
use tower::ServiceExt;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{ChangeFeed, TokenChange};
use tower_service_token::token::TokenId;

const PAGE: &str = include_str!("../../src/guide/existing_table.md");

const ID: &str = "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77";
const SECRET: &str = "s3cr3t-of-the-first-key";
const OTHER_ID: &str = "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e78";
const OTHER_SECRET: &str = "s3cr3t-of-the-second-key";
const TENANT: &str = "5d8f3c62-0a4b-4e0e-9a53-5b7b0f4a2d11";

/// Creates the table of the page, with two keys hashed in this way. Returns `None` if there is no
/// PostgreSQL and none is required.
pub async fn create(hash: &str) -> Option<(Postgres, PgPool)> {
    let server = match Postgres::shared() {
        Ok(server) => server,
        Err(reason) => {
            let required = std::env::var_os("SERVICE_TOKEN_REQUIRE_SERVICES");
            assert!(required.is_none_or(|it| it != "1"), "{reason}");
            return None;
        }
    };
    let pool = PgPool::connect(&server.create_database().await)
        .await
        .unwrap();
    let (_, sql) = PAGE.split_once("```sql\n").unwrap();
    let (sql, _) = sql.split_once("```").unwrap();
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    for (id, secret) in [(ID, SECRET), (OTHER_ID, OTHER_SECRET)] {
        let key_hash = if hash == "bcrypt" {
            // The lowest cost, so that the test is fast.
            bcrypt::hash(secret, 4).unwrap()
        } else {
            let digest = TokenDigest::of(&key(id, secret)).to_string();
            digest.trim_start_matches("sha256:").to_owned()
        };
        let insert = "INSERT INTO api_keys (id, key_hash, owner_id, scopes, expires_at) \
             VALUES ($1::uuid, $2, $3::uuid, '{projects:read}', now() + interval '1 hour')";
        let insert = sqlx::query(insert).bind(id).bind(key_hash).bind(TENANT);
        insert.execute(&pool).await.unwrap();
    }
    Some((server, pool))
}

fn key(id: &str, secret: &str) -> String {
    format!("{id}.{secret}")
}

/// Publishes the changes of the table, as the first part of the page does.
pub async fn publish_changes(pool: &PgPool, changes: ChangeFeed) {
    let mut listener = PgListener::connect_with(pool).await.unwrap();
    listener.listen("api_keys").await.unwrap();
    tokio::spawn(async move {
        while let Ok(row) = listener.recv().await {
            let id = TokenId::derive(row.payload());
            let digests = Vec::new();
            changes.publish(&TokenChange::Token { id, digests });
        }
    });
}

/// Sends requests to the app of the page, whose cache does not expire.
///
/// # Panics
///
/// Panics if a response is not as the page says.
pub async fn check(app: Router, pool: &PgPool) {
    let accepted = format!("key {ID} of tenant {TENANT}");
    let other_accepted = format!("key {OTHER_ID} of tenant {TENANT}");
    let (key, other) = (key(ID, SECRET), key(OTHER_ID, OTHER_SECRET));
    for _ in 0..2 {
        assert_eq!(send(&app, &key).await, (StatusCode::OK, accepted.clone()));
        assert_eq!(
            send(&app, &other).await,
            (StatusCode::OK, other_accepted.clone())
        );
    }
    for bad in [
        format!("{ID}.{OTHER_SECRET}"),
        format!("{ID}."),
        format!("{ID}.{}", "x".repeat(100)),
        format!("{OTHER_ID}.{SECRET}"),
        format!("{}.{SECRET}", ID.replace('0', "1")),
        format!("not-a-uuid.{SECRET}"),
        SECRET.to_owned(),
    ] {
        let (status, body) = send(&app, &bad).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{bad}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], "invalid_token", "{bad}");
        assert!(problem.get("token_id").is_none(), "{bad}");
    }

    let revoke = "UPDATE api_keys SET revoked = true WHERE id = $1::uuid";
    sqlx::query(revoke).bind(ID).execute(pool).await.unwrap();
    let body = until_rejected(&app, &key).await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["code"], "token_revoked");
    assert_eq!(problem["token_id"], ID);

    // The other key is still cached: a lookup would fail.
    sqlx::query("DROP TABLE api_keys")
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(send(&app, &other).await, (StatusCode::OK, other_accepted));
    let (status, _) = send(&app, &format!("{OTHER_ID}.unknown")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// Sends requests until one is rejected. Only a notification evicts the key.
async fn until_rejected(app: &Router, key: &str) -> String {
    for _ in 0..1000 {
        let (status, body) = send(app, key).await;
        if status == StatusCode::UNAUTHORIZED {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the key is still accepted");
}

async fn send(app: &Router, key: &str) -> (StatusCode, String) {
    let request = Request::get("/whoami").header("x-api-key", key);
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
