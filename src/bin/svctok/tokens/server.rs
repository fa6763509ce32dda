use tower_service_token::client::{
    ClientConfigError, ClientError, ClientErrorKind, ServiceTokensClient,
};
use tower_service_token::wire::TokenInfo;

use super::conditions::Conditions;
use super::failure::server_failure;
use crate::failure::{Failure, FailureKind};
use crate::secret::{SecretText, redact_secrets};

/// The tokens of a server.
pub(crate) struct ServerTokens {
    pub(super) client: ServiceTokensClient,
    /// The URL for messages, without secrets.
    url: String,
}

impl ServerTokens {
    /// Creates a client. It sends nothing yet.
    pub(crate) fn open(
        url: &str,
        token: Option<&SecretText>,
        conditions: Conditions,
    ) -> Result<Self, Failure> {
        let shown = redact_secrets(url);
        let token = token.ok_or_else(|| {
            let message = format!("no token specified for {shown}");
            Failure::new(FailureKind::Unreachable, message).with_hint(
                "use --service-token-file, --service-token-stdin or SVCTOK_TOKEN, or save a context",
            )
        })?;
        token.as_presented_token()?;
        let client = ServiceTokensClient::builder(url).with_token(token.expose_secret());
        let mut client = client.build().map_err(|error| {
            let kind = match error {
                ClientConfigError::NoRootCertificates => FailureKind::Unreachable,
                _ => FailureKind::Usage,
            };
            Failure::context(kind, format_args!("cannot use {shown}"), &error)
        })?;
        if let Some(revision) = conditions.if_revision {
            client = client.if_revision(revision);
        }
        if conditions.allow_last_admin_removal {
            client = client.allow_last_admin_removal();
        }
        Ok(Self { client, url: shown })
    }

    /// Returns the token that the client authenticates with, or why the server rejects it.
    pub(crate) async fn own(&self) -> Result<Result<TokenInfo, String>, Failure> {
        match self.client.get_own().await {
            Err(error) if error.kind() == ClientErrorKind::Unauthenticated => {
                Ok(Err(error.to_string()))
            }
            own => self.done(own).map(Ok),
        }
    }

    pub(super) fn done<T>(&self, done: Result<T, ClientError>) -> Result<T, Failure> {
        done.map_err(|error| server_failure(&self.url, &error))
    }
}
