use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use http::HeaderName;
use tower_service_token::limits::{ClientAddressLayer, TrustedProxies};

use super::value::duration;
use crate::store_url::{AuditTrail, StoreUrl};

/// A shorter retention is a mistake in the unit.
const MIN_AUDIT_RETENTION: Duration = Duration::from_secs(60 * 60);

/// Run a token service
///
/// One process has the management API (/service-tokens, /openapi.json), the OAuth endpoints
/// (/introspect, /revoke), forward authentication (/verify), the calls of the sts tool (/api/…) and
/// of the PipeOps SDK (/api/v1/service-account-tokens, /workspace), /healthz, /readyz and /metrics.
/// Tokens come by Authorization: ApiKey, X-API-Key or Authorization: Bearer; health and metrics need
/// none.
///
/// The log goes to stderr. No request waits for it: if nobody reads stderr, or its disk is full,
/// lines are dropped and counted (svctok_log_lines_dropped_total), other lines before audit events.
/// Audit events are logged at every level; tower_service_token::audit=off in --log-level switches
/// that off. A SQLite or PostgreSQL store keeps them as well, in the transaction of the change.
///
/// /readyz is 200 if tokens can be checked, /readyz?write if they can be changed too; the body is
/// JSON with the members status, reads (ok, failing), writes (ok, failing, unknown, read_only) and
/// feed (connected, lost, not_used). A lost change feed does not make a process unready: cached
/// tokens expire within 10 s.
///
/// stdout has nothing but the administrator token of the first start, before any connection is
/// accepted. If nobody takes it within 10 s, it is deleted again and the start fails.
///
/// The first start on a store without any token mints an administrator token (scopes
/// service-tokens:admin and introspect) and shows it once: on stdout, or in the file of
/// --bootstrap-token-file. The store records that it has had an administrator; beside a SQLite file,
/// so does PATH.initialized. If the store is empty all the same, or another one, the service does not
/// start: mount or restore the database, or confirm by --bootstrap. A store whose tokens are all
/// revoked is not empty. Whoever has lost the token can mint another on the store itself:
/// svctok --store … create.
///
/// SIGTERM and SIGINT let requests finish, write the last uses, close the store, and end with exit
/// code 0; a second one does not wait for requests. After that a SQLite database is one complete
/// file, if no other process has it open. SIGHUP changes nothing.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the tokens are kept: sqlite:PATH, postgres://… or file:PATH. A file cannot be
    /// changed from here, so it is served by /introspect, /verify, health and metrics alone
    /// [env: SVCTOK_STORE] [default: the SQLite file svctok/tokens.db in the user's data directory]
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreUrl>,

    /// The address to listen on; port 0 takes any free one, which the log tells
    #[arg(
        long,
        env = "SVCTOK_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,

    /// The certificate chain for https, a PEM file, the server's own first
    #[arg(
        long,
        env = "SVCTOK_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, a PEM file
    #[arg(
        long,
        env = "SVCTOK_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<PathBuf>,

    /// Listens without TLS on an address that others can reach: only behind a proxy that has TLS
    #[arg(
        long,
        env = "SVCTOK_INSECURE_PLAIN_HTTP",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) insecure_plain_http: bool,

    /// Starts with a store that is empty although it had an administrator before, or that is another
    /// one than the last time, and mints an administrator token if it is empty: for one start
    #[arg(long)]
    pub(crate) bootstrap: bool,

    /// Writes the administrator token of the first start here, for its owner alone (0600), and not
    /// to stdout; the file must not be there yet
    #[arg(long, env = "SVCTOK_BOOTSTRAP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) bootstrap_token_file: Option<PathBuf>,

    /// Where /metrics is: an address of its own, plain http, which has /healthz and /readyz too
    /// until the process ends; or off [default: with everything else]
    #[arg(long, env = "SVCTOK_METRICS_LISTEN", value_name = "ADDRESS|off")]
    pub(crate) metrics_listen: Option<MetricsAt>,

    /// The form of the log, on stderr
    #[arg(long, env = "SVCTOK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// What to log besides audit events: a level (error, warn, info, debug, trace), or directives
    /// such as warn,svctok=debug [default: RUST_LOG, or info]
    #[arg(long, env = "SVCTOK_LOG_LEVEL", value_name = "FILTER")]
    pub(crate) log_level: Option<String>,

    /// How long the store keeps audit events (who changed which token, and how); off keeps none. A
    /// token file has none in any case
    #[arg(
        long,
        env = "SVCTOK_AUDIT_RETENTION",
        value_name = "DURATION|forever|off",
        default_value = "400d",
        value_parser = audit_trail
    )]
    pub(crate) audit_retention: AuditTrail,

    /// How long requests may take to finish after SIGTERM or SIGINT
    #[arg(
        long,
        env = "SVCTOK_SHUTDOWN_TIMEOUT",
        value_name = "DURATION",
        default_value = "20s",
        value_parser = duration
    )]
    pub(crate) shutdown_timeout: Duration,

    /// How many connections there may be at a time. Beyond that the longest idle one is closed, and
    /// health and metrics are answered in any case [default: 1024, or what the limit of open files
    /// allows]
    #[arg(
        long,
        env = "SVCTOK_MAX_CONNECTIONS",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_connections: Option<u32>,

    /// A proxy in front of this server, as an address or a network such as 10.0.0.0/8: what it says
    /// of a client's address is trusted. Repeat it, or separate several by commas [default: none,
    /// the client is the connection's peer]
    #[arg(
        long = "trusted-proxy",
        env = "SVCTOK_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxies: Vec<TrustedProxies>,

    /// The header in which the trusted proxies send a client's address: Forwarded (RFC 7239), or one
    /// with a list of addresses, such as X-Real-IP. No other header is read
    #[arg(
        long,
        env = "SVCTOK_CLIENT_ADDRESS_HEADER",
        value_name = "NAME",
        default_value = "X-Forwarded-For"
    )]
    pub(crate) client_address_header: HeaderName,
}

