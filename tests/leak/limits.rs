//! The output of the limit types.

use http::Request;
use tower::{Layer, service_fn};
use tower_service_token::limits::{ClientAddress, ClientAddressLayer, PeerAddress, TrustedProxies};

use super::SECRET;
use super::public_types::{Formatted, debug_text, error_text};

pub(super) fn formatted_types() -> Vec<Formatted> {
    let address = [192, 0, 2, 1];
    let layer = ClientAddressLayer::new();
    let inner = service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(()));
    let invalid = SECRET.parse::<TrustedProxies>().expect_err("no network");
    vec![
        debug_text("ClientAddress", &ClientAddress::new(address.into())),
        debug_text("ClientAddressLayer", &layer),
        debug_text("ClientAddressService", &layer.layer(inner)),
        debug_text("PeerAddress", &PeerAddress((address, 80).into())),
        debug_text("TrustedProxies", &TrustedProxies::default()),
        error_text("TrustedProxiesError", &invalid),
        failure_limit(),
    ]
}

#[cfg(feature = "tokio")]
fn failure_limit() -> Formatted {
    let limit = tower_service_token::limits::FailureLimit::new();
    debug_text("FailureLimit", &limit)
}

#[cfg(not(feature = "tokio"))]
fn failure_limit() -> Formatted {
    ("FailureLimit", Vec::new())
}
