use std::task::{Context, Poll};

use http::Request;
use tower::Service;
use tower_layer::Layer;

use super::layer::AddServiceTokenLayer;

/// Middleware that adds a service token to outgoing requests.
///
/// Created by [`AddServiceTokenLayer`].
#[derive(Clone, Debug)]
pub struct AddServiceToken<S> {
    inner: S,
    layer: AddServiceTokenLayer,
}

impl<S> Layer<S> for AddServiceTokenLayer {
    type Service = AddServiceToken<S>;

    fn layer(&self, inner: S) -> AddServiceToken<S> {
        AddServiceToken {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, B> Service<Request<B>> for AddServiceToken<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let target = request.uri().clone();
        self.layer.add(&target, request.headers_mut());
        self.inner.call(request)
    }
}
