//! Sessions that end while a request is on its way, and requests without one.

use axum::body::Body;
use futures::future::{BoxFuture, FutureExt};
use futures::stream;
use http::header::CONTENT_TYPE;
use tests::api_fixture::ApiResponse;
use tower_service_token::lifecycle::Page;
use tower_service_token::registry::TokenFilter;

use crate::application::{Application, TestDatabase};
use crate::browser::{Browser, PASSWORD};

/// Each change, with a body that it accepts.
const CHANGES: [(&str, &str); 8] = [
    ("POST ", r#"{"name":"new"}"#),
    ("PATCH /{id}", r#"{"name":"renamed"}"#),
    ("POST /{id}/rotate", ""),
    ("POST /{id}/disable", ""),
    ("POST /{id}/enable", ""),
    ("POST /revoke", r#"{"dry_run":true}"#),
    ("POST /revoke", r#"{"expect":1}"#),
    ("DELETE /{id}", ""),
];

/// Checks that the user has only the token `ci`, as it was created.
async fn assert_unchanged(application: &Application, browser: &Browser, call: &str) {
    let tokens = &application.tokens;
    let filter = TokenFilter::new().with_owner(format!("user:{}", browser.id));
    let page = tokens.list(filter, Page::default()).await;
    let records = page.unwrap().records;
    assert_eq!(records.len(), 1, "{call}");
    let token = (records[0].name(), records[0].revision());
    assert_eq!(token, ("ci", 1), "{call}");
}

pub(crate) async fn requests_without_a_session_change_nothing(database: TestDatabase) {
    let application = Application::start(&database).await;
    let alice = Browser::sign_up(&application, "alice@app.example").await;
    let (id, _) = alice.create("ci").await;
    alice.log_out().await;
    for (call, body) in CHANGES.into_iter().chain([("GET ", ""), ("GET /{id}", "")]) {
        let response = alice.call(&call.replace("{id}", &id), body).await;
        assert_eq!((response.status, &*response.body), (401, ""), "{call}");
    }
    assert_unchanged(&application, &alice, "all").await;
}

#[derive(Clone, Copy, Debug)]
enum End {
    Logout,
    Deletion,
    NewPassword,
    /// Another user logs in, in the same session.
    OtherUser,
}

impl End {
    fn of(self, application: &Application, browser: &Browser) -> BoxFuture<'static, ()> {
        let (users, browser) = (application.users.clone(), browser.clone());
        async move {
            match self {
                Self::Logout => browser.log_out().await,
                Self::Deletion => users.delete(browser.id).await,
                Self::NewPassword => {
                    let (id, email) = (browser.id, &browser.email);
                    users.change_password(id, email, "another").await;
                }
                Self::OtherUser => browser.log_in_as("bob@app.example").await,
            }
        }
        .boxed()
    }
}

pub(crate) async fn sessions_that_end_before_the_write_change_nothing(database: TestDatabase) {
    let application = Application::start(&database).await;
    application.users.add("bob@app.example", PASSWORD).await;
    let ends = [End::Logout, End::Deletion, End::NewPassword, End::OtherUser];
    for (number, end) in ends.into_iter().enumerate() {
        for (index, (call, body)) in CHANGES.into_iter().enumerate() {
            let email = format!("alice-{number}-{index}@app.example");
            let alice = Browser::sign_up(&application, &email).await;
            let (id, _) = alice.create("ci").await;
            *application.meanwhile.lock().unwrap() = Some(end.of(&application, &alice));
            let response = alice.call(&call.replace("{id}", &id), body).await;
            assert_eq!(response.status, 401, "{call} {end:?}: {response:?}");
            assert_eq!(response.json()["code"], "actor_rejected", "{call} {end:?}");
            assert_unchanged(&application, &alice, call).await;
        }
    }
    let alice = Browser::sign_up(&application, "alice@app.example").await;
    let (id, _) = alice.create("ci").await;
    for (call, body) in CHANGES {
        *application.meanwhile.lock().unwrap() = Some(async {}.boxed());
        let response = alice.call(&call.replace("{id}", &id), body).await;
        assert_ne!(response.status, 401, "{call}: {response:?}");
    }
}

/// The application authenticates the head of the request, and then waits for its body.
pub(crate) async fn logouts_during_the_body_change_nothing(database: TestDatabase) {
    let application = Application::start(&database).await;
    for (call, body) in CHANGES.into_iter().filter(|it| !it.1.is_empty()) {
        let email = format!("alice-{}@app.example", body.len());
        let alice = Browser::sign_up(&application, &email).await;
        let (id, _) = alice.create("ci").await;
        let browser = alice.clone();
        let body = stream::once(async move {
            browser.log_out().await;
            Ok::<_, std::io::Error>(body)
        });
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.replace("{id}", &id);
        let request = alice
            .request(&format!("{method} /account/service-tokens{path}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from_stream(body));
        let response = alice.send(request.unwrap()).await;
        assert_eq!(response.status, 401, "{call}: {response:?}");
        assert_unchanged(&application, &alice, call).await;
    }
}

pub(crate) async fn forms_of_other_sites_change_nothing(database: TestDatabase) {
    let application = Application::start(&database).await;
    let alice = Browser::sign_up(&application, "alice@app.example").await;
    let (id, _) = alice.create("ci").await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for (call, _) in CHANGES {
            let (method, path) = call.split_once(' ').unwrap();
            let path = path.replace("{id}", &id);
            let request = alice
                .request(&format!("{method} /account/service-tokens{path}"))
                .header("host", "app.example")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(name, value);
            let response = alice.send(request.body(Body::empty()).unwrap()).await;
            assert_cross_site(&response);
            assert_unchanged(&application, &alice, call).await;
        }
    }
}

#[track_caller]
fn assert_cross_site(response: &ApiResponse) {
    assert_eq!(response.status, 403, "{response:?}");
    assert_eq!(response.json()["code"], "cross_site_request");
}