impl ServeArgs {
    /// Returns the networks of the proxies that are trusted.
    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        self.trusted_proxies.iter().cloned().collect()
    }

    /// Returns the layer that works out the addresses of clients.
    pub(crate) fn client_address_layer(&self) -> ClientAddressLayer {
        ClientAddressLayer::new()
            .with_trusted_proxies(self.trusted_proxies())
            .with_header(self.client_address_header.clone())
    }

    /// Returns whether a flag concerns the administrator token.
    pub(crate) fn mints(&self) -> bool {
        self.bootstrap || self.bootstrap_token_file.is_some()
    }
}

/// Where the metrics are shown, if not among the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsAt {
    Address(SocketAddr),
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

impl FromStr for MetricsAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Nowhere);
        }
        let address = text.parse().map_err(|_| "neither an address nor `off`")?;
        Ok(Self::Address(address))
    }
}

fn audit_trail(text: &str) -> Result<AuditTrail, String> {
    match text {
        "forever" => Ok(AuditTrail::Forever),
        "off" => Ok(AuditTrail::Off),
        text => match duration(text) {
            Ok(retention) if retention >= MIN_AUDIT_RETENTION => Ok(AuditTrail::For(retention)),
            Ok(_) => Err("shorter than 1h".to_owned()),
            Err(error) => Err(format!("{error}, forever or off")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_trail_is_kept_for_a_time_or_forever_or_not() {
        let days = |days: u64| AuditTrail::For(Duration::from_secs(days * 86_400));
        assert_eq!(audit_trail("400d"), Ok(days(400)));
        assert_eq!(audit_trail("forever"), Ok(AuditTrail::Forever));
        assert_eq!(audit_trail("off"), Ok(AuditTrail::Off));
        for text in ["", "400", "0s", "59m", "-1d", "never"] {
            assert!(audit_trail(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_have_an_address_or_none() {
        assert_eq!("off".parse(), Ok(MetricsAt::Nowhere));
        let address = "127.0.0.1:9090".parse().map(MetricsAt::Address);
        assert_eq!("127.0.0.1:9090".parse(), address.map_err(|_| ""));
        assert!("9090".parse::<MetricsAt>().is_err());
    }
}
