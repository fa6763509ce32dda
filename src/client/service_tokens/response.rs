use std::mem;
use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use zeroize::{Zeroize, Zeroizing};

use super::error::ClientError;
use super::outcome::{ChangedTokenInfo, IssuedTokenInfo, Revocation, TokenInfoPage};
use super::problem;
use crate::lifecycle::{BulkPreview, BulkRevocation, TokenInfo};
use crate::token::{PresentedToken, TokenId};
use crate::transport::has_media_type;

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the server said. The body is wiped when this is dropped.
pub(super) struct ApiResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The token that was sent, which no error may show.
    pub(super) secret: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(deserialize_with = "secret")]
    token: Option<PresentedToken<'static>>,
    service_token: TokenInfo,
}

#[derive(Deserialize)]
struct Listed {
    service_tokens: Vec<TokenInfo>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Revoked {
    dry_run: bool,
    ids: Vec<String>,
    remaining: usize,
}

#[derive(Deserialize)]
struct Preview {
    dry_run: bool,
    count: usize,
    sample: Vec<String>,
    forbidden: usize,
    needs_expect: bool,
    ends_administration: bool,
}

/// What became of a creation.
pub(super) enum CreateOutcome {
    Issued(IssuedTokenInfo),
    Replayed(TokenInfo),
}

impl ApiResponse {
    /// What the caller gets who did not get what was asked for.
    pub(super) fn to_error(&self) -> ClientError {
        problem::client_error(self.status, &self.headers, &self.body, &self.secret)
    }

    pub(super) fn created(&self) -> Result<CreateOutcome, ClientError> {
        let is_replay = self.headers.get(REPLAYED).is_some_and(|it| it == "true");
        if is_replay && self.status == StatusCode::OK {
            let issued: Issued = self.json(StatusCode::OK)?;
            return Ok(CreateOutcome::Replayed(issued.service_token));
        }
        self.issued(StatusCode::CREATED).map(CreateOutcome::Issued)
    }

    pub(super) fn rotated(&self, id: Option<TokenId>) -> Result<IssuedTokenInfo, ClientError> {
        let issued = self.issued(StatusCode::OK)?;
        check_id(id, &issued.token)?;
        Ok(issued)
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
            return Err(self.to_error());
        }
        Ok(Revocation {
            effective_within: self.effective_within(),
        })
    }

    pub(super) fn page(&self) -> Result<TokenInfoPage, ClientError> {
        let listed: Listed = self.json(StatusCode::OK)?;
        let next = listed.next_cursor.map(|cursor| cursor.parse()).transpose();
        Ok(TokenInfoPage {
            tokens: listed.service_tokens,
            next: next.map_err(|_| ClientError::unexpected("the answer names no cursor"))?,
        })
    }

    /// The tokens that a bulk revocation revoked.
    pub(super) fn bulk_revocation(&self) -> Result<BulkRevocation, ClientError> {
        let revoked: Revoked = self.json(StatusCode::OK)?;
        if revoked.dry_run {
            return Err(ClientError::unexpected(
                "the server revoked nothing: it made a dry run",
            ));
        }
        Ok(BulkRevocation {
            ids: ids(&revoked.ids)?,
            remaining: revoked.remaining,
            effective_within: self.effective_within(),
        })
    }

    /// The tokens that a bulk revocation would revoke.
    pub(super) fn bulk_preview(&self) -> Result<BulkPreview, ClientError> {
        let preview: Preview = self.json(StatusCode::OK)?;
        if !preview.dry_run {
            return Err(ClientError::unexpected("the server made no dry run"));
        }
        Ok(BulkPreview {
            count: preview.count,
            sample: ids(&preview.sample)?,
            forbidden: preview.forbidden,
            needs_expect: preview.needs_expect,
            ends_administration: preview.ends_administration,
        })
    }

    pub(super) fn effective_within(&self) -> Duration {
        let seconds = self.headers.get(EFFECTIVE_WITHIN);
        let seconds = seconds.and_then(|it| it.to_str().ok()?.parse().ok());
        seconds.map_or(Duration::MAX, Duration::from_secs)
    }

    fn issued(&self, status: StatusCode) -> Result<IssuedTokenInfo, ClientError> {
        let issued: Issued = self.json(status)?;
        let missing = || ClientError::unexpected("the answer holds no secret");
        let mut token = issued.service_token;
        token.revision = self.revision();
        Ok(IssuedTokenInfo {
            secret: issued.token.ok_or_else(missing)?,
            token,
            effective_within: self.effective_within(),
        })
    }

    /// The body of an answer with this status.
    fn json<T: DeserializeOwned>(&self, status: StatusCode) -> Result<T, ClientError> {
        if self.status != status {
            return Err(self.to_error());
        }
        let unexpected = |message| Err(ClientError::unexpected(message).with_status(status));
        if !has_media_type(&self.headers, "application/json") {
            return unexpected("the answer is not application/json".to_owned());
        }
        serde_json::from_slice(&self.body).or_else(|error| {
            // By its place alone, as an excerpt may be a secret.
            let (line, column) = (error.line(), error.column());
            unexpected(format!(
                "the answer is unreadable at line {line}, column {column}"
            ))
        })
    }

    fn revision(&self) -> Option<u64> {
        let tag = self.headers.get(ETAG)?.to_str().ok()?;
        tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
    }
}

impl Drop for ApiResponse {
    fn drop(&mut self) {
        // It may be shared with the buffer of a transport, which is out of reach.
        if let Ok(mut body) = mem::take(&mut self.body).try_into_mut() {
            body.as_mut().zeroize();
        }
    }
}

fn ids(texts: &[String]) -> Result<Vec<TokenId>, ClientError> {
    let ids: Result<_, _> = texts.iter().map(|id| id.parse()).collect();
    ids.map_err(|_| ClientError::unexpected("the response names tokens by malformed ids"))
}

fn check_id(id: Option<TokenId>, token: &TokenInfo) -> Result<(), ClientError> {
    if id.is_some_and(|id| id != token.id) {
        return Err(ClientError::unexpected("the answer is about another token"));
    }
    Ok(())
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PresentedToken<'static>>, D::Error> {
    let text = Option::<String>::deserialize(from)?.map(Zeroizing::new);
    let token = |text: Zeroizing<String>| {
        let token = PresentedToken::new(&text).map(PresentedToken::into_owned);
        token.ok_or_else(|| de::Error::custom("not a token"))
    };
    text.map(token).transpose()
}
