//! The clients of the authorization server that may introspect tokens. `server.mjs` registers them.

use tower_service_token::introspection::{ClientAuth, PrivateKeyJwt};

use super::deployment::Deployment;

pub const API: [&str; 2] = ["api", "api-secret"];
/// Its credentials contain characters that are special in a header, a form or a URL.
pub const SPECIAL: [&str; 2] = ["a b+c:%2B&=/~", r#"d e+f:%25&=?"<\>"#];
/// A client that authenticates by `client_secret_post`.
pub const POSTER: [&str; 2] = ["poster", "p +:%26&=?~"];

pub fn basic([id, secret]: [&str; 2]) -> ClientAuth {
    ClientAuth::basic(id, secret)
}

pub fn es256(deployment: &Deployment) -> PrivateKeyJwt {
    PrivateKeyJwt::es256("signer-es256", deployment.client_key("es256")).unwrap()
}

pub fn rs256(deployment: &Deployment) -> PrivateKeyJwt {
    PrivateKeyJwt::rs256("signer-rs256", deployment.client_key("rs256")).unwrap()
}
