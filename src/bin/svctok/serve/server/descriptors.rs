use crate::failure::Failure;

/// The default limit of connections.
const DEFAULT_CONNECTIONS: u64 = 1024;

/// Descriptors for other purposes than connections of clients: up to 10 connections of a database,
/// each of SQLite with 3 files, its change feed, the listeners, 16 + 8 connections for metrics and 8
/// for health, logs, the runtime, and connections that are closing.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Raises the limit of open files as far as allowed, and returns how many connections fit.
///
/// The default is 1,024 or what fits, if that is less. Returns an error if an explicit number does
/// not fit.
pub(crate) fn max_connections(explicit: Option<u32>) -> Result<usize, Failure> {
    let connections = choose(explicit.map(u64::from), raise_limit())?;
    Ok(usize::try_from(connections).unwrap_or(usize::MAX))
}

/// Returns the limit of open files, or `None` where there is none.
#[cfg(unix)]
fn raise_limit() -> Option<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
        .inspect_err(|error| tracing::warn!(%error, "cannot read the limit of open files"))
        .ok()
}

#[cfg(not(unix))]
fn raise_limit() -> Option<u64> {
    None
}

fn choose(explicit: Option<u64>, limit: Option<u64>) -> Result<u64, Failure> {
    let fit = limit.map_or(u64::MAX, |limit| {
        limit - RESERVED_DESCRIPTORS.min(limit / 2)
    });
    match (explicit, limit) {
        (Some(connections), Some(limit)) if connections > fit => Err(Failure::usage(format!(
            "{connections} connections do not fit into {limit} open files, of which {} are reserved",
            limit - fit
        ))
        .with_hint(format!(
            "specify --max-connections {fit} or less, or raise the hard limit of open files"
        ))),
        (Some(connections), _) => Ok(connections),
        (None, Some(limit)) if fit < DEFAULT_CONNECTIONS => {
            tracing::warn!(
                limit,
                connections = fit,
                "connection limit lowered to fit open files"
            );
            Ok(fit)
        }
        (None, _) => Ok(DEFAULT_CONNECTIONS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    #[test]
    fn default_limit_shrinks_to_the_open_files() {
        for (limit, connections) in [
            (None, 1024),
            (Some(1_048_576), 1024),
            (Some(1152), 1024),
            (Some(1151), 1023),
            (Some(256), 128),
            (Some(64), 32),
        ] {
            assert_eq!(choose(None, limit).unwrap(), connections, "{limit:?}");
        }
    }

    #[test]
    fn rejects_an_explicit_limit_that_does_not_fit() {
        assert_eq!(choose(Some(896), Some(1024)).unwrap(), 896);
        assert_eq!(choose(Some(100_000), None).unwrap(), 100_000);
        let error = choose(Some(897), Some(1024)).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Usage);
        let message = error.message();
        assert_eq!(
            message,
            "897 connections do not fit into 1024 open files, of which 128 are reserved"
        );
    }
}
