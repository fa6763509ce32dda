//! The cost of a request without authentication, and with the least possible authentication.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use hashbrown::HashTable;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tower::Service;
use tower_service_token::token::MintedToken;

use crate::tokens;

type ServiceResult = Result<Response<Body>, Infallible>;

/// The inner service of every case. It drops the request and returns 200.
#[derive(Clone)]
pub(crate) struct Trivial;

impl Service<Request<Body>> for Trivial {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<ServiceResult>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(Body::empty())))
    }
}

/// The data that a hand-written service stores for a token.
#[expect(dead_code, reason = "only the cost of storing it matters")]
pub(crate) struct Identity {
    name: String,
    roles: Vec<String>,
}

impl Identity {
    fn of(number: usize) -> Arc<Self> {
        Arc::new(Self {
            name: tokens::name(number),
            roles: tokens::ROLES.map(String::from).into(),
        })
    }
}

/// Inserts an identity without authentication.
pub(crate) struct BareWithPrincipal {
    inner: Trivial,
    identity: Arc<Identity>,
}

impl BareWithPrincipal {
    pub(crate) fn new() -> Self {
        Self {
            inner: Trivial,
            identity: Identity::of(0),
        }
    }
}

impl Service<Request<Body>> for BareWithPrincipal {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<ServiceResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let identity = Arc::clone(&self.identity);
        request.extensions_mut().insert(identity);
        self.inner.call(request)
    }
}

/// The floor: one header, one SHA-256, one lookup without synchronization, one comparison in
/// constant time, one insertion. It cannot change its tokens, reads one header, accepts the first of
/// repeated headers, and does not mark the credential sensitive.
pub(crate) struct Floor {
    inner: Trivial,
    known: HashTable<([u64; 4], Arc<Identity>)>,
}

impl Floor {
    pub(crate) fn new(tokens: &[MintedToken]) -> Self {
        let mut known = HashTable::with_capacity(tokens.len());
        for (number, token) in tokens.iter().enumerate() {
            let digest = digest(token.expose_secret().as_bytes());
            known.insert_unique(digest[0], (digest, Identity::of(number)), |it| it.0[0]);
        }
        Self {
            inner: Trivial,
            known,
        }
    }

    fn identify(&self, request: &Request<Body>) -> Option<Arc<Identity>> {
        let value = request.headers().get(AUTHORIZATION)?;
        let presented = digest(value.as_bytes().strip_prefix(b"ApiKey ")?);
        let found = |known: &([u64; 4], _)| known.0[0] == presented[0];
        let (known, identity) = self.known.find(presented[0], found)?;
        let difference = (0..4).fold(0, |sum, index| sum | (known[index] ^ presented[index]));
        (black_box(difference) == 0).then(|| Arc::clone(identity))
    }
}

impl Service<Request<Body>> for Floor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<ServiceResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(identity) = self.identify(&request) else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return ready(Ok(response));
        };
        request.extensions_mut().insert(identity);
        self.inner.call(request)
    }
}

fn digest(token: &[u8]) -> [u64; 4] {
    let digest = Sha256::digest(token);
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}
