use std::time::SystemTime;

use super::error::FileStoreError;

/// The status of a [`FileStore`](super::FileStore), for a health check.
#[derive(Clone, Debug)]
pub struct FileStatus {
    pub(super) tokens: usize,
    pub(super) loaded_at: SystemTime,
    pub(super) error: Option<FileStoreError>,
}

impl FileStatus {
    /// Returns the number of tokens in use, including revoked, disabled and expired ones.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns when the tokens in use were read.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// Returns why the current file is not in use, or `None` if it is.
    pub fn error(&self) -> Option<&FileStoreError> {
        self.error.as_ref()
    }
}

pub(super) fn report_loaded(tokens: usize) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_file_reloads_total", "outcome" => "loaded").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token", tokens, "the token file is in use");
    let _ = tokens;
}

pub(super) fn report_failed(error: &FileStoreError, tokens: usize) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_file_reloads_total", "outcome" => "failed").increment(1);
    #[cfg(feature = "tracing")]
    {
        let source = std::error::Error::source(error).map(tracing::field::display);
        let error = tracing::field::display(error);
        tracing::error!(
            target: "tower_service_token",
            error,
            source,
            tokens,
            "the token file cannot be used; the tokens read before stay in use",
        );
    }
    let _ = (error, tokens);
}
