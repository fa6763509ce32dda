use std::mem;
use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

use super::error::ClientError;
use super::outcome::{ChangedTokenInfo, IssuedTokenInfo, Revocation, TokenInfoPage};
use super::problem;
use crate::lifecycle::{BulkPreview, BulkRevocation};
use crate::media_type;
use crate::token::TokenId;
use crate::wire::{
    BulkPreviewResponse, BulkRevocationResponse, IssuedResponse, ListResponse, TokenInfo,
};

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A response of the server. Dropping it zeroes the body.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The token of the request. Errors redact it.
    pub(super) secret: Zeroizing<String>,
    /// Whether the server may have processed an earlier attempt of the same call.
    pub(super) is_repeated: bool,
}

/// The outcome of a creation or a rotation.
pub(super) enum IssueOutcome {
    Issued(IssuedTokenInfo),
    Earlier(TokenInfo),
}

impl Response {
    /// Returns the error of an unsuccessful response.
    pub(super) fn error(&self) -> ClientError {
        problem::client_error(self.status, &self.headers, &self.body, &self.secret)
    }

    pub(super) fn created(&self) -> Result<IssueOutcome, ClientError> {
        self.issued_once(StatusCode::CREATED)
    }

    pub(super) fn rotated(&self, id: Option<TokenId>) -> Result<IssueOutcome, ClientError> {
        let outcome = self.issued_once(StatusCode::OK)?;
        let (IssueOutcome::Issued(IssuedTokenInfo { token, .. }) | IssueOutcome::Earlier(token)) =
            &outcome;
        check_id(id, token)?;
        Ok(outcome)
    }

    fn issued_once(&self, status: StatusCode) -> Result<IssueOutcome, ClientError> {
        let is_replay = self.headers.get(REPLAYED).is_some_and(|it| it == "true");
        if is_replay && self.status == StatusCode::OK {
            let issued: IssuedResponse = self.json(StatusCode::OK)?;
            let mut token = issued.service_token;
            token.revision = self.revision();
            return Ok(IssueOutcome::Earlier(token));
        }
        self.issued(status).map(IssueOutcome::Issued)
    }

    pub(super) fn token(&self, id: Option<TokenId>) -> Result<TokenInfo, ClientError> {
        let mut token: TokenInfo = self.json(StatusCode::OK)?;
        check_id(id, &token)?;
        token.revision = self.revision();
        Ok(token)
    }

    pub(super) fn changed(&self, id: TokenId) -> Result<ChangedTokenInfo, ClientError> {
        Ok(ChangedTokenInfo {
            token: self.token(Some(id))?,
            effective_within: self.effective_within(),
        })
    }

    pub(super) fn revoked(&self) -> Result<Revocation, ClientError> {
        if self.status != StatusCode::NO_CONTENT {
            return Err(self.error());
        }
        Ok(Revocation {
            effective_within: self.effective_within(),
        })
    }

    pub(super) fn page(&self) -> Result<TokenInfoPage, ClientError> {
        let list: ListResponse = self.json(StatusCode::OK)?;
        let next = list.next_cursor.map(|cursor| cursor.parse()).transpose();
        Ok(TokenInfoPage {
            tokens: list.service_tokens,
            next: next
                .map_err(|_| ClientError::unexpected("the response has a malformed cursor"))?,
        })
    }

    /// Returns the tokens that a bulk revocation revoked.
    pub(super) fn bulk_revocation(&self) -> Result<BulkRevocation, ClientError> {
        let revoked: BulkRevocationResponse = self.json(StatusCode::OK)?;
        let (ids, remaining) = revoked.parse().map_err(ClientError::unexpected)?;
        Ok(BulkRevocation {
            ids,
            remaining,
            effective_within: self.effective_within(),
        })
    }

    /// Returns the tokens that a bulk revocation would revoke.
    pub(super) fn bulk_preview(&self) -> Result<BulkPreview, ClientError> {
        let preview: BulkPreviewResponse = self.json(StatusCode::OK)?;
        BulkPreview::try_from(preview).map_err(ClientError::unexpected)
    }

    pub(super) fn effective_within(&self) -> Duration {
        let seconds = self.headers.get(EFFECTIVE_WITHIN);
        let seconds = seconds.and_then(|it| it.to_str().ok()?.parse().ok());
        seconds.map_or(Duration::MAX, Duration::from_secs)
    }

    fn issued(&self, status: StatusCode) -> Result<IssuedTokenInfo, ClientError> {
        let issued: IssuedResponse = self.json(status)?;
        let missing = || ClientError::unexpected("the response has no secret");
        let mut token = issued.service_token;
        token.revision = self.revision();
        Ok(IssuedTokenInfo {
            secret: issued.token.ok_or_else(missing)?,
            token,
            effective_within: self.effective_within(),
        })
    }

    /// Decodes the body of a response with this status.
    fn json<T: DeserializeOwned>(&self, status: StatusCode) -> Result<T, ClientError> {
        if self.status != status {
            return Err(self.error());
        }
        let unexpected = |message| Err(ClientError::unexpected(message).with_status(status));
        if !media_type::is(&self.headers, media_type::JSON) {
            return unexpected("the response is not application/json".to_owned());
        }
        serde_json::from_slice(&self.body).or_else(|error| {
            // The message of the error could quote a secret.
            let (line, column) = (error.line(), error.column());
            unexpected(format!(
                "the response is malformed at line {line}, column {column}"
            ))
        })
    }

    fn revision(&self) -> Option<u64> {
        let tag = self.headers.get(ETAG)?.to_str().ok()?;
        tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        // A transport may share the buffer, and then it cannot be zeroed here.
        if let Ok(mut body) = mem::take(&mut self.body).try_into_mut() {
            body.as_mut().zeroize();
        }
    }
}

fn check_id(id: Option<TokenId>, token: &TokenInfo) -> Result<(), ClientError> {
    if id.is_some_and(|id| id != token.id) {
        return Err(ClientError::unexpected(
            "the response is about another token",
        ));
    }
    Ok(())
}
