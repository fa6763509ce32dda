use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tower_service_token::store::FeedStatus;

/// What `/readyz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) is_stopping: bool,
    pub(super) reads: Condition,
    pub(super) writes: Condition,
    pub(super) feed: FeedStatus,
}

/// The outcome of the last check of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    /// No check has ended yet.
    Unknown,
    Ok,
    Failing,
    /// The store is a token file, which the service does not write.
    ReadOnly,
}

/// What a check tests and a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Reads,
    /// A request for writes needs reads too, because a change reads the token first.
    Writes,
}

impl Condition {
    pub(super) fn from_success(is_ok: bool) -> Self {
        if is_ok { Self::Ok } else { Self::Failing }
    }
}

impl Operation {
    /// Parses a query: `write`, with or without a value, needs writes. Other parameters are ignored.
    pub(super) fn from_query(query: Option<&str>) -> Self {
        let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        if parameters.any(|(name, _)| name == "write") {
            Self::Writes
        } else {
            Self::Reads
        }
    }
}

impl Status {
    /// Returns the status code. The service is ready without its feed, because cached tokens expire.
    pub(super) fn code(self, needed: Operation) -> StatusCode {
        let writes = needed == Operation::Reads || self.writes == Condition::Ok;
        if !self.is_stopping && self.reads == Condition::Ok && writes {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }

    pub(super) fn body(self, needed: Operation) -> String {
        let status = match self.code(needed) {
            StatusCode::OK => "ready",
            _ if self.is_stopping => "stopping",
            _ => "not ready",
        };
        let body = json!({
            "status": status,
            "reads": self.reads,
            "writes": self.writes,
            "feed": feed(self.feed),
        });
        format!("{body}\n")
    }
}

fn feed(state: FeedStatus) -> &'static str {
    match state {
        FeedStatus::Connected => "connected",
        FeedStatus::Lost => "lost",
        _ => "not_used",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const READY: Status = Status {
        is_stopping: false,
        reads: Condition::Ok,
        writes: Condition::Ok,
        feed: FeedStatus::Connected,
    };

    #[test]
    fn readiness_requires_writes_only_on_request() {
        let with_writes = |writes| Status { writes, ..READY };
        let (ok, unavailable) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
        let reads = Condition::Failing;
        let feed = FeedStatus::Lost;
        let is_stopping = true;
        for (status, for_reads, for_writes) in [
            (READY, ok, ok),
            (with_writes(Condition::Failing), ok, unavailable),
            (with_writes(Condition::Unknown), ok, unavailable),
            (with_writes(Condition::ReadOnly), ok, unavailable),
            (Status { feed, ..READY }, ok, ok),
            (Status { reads, ..READY }, unavailable, unavailable),
            (
                Status {
                    is_stopping,
                    ..READY
                },
                unavailable,
                unavailable,
            ),
        ] {
            assert_eq!(status.code(Operation::Reads), for_reads, "{status:?}");
            assert_eq!(status.code(Operation::Writes), for_writes, "{status:?}");
        }
    }

    #[test]
    fn body_reports_reads_writes_and_feed() {
        let status = Status {
            writes: Condition::Failing,
            feed: FeedStatus::Lost,
            ..READY
        };
        let json = |needed| serde_json::from_str::<Value>(&status.body(needed)).unwrap();
        let (writes, feed) = ("failing", "lost");
        let ready = json!({"status": "ready", "reads": "ok", "writes": writes, "feed": feed});
        assert_eq!(json(Operation::Reads), ready);
        assert_eq!(json(Operation::Writes)["status"], "not ready");
    }

    #[test]
    fn query_parameter_write_requires_writes() {
        for query in ["write", "write=", "a=b&write", "write=1&a"] {
            assert_eq!(
                Operation::from_query(Some(query)),
                Operation::Writes,
                "{query}"
            );
        }
        for query in ["", "writes", "a=write", "read"] {
            assert_eq!(
                Operation::from_query(Some(query)),
                Operation::Reads,
                "{query}"
            );
        }
        assert_eq!(Operation::from_query(None), Operation::Reads);
    }
}
