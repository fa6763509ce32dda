//! An authorization server in this process: scripted, counted, and paused on request.

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
    running: AtomicUsize,
    max_concurrent: AtomicUsize,
    last: Mutex<Option<Call>>,
    script: Mutex<Script>,
    answered: PausePoint,
}

type Script = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

/// A request to the server.
#[derive(Clone)]
pub(crate) struct Call {
    /// The number of earlier calls.
    pub(crate) number: usize,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Vec<(String, String)>,
}

/// The response to a call.
#[derive(Clone)]
pub(crate) enum Answer {
    Response(Response<Bytes>),
    /// The connection is refused.
    Unreachable,
    /// The connection is closed before the first byte.
    Lost,
    Panic,
    Hang,
}

impl Call {
    /// Returns the value of the only field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.form.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice");
        value
    }

    pub(crate) fn token(&self) -> &str {
        self.field("token").unwrap()
    }
}

impl Answer {
    pub(crate) fn text(content_type: &str, body: impl Into<Bytes>) -> Self {
        let response = Response::builder().header(CONTENT_TYPE, content_type);
        Self::Response(response.body(body.into()).unwrap())
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::text("application/json", body)
    }

    pub(crate) fn of(value: &Value) -> Self {
        Self::json(value.to_string())
    }

    pub(crate) fn active() -> Self {
        Self::of(&active())
    }

    pub(crate) fn inactive() -> Self {
        Self::of(&json!({ "active": false }))
    }

    /// Creates an OAuth error response.
    pub(crate) fn error(status: u16, error: &str) -> Self {
        Self::of(&json!({ "error": error })).with_status(status)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::text("text/html", "<p>no</p>").with_status(status)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        if let Self::Response(response) = &mut self {
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
    let mut answer = active();
    let members = members.as_object().unwrap().clone();
    answer.as_object_mut().unwrap().extend(members);
    answer
}

impl Upstream {
    pub(crate) fn new(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            max_concurrent: AtomicUsize::new(0),
            last: Mutex::default(),
            script: Mutex::new(Arc::new(script)),
            answered: PausePoint::open(),
        }))
    }

    /// Sends the same response to every call.
    pub(crate) fn responding(answer: Answer) -> Self {
        Self::new(move |_| answer.clone())
    }

    /// From now on.
    pub(crate) fn respond_with(&self, answer: Answer) {
        self.set_script(move |_| answer.clone());
    }

    /// From now on.
    pub(crate) fn set_script(&self, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.0.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the largest number of concurrent calls.
    pub(crate) fn max_concurrent(&self) -> usize {
        self.0.max_concurrent.load(Ordering::SeqCst)
    }

    pub(crate) fn last(&self) -> Call {
        self.0.last.lock().unwrap().clone().unwrap()
    }

    /// The checkpoint at which calls pause before their response is sent.
    pub(crate) fn answered(&self) -> &PausePoint {
        &self.0.answered
    }

    async fn answer(self, request: Request<Full<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
        let _running = Running::begin(&self.0);
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
        *self.0.last.lock().unwrap() = Some(call.clone());
        let script = Arc::clone(&self.0.script.lock().unwrap());
        let answer = script(&call);
        self.0.answered.pass().await;
        match answer {
            Answer::Response(response) => {
                tokio::task::yield_now().await;
                Ok(response.map(Full::new))
            }
            Answer::Unreachable => Err(io::ErrorKind::ConnectionRefused.into()),
            Answer::Lost => Err(io::ErrorKind::ConnectionReset.into()),
            Answer::Panic => panic!("as the test asked for"),
            Answer::Hang => std::future::pending().await,
        }
    }
}

/// Counts a call until it ends.
struct Running<'a>(&'a State);

impl<'a> Running<'a> {
    fn begin(state: &'a State) -> Self {
        let running = state.running.fetch_add(1, Ordering::SeqCst) + 1;
        state.max_concurrent.fetch_max(running, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
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
        Box::pin(self.clone().answer(request))
    }
}
