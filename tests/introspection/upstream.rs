//! An authorization server in this process. It returns scripted responses, counts calls, and can
//! pause before a response.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tests::pause_point::PausePoint;
use tower::Service;

/// Clones share all state.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<State>);

struct State {
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    max_concurrent: AtomicUsize,
    last_call: Mutex<Option<Call>>,
    script: Mutex<Script>,
    before_response: PausePoint,
}

type Script = Arc<dyn Fn(&Call) -> MockResponse + Send + Sync>;

/// A request to the server.
#[derive(Clone)]
pub(crate) struct Call {
    /// The number of earlier calls.
    pub(crate) number: usize,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Vec<(String, String)>,
}

/// The scripted outcome of a call.
#[derive(Clone)]
pub(crate) enum MockResponse {
    Http(Response<Bytes>),
    /// The connection is refused.
    Unreachable,
    /// The connection is reset before the first byte.
    Reset,
    /// The transport panics.
    Panic,
    /// No response arrives.
    Hang,
}

impl Call {
    /// Returns the value of the only field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.form.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "duplicate field {name}");
        value
    }

    pub(crate) fn token(&self) -> &str {
        self.field("token").unwrap()
    }
}

impl MockResponse {
    pub(crate) fn text(content_type: &str, body: impl Into<Bytes>) -> Self {
        let response = Response::builder().header(CONTENT_TYPE, content_type);
        Self::Http(response.body(body.into()).unwrap())
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::text("application/json", body)
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        Self::json(value.to_string())
    }

    pub(crate) fn active() -> Self {
        Self::from_json(&active())
    }

    pub(crate) fn inactive() -> Self {
        Self::from_json(&json!({ "active": false }))
    }

    /// Creates an OAuth error response.
    pub(crate) fn error(status: u16, error: &str) -> Self {
        Self::from_json(&json!({ "error": error })).with_status(status)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::text("text/html", "<p>no</p>").with_status(status)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        if let Self::Http(response) = &mut self {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
        }
        self
    }
}

/// Creates the smallest response for an active token.
pub(crate) fn active() -> Value {
    json!({ "active": true, "sub": "ci" })
}

/// Creates [`active`] with these members added or replaced.
pub(crate) fn active_with(members: &Value) -> Value {
    let mut response = active();
    let members = members.as_object().unwrap().clone();
    response.as_object_mut().unwrap().extend(members);
    response
}

impl Upstream {
    pub(crate) fn new(script: impl Fn(&Call) -> MockResponse + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            calls: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            max_concurrent: AtomicUsize::new(0),
            last_call: Mutex::default(),
            script: Mutex::new(Arc::new(script)),
            before_response: PausePoint::open(),
        }))
    }

    /// Sends the same response to every call.
    pub(crate) fn responding(response: MockResponse) -> Self {
        Self::new(move |_| response.clone())
    }

    /// Changes the response to every later call.
    pub(crate) fn respond_with(&self, response: MockResponse) {
        self.set_script(move |_| response.clone());
    }

    /// Changes the script for every later call.
    pub(crate) fn set_script(
        &self,
        script: impl Fn(&Call) -> MockResponse + Send + Sync + 'static,
    ) {
        *self.0.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the largest number of concurrent calls.
    pub(crate) fn max_concurrent(&self) -> usize {
        self.0.max_concurrent.load(Ordering::SeqCst)
    }

    pub(crate) fn last_call(&self) -> Call {
        self.0.last_call.lock().unwrap().clone().unwrap()
    }

    /// The point at which calls pause before their response is sent.
    pub(crate) fn before_response(&self) -> &PausePoint {
        &self.0.before_response
    }

    async fn respond(self, request: Request<Full<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
        let _call = InFlightCall::begin(&self.0);
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.method(), "POST");
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let call = Call {
            number,
            uri: head.uri,
            headers: head.headers,
            form: form_urlencoded::parse(&body).into_owned().collect(),
        };
        *self.0.last_call.lock().unwrap() = Some(call.clone());
        let script = Arc::clone(&self.0.script.lock().unwrap());
        let response = script(&call);
        self.0.before_response.pass().await;
        match response {
            MockResponse::Http(response) => {
                tokio::task::yield_now().await;
                Ok(response.map(Full::new))
            }
            MockResponse::Unreachable => Err(io::ErrorKind::ConnectionRefused.into()),
            MockResponse::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            MockResponse::Panic => panic!("the scripted panic"),
            MockResponse::Hang => std::future::pending().await,
        }
    }
}

/// Counts a call until it ends.
struct InFlightCall<'a>(&'a State);

impl<'a> InFlightCall<'a> {
    fn begin(state: &'a State) -> Self {
        let in_flight = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.max_concurrent.fetch_max(in_flight, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for InFlightCall<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<Request<Full<Bytes>>> for Upstream {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Full<Bytes>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.clone().respond(request))
    }
}
