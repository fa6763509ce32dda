//! A user's browser, which keeps the session cookie.

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::request::Builder;
use http::{HeaderValue, Request};
use serde_json::{Value, json};
use tests::api_fixture::ApiResponse;

use crate::application::{Application, Login};

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A logged-in user.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) id: i64,
    pub(crate) email: String,
    router: Router,
    cookie: HeaderValue,
}

impl Browser {
    /// Adds a user and logs in.
    pub(crate) async fn sign_up(application: &Application, email: &str) -> Self {
        let id = application.users.add(email, PASSWORD).await;
        let router = application.router.clone();
        let refused = log_in(&router, None, email, "wrong").await;
        assert_eq!(refused.status, 401);
        let response = log_in(&router, None, email, PASSWORD).await;
        assert_eq!(response.status, 204, "{response:?}");
        Self {
            id,
            email: email.to_owned(),
            router,
            cookie: response.headers[SET_COOKIE].clone(),
        }
    }

    /// Logs another user in, in the same session.
    pub(crate) async fn log_in_as(&self, email: &str) {
        let response = log_in(&self.router, Some(&self.cookie), email, PASSWORD).await;
        assert_eq!(response.status, 204, "{response:?}");
    }

    pub(crate) async fn log_out(&self) {
        let request = self.request("POST /logout").body(Body::empty()).unwrap();
        assert_eq!(self.send(request).await.status, 200);
    }

    /// Calls the API below `/account/service-tokens`.
    pub(crate) async fn call(&self, call: &str, body: &str) -> ApiResponse {
        let (method, path) = call.split_once(' ').unwrap();
        let request = self
            .request(&format!("{method} /account/service-tokens{path}"))
            .header("sec-fetch-site", "same-origin");
        let request = match body {
            "" => request,
            _ => request.header(CONTENT_TYPE, "application/json"),
        };
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.send(request).await
    }

    /// Creates a token, and returns its id and its text.
    pub(crate) async fn create(&self, name: &str) -> (String, String) {
        let body = json!({ "name": name, "scopes": ["projects:read"] }).to_string();
        let created = self.call("POST ", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let created = created.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&created["service_token"]["id"]),
            text(&created["token"]),
        )
    }

    /// Returns the names that a listing shows, over all its pages.
    pub(crate) async fn names(&self, query: &str) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let page = self.call(&format!("GET ?limit=1{query}{after}"), "").await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            let tokens = page["service_tokens"].as_array().unwrap().iter();
            names.extend(tokens.map(|token| token["name"].as_str().unwrap().to_owned()));
            match &page["next_cursor"] {
                Value::String(next) => cursor = Some(next.clone()),
                _ => break,
            }
        }
        names.sort_unstable();
        names
    }

    /// Begins a request with the cookie.
    pub(crate) fn request(&self, call: &str) -> Builder {
        let (method, path) = call.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path);
        request.header(COOKIE, &self.cookie)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> ApiResponse {
        ApiResponse::send_request(&self.router, request).await
    }
}

async fn log_in(
    router: &Router,
    cookie: Option<&HeaderValue>,
    email: &str,
    password: &str,
) -> ApiResponse {
    let (email, password) = (email.to_owned(), password.to_owned());
    let login = serde_json::to_string(&Login { email, password }).unwrap();
    let headers = |request: Builder| {
        let request = request.header(CONTENT_TYPE, "application/json");
        let cookie = cookie.into_iter();
        cookie.fold(request, |request, cookie| request.header(COOKIE, cookie))
    };
    ApiResponse::send(router, "POST /login", headers, &login).await
}
