//! The `Debug` output of the endpoint builders.

use super::public_types::Formatted;

#[cfg(feature = "api")]
pub(super) fn formatted_types() -> Vec<Formatted> {
    use tower_service_token::api::forward_auth::{ForwardAuth, VerifyPrefix, VerifyPrefixError};
    use tower_service_token::api::management::ManagementApi;
    use tower_service_token::api::oauth::OAuthEndpoints;
    use tower_service_token::api::pipeops::PipeOpsApi;
    use tower_service_token::api::stackstate::StackStateApi;
    use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

    use super::minted_record;
    use super::public_types::{debug_text, error_text};

    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let layer = ServiceTokenLayer::new(store.clone());
    let tokens = ServiceTokens::new(store);
    let endpoints = OAuthEndpoints::new(tokens.clone(), layer.clone());
    let management = ManagementApi::new(tokens.clone(), layer.clone());
    let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
    let stackstate = StackStateApi::new(tokens, layer.clone());
    vec![
        debug_text("ForwardAuth", &ForwardAuth::new(layer)),
        debug_text("ManagementApi", &management),
        debug_text("OAuthEndpoints", &endpoints),
        debug_text("PipeOpsApi", &pipeops),
        debug_text("StackStateApi", &stackstate),
        debug_text("VerifyPrefix", &VerifyPrefix::new("deploy")),
        error_text("VerifyPrefixError", &VerifyPrefixError::Name),
    ]
}

#[cfg(not(feature = "api"))]
pub(super) fn formatted_types() -> Vec<Formatted> {
    let without = |name| (name, Vec::new());
    [
        "ForwardAuth",
        "ManagementApi",
        "OAuthEndpoints",
        "PipeOpsApi",
        "StackStateApi",
        "VerifyPrefix",
        "VerifyPrefixError",
    ]
    .map(without)
    .into()
}
