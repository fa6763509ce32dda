use std::time::SystemTime;

use super::error::FileStoreError;

/// How a [`FileStore`](super::FileStore) stands with its file: for a health check.
#[derive(Clone, Debug)]
pub struct FileStatus {
    pub(super) tokens: usize,
    pub(super) loaded_at: SystemTime,
    pub(super) error: Option<FileStoreError>,
}

impl FileStatus {
    /// How many tokens are in use, those included that are revoked, disabled or expired.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// When the tokens in use were read.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// Why the file as it is now is not in use; `None` if it is.
    pub fn error(&self) -> Option<&FileStoreError> {
        self.error.as_ref()
    }

    /// The file can be used, and is. Says if that is news.
    pub(super) fn loaded(&mut self, tokens: usize, at: Option<SystemTime>) -> bool {
        let should_report = at.is_some() || self.error.is_some();
        self.tokens = tokens;
        self.loaded_at = at.unwrap_or(self.loaded_at);
        self.error = None;
        should_report
    }

    /// The file cannot be used; the tokens stay. Says if that is news.
    pub(super) fn failed(&mut self, error: &FileStoreError) -> bool {
        let known = self.error.as_ref();
        let should_report = !known.is_some_and(|known| known.has_same_message(error));
        self.error = Some(error.clone());
        should_report
    }
}

pub(super) fn report_loaded(tokens: usize) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_file_reloads_total", "outcome" => "loaded").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token", tokens, "the token file is in use");
    #[cfg(not(feature = "tracing"))]
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
    #[cfg(not(feature = "tracing"))]
    let _ = (error, tokens);
}
