use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Row};

use super::server_health::{self, SERVER_TIMEOUT_MARGIN, ServerHealth, timeout_setting};
use crate::store::sql::open_error::{OpenStoreError, OpenStoreErrorKind};

const PARAMETER: &str = "target_session_attrs";

/// Which servers connections may lead to, as in libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetSessionAttrs {
    /// Any server. `prefer-standby` is the same where a URL names one server.
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

/// The state of the server of a session.
#[derive(Clone, Copy)]
struct SessionState {
    is_in_recovery: bool,
    is_read_only: bool,
}

impl TargetSessionAttrs {
    /// Returns why a session does not match.
    fn rejects(self, state: SessionState) -> Option<&'static str> {
        match self {
            Self::ReadWrite if state.is_read_only => {
                Some("the server is read-only, and target_session_attrs is read-write")
            }
            Self::ReadOnly if !state.is_read_only => {
                Some("the server is not read-only, and target_session_attrs is read-only")
            }
            Self::Primary if state.is_in_recovery => {
                Some("the server is a standby, and target_session_attrs is primary")
            }
            Self::Standby if !state.is_in_recovery => {
                Some("the server is a primary, and target_session_attrs is standby")
            }
            _ => None,
        }
    }
}

impl FromStr for TargetSessionAttrs {
    type Err = OpenStoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "any" | "prefer-standby" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            _ => {
                return Err(configuration(
                    "target_session_attrs is not any, read-write, read-only, primary, standby or \
                     prefer-standby",
                ));
            }
        })
    }
}

/// Parses a URL. sqlx does not support `target_session_attrs`, and treats a list of hosts as one name.
/// `default` is the target of URLs without the parameter; an empty one counts as none.
pub(super) fn parse(
    url: &str,
    default: Option<&str>,
) -> Result<(PgConnectOptions, TargetSessionAttrs), OpenStoreError> {
    let (url, parameter) = extract_parameter(url)?;
    let default = default.filter(|default| !default.is_empty());
    let target = match parameter.as_deref().or(default) {
        Some(text) => text.parse()?,
        None => TargetSessionAttrs::Any,
    };
    // The error of sqlx may contain the password.
    let invalid = |_: sqlx::Error| {
        // libpq separates the hosts or ports of several servers by commas.
        if authority(&url).contains(',') {
            configuration(SEVERAL_HOSTS)
        } else {
            configuration("not a PostgreSQL URL")
        }
    };
    let options: PgConnectOptions = url.parse().map_err(invalid)?;
    if options.get_host().contains(',') {
        return Err(configuration(SEVERAL_HOSTS));
    }
    if options.get_username().is_empty() {
        return Err(configuration(
            "the user is empty: name one in the URL, or unset PGUSER",
        ));
    }
    if options.get_host().is_empty() {
        return Err(configuration(
            "the host is empty: name one in the URL, or unset PGHOST and PGHOSTADDR",
        ));
    }
    // No column is a floating-point number, and PgBouncer rejects the parameter.
    Ok((options.extra_float_digits(None), target))
}

const SEVERAL_HOSTS: &str = "several hosts are not supported: use one name that follows the \
     primary, as a service, a virtual address or a proxy does";

fn configuration(text: &str) -> OpenStoreError {
    OpenStoreError::new(OpenStoreErrorKind::Configuration, text)
}

/// Returns the hosts and ports, without user and password.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[..end].rsplit('@').next().unwrap_or_default()
}

/// Removes the parameter from a URL and returns its last value.
fn extract_parameter(url: &str) -> Result<(String, Option<String>), OpenStoreError> {
    let (url, fragment) = match url.find('#') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    let Some((base, query)) = url.split_once('?') else {
        return Ok((format!("{url}{fragment}"), None));
    };
    let mut value = None;
    let mut remaining = Vec::new();
    for pair in query.split('&') {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, given)) if name == PARAMETER => value = Some(given.into_owned()),
            // sqlx would log its value.
            Some((name, _)) if name == "sslpassword" => {
                return Err(configuration("sslpassword is not supported"));
            }
            _ => remaining.push(pair),
        }
    }
    let query = remaining.join("&");
    Ok((format!("{base}?{query}{fragment}"), value))
}

