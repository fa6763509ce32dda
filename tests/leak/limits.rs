//! What the types of limits print.

use http::Request;
use tower::{Layer, service_fn};
use tower_service_token::limits::{ClientAddress, ClientAddressLayer, PeerAddress, TrustedProxies};

use super::SECRET;
use super::public_types::{Shown, debugged, told};

pub(super) fn shown() -> Vec<Shown> {
    let address = [192, 0, 2, 1];
    let layer = ClientAddressLayer::new();
    let inner = service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(()));
    let invalid = SECRET.parse::<TrustedProxies>().expect_err("no network");
    vec![
        debugged("ClientAddress", &ClientAddress::new(address.into())),
        debugged("ClientAddressLayer", &layer),
        debugged("ClientAddressService", &layer.layer(inner)),
        debugged("PeerAddress", &PeerAddress((address, 80).into())),
        debugged("TrustedProxies", &TrustedProxies::default()),
        told("TrustedProxiesError", &invalid),
        failure_limit(),
    ]
}

#[cfg(feature = "tokio")]
fn failure_limit() -> Shown {
    let limit = tower_service_token::limits::FailureLimit::new();
    debugged("FailureLimit", &limit)
}

#[cfg(not(feature = "tokio"))]
fn failure_limit() -> Shown {
    ("FailureLimit", Vec::new())
}
