//! What the layer for outgoing requests prints.

use super::public_types::Shown;

#[cfg(feature = "client")]
pub(super) fn shown() -> Vec<Shown> {
    use tower_layer::Layer;
    use tower_service_token::client::AddServiceTokenLayer;

    use super::SECRET;
    use super::public_types::{debugged, told};

    let layer = AddServiceTokenLayer::new(SECRET).expect("a token");
    let refused = AddServiceTokenLayer::new(&format!("{SECRET} {SECRET}"));
    let error = refused.expect_err("two words");
    vec![
        debugged("AddServiceToken", &layer.layer(())),
        debugged("AddServiceTokenLayer", &layer),
        told("TokenSourceError", &error),
        debugged("TokenSourceErrorKind", &error.kind()),
    ]
}

#[cfg(not(feature = "client"))]
pub(super) fn shown() -> Vec<Shown> {
    let without = |name| (name, Vec::new());
    [
        "AddServiceToken",
        "AddServiceTokenLayer",
        "TokenSourceError",
        "TokenSourceErrorKind",
    ]
    .map(without)
    .into()
}