/// Prepares a new session: the server ends a statement 500 ms after the longest deadline, unless the
/// session's `statement_timeout` is shorter already.
///
/// [Rejects](server_health::reject) a server that does not match the target.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    server_health: &ServerHealth,
    target: TargetSessionAttrs,
) -> Result<(), sqlx::Error> {
    let timeout = timeout_setting(
        server_health
            .longest_deadline()
            .saturating_add(SERVER_TIMEOUT_MARGIN),
    );
    // One round trip, without a prepared statement.
    let statement = format!(
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
         set_config('statement_timeout', CASE \
         WHEN current_setting('statement_timeout')::INTERVAL > INTERVAL '0' \
         AND current_setting('statement_timeout')::INTERVAL < INTERVAL '{timeout} ms' \
         THEN current_setting('statement_timeout') ELSE '{timeout}ms' END, FALSE)"
    );
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    let row = statement.fetch_one(connection).await?;
    let state = SessionState {
        is_in_recovery: row.try_get(0)?,
        is_read_only: row.try_get(1)?,
    };
    target.rejects(state).map_or(Ok(()), server_health::reject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_the_target_from_a_url() {
        let any = "postgres://u:p@h/db";
        for (url, left, value) in [
            (any, any, None),
            (
                "postgres://h/db?sslmode=disable",
                "postgres://h/db?sslmode=disable",
                None,
            ),
            (
                "postgres://h/db?target_session_attrs=primary",
                "postgres://h/db?",
                Some("primary"),
            ),
            (
                "postgres://h/db?a=1&target%5Fsession_attrs=read%2Dwrite&b=2#f",
                "postgres://h/db?a=1&b=2#f",
                Some("read-write"),
            ),
            (
                "postgres://h/db?target_session_attrs=any&target_session_attrs=standby",
                "postgres://h/db?",
                Some("standby"),
            ),
        ] {
            let expected = (left.to_owned(), value.map(str::to_owned));
            assert_eq!(extract_parameter(url).expect(url), expected, "{url}");
        }
    }

    #[test]
    fn url_overrides_the_environment() {
        let target = |url, default| parse(url, default).map(|(_, target)| target);
        let url = "postgres://h/db";
        let with = "postgres://h/db?target_session_attrs=primary";
        for unset in [None, Some("")] {
            assert_eq!(target(url, unset).expect("valid"), TargetSessionAttrs::Any);
        }
        assert_eq!(
            target(url, Some("standby")).expect("valid"),
            TargetSessionAttrs::Standby
        );
        assert_eq!(
            target(with, Some("standby")).expect("valid"),
            TargetSessionAttrs::Primary
        );
        assert_eq!(
            target(url, Some("prefer-standby")).expect("valid"),
            TargetSessionAttrs::Any
        );
    }

    #[test]
    fn rejects_unknown_targets_and_multiple_hosts() {
        for (url, reason) in [
            (
                "postgres://h/db?target_session_attrs=writer",
                "target_session_attrs is not",
            ),
            (
                "postgres://h/db?target_session_attrs=",
                "target_session_attrs is not",
            ),
            ("postgres://a:5432,b:5433/db", "several hosts"),
            ("postgres://a,b/db", "several hosts"),
            ("postgres:///db?host=a,b", "several hosts"),
            ("postgres://h/db?user=", "the user is empty"),
            ("postgres://u@h/db?host=", "the host is empty"),
            (
                "postgres://h/db?sslpassword=hush",
                "sslpassword is not supported",
            ),
            ("postgres://u:pass,word@h:port/db", "not a PostgreSQL URL"),
        ] {
            let error = parse(url, None).expect_err(url);
            assert_eq!(error.kind(), OpenStoreErrorKind::Configuration);
            let source = std::error::Error::source(&error).expect("a reason");
            assert!(source.to_string().starts_with(reason), "{url}: {source}");
        }
    }

    #[test]
    fn each_target_rejects_the_other_servers() {
        let primary = SessionState {
            is_in_recovery: false,
            is_read_only: false,
        };
        let read_only = SessionState {
            is_in_recovery: false,
            is_read_only: true,
        };
        let standby = SessionState {
            is_in_recovery: true,
            is_read_only: true,
        };
        for (target, accepted) in [
            (TargetSessionAttrs::Any, [true, true, true]),
            (TargetSessionAttrs::ReadWrite, [true, false, false]),
            (TargetSessionAttrs::ReadOnly, [false, true, true]),
            (TargetSessionAttrs::Primary, [true, true, false]),
            (TargetSessionAttrs::Standby, [false, false, true]),
        ] {
            let accepts = [primary, read_only, standby].map(|it| target.rejects(it).is_none());
            assert_eq!(accepts, accepted, "{target:?}");
        }
    }
}
