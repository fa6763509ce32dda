//! The lifecycle of a token: it is created, rotated without downtime of its client, and revoked.
//!
//! Run `cargo run --example rotation`. It sends the requests in process, and a manual clock skips the
//! hour of the grace period.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::{NewToken, last_day};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

type Service = BoxCloneSyncService<Request<String>, Response<String>, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::new(SystemTime::now());
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
    let layer = ServiceTokenLayer::new(store).with_clock(clock.clone());
    let service = BoxCloneSyncService::new(layer.layer(service_fn(whoami)));

    let new = NewToken::new("nightly build")
        .with_roles(["deployer"])
        .with_expiry("30d".parse()?);
    let first = tokens.create(new).await?;
    let id = first.record().id();
    let expires_at = first
        .record()
        .expires_at()
        .unwrap_or(SystemTime::UNIX_EPOCH);
    println!(
        "created {id}, valid through {}",
        last_day(expires_at).unwrap_or_default()
    );
    send(&service, "its secret", first.expose_secret()).await?;

    // Pass the new secret to the client within the hour. Until then both secrets are accepted.
    let second = tokens.rotate(id, Duration::from_secs(3600)).await?;
    println!("rotated {id}, both secrets are valid for an hour");
    send(&service, "the old secret", first.expose_secret()).await?;
    send(&service, "the new secret", second.expose_secret()).await?;

    clock.advance(Duration::from_secs(3600));
    println!("an hour later");
    send(&service, "the old secret", first.expose_secret()).await?;
    send(&service, "the new secret", second.expose_secret()).await?;

    let revoked = tokens.revoke(id).await?;
    println!(
        "revoked {id}, on every node within {:?}",
        revoked.effective_within
    );
    send(&service, "the new secret", second.expose_secret()).await
}

async fn send(service: &Service, secret: &str, token: &str) -> Result<(), Box<dyn Error>> {
    let request = Request::builder().header("x-api-key", token);
    let response = service
        .clone()
        .oneshot(request.body(String::new())?)
        .await?;
    println!(
        "  {secret}: {} {}",
        response.status().as_u16(),
        response.body()
    );
    Ok(())
}

async fn whoami(request: Request<String>) -> Result<Response<String>, Infallible> {
    let caller = request.extensions().get::<Principal>();
    Ok(Response::new(match caller {
        Some(caller) if caller.uses_previous_secret() => {
            format!("{}, with a secret that should be replaced", caller.name())
        }
        Some(caller) => caller.name().to_owned(),
        None => String::new(),
    }))
}
