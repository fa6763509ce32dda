use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use http::HeaderName;
use tower_service_token::ServiceTokenLayer;
use tower_service_token::api::forward_auth::{ForwardAuth, VerifyPrefix};
use tower_service_token::limits::{ClientAddressLayer, TrustedProxies};

use super::value::duration;
use crate::output::is_stdout;
use crate::store_url::{AuditRetention, StoreOptions, StoreUrl};

/// A shorter retention is probably a wrong unit.
const MIN_AUDIT_RETENTION: Duration = Duration::from_secs(60 * 60);

/// Run a token service
///
/// One process serves the management API (/service-tokens, /openapi.json), the OAuth endpoints
/// (/introspect, /revoke), forward authentication (/verify), the API of the sts tool (/api/…), the
/// API of the PipeOps SDK (/api/v1/service-account-tokens, /workspace), /healthz, /readyz and
/// /metrics. Clients send their token by Authorization: ApiKey, X-API-Key or Authorization: Bearer.
/// Health and metrics need no token.
///
/// The log is written to stderr. Requests do not wait for it: if stderr blocks or its disk is full,
/// lines are dropped and counted (svctok_log_lines_dropped_total). When stderr accepts lines again,
/// the log reports the number per class. Audit events have the largest queue. They are logged at
/// every level; tower_service_token::audit=off in --log-level switches them off. A SQLite or
/// PostgreSQL store also records them, in the transaction of the change.
///
/// /readyz returns 200 if tokens can be verified. /readyz?write returns 200 if they can be changed
/// too. The body is JSON with the members status, reads (ok, failing), writes (ok, failing, unknown,
/// read_only) and feed (connected, lost, not_used). A process stays ready when it loses its change
/// feed, because cached tokens expire within 10 s.
///
/// The first start on a store without tokens mints an administrator token (scopes
/// service-tokens:admin and introspect) before it accepts connections. It writes the token to stdout,
/// or to the file of --bootstrap-token-file, and never shows it again. Nothing else is written to
/// stdout. If stdout blocks for 10 s, the token is deleted and the start fails.
///
/// The store records that it has had an administrator. For a SQLite store, the file
/// PATH.initialized records it too. If such a store has no tokens, or the database is not the one
/// of the last start, the service does not start: mount or restore the database, or confirm by
/// --bootstrap. Revoked tokens count as tokens. If you lose the administrator token, mint another on
/// the store itself: svctok --store … create.
///
/// SIGTERM and SIGINT stop the service with exit code 0. Requests have the time of
/// --shutdown-timeout to finish; after that, or at a second signal, they are aborted. Then the
/// service writes the last uses (at most 3 s), closes the store (4 s) and writes the log (2 s): a
/// stop takes at most 29 s by default. Afterwards a SQLite database is one complete file, unless
/// another process has it open. SIGHUP is ignored.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The token store: sqlite:PATH, postgres://… or file:PATH. A file: store is read-only: only
    /// /introspect, /verify, health and metrics serve it [env: SVCTOK_STORE] [default: the SQLite
    /// file $XDG_DATA_HOME/svctok/tokens.db, by default ~/.local/share/svctok/tokens.db]
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreUrl>,

    /// The address to listen on. Port 0 selects a free port, which the log names
    #[arg(long, env = "SVCTOK_LISTEN", value_name = "ADDRESS")]
    #[arg(default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// The certificate chain for HTTPS, a PEM file that begins with the server's certificate
    #[arg(long, env = "SVCTOK_TLS_CERT", value_name = "FILE")]
    #[arg(requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, a PEM file
    #[arg(long, env = "SVCTOK_TLS_KEY", value_name = "FILE")]
    #[arg(requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Allows plain HTTP on an address that other hosts can reach. Use it only behind a proxy that
    /// terminates TLS
    #[arg(long, env = "SVCTOK_INSECURE_PLAIN_HTTP")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) insecure_plain_http: bool,

    /// Confirms that the store has lost its tokens or is not the one of the last start, and mints an
    /// administrator token if the store is empty. Use it for one start
    #[arg(long)]
    pub(crate) bootstrap: bool,

    /// Writes the administrator token of the first start to this file (mode 0600) instead of stdout.
    /// The file must not exist; `-` is stdout
    #[arg(long, env = "SVCTOK_BOOTSTRAP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) bootstrap_token_file: Option<PathBuf>,

    /// Serves /metrics on this address instead, by plain HTTP and until the process ends; /healthz
    /// and /readyz are served on both addresses. off disables /metrics [default: the address of
    /// --listen]
    #[arg(long, env = "SVCTOK_METRICS_LISTEN", value_name = "ADDRESS|off")]
    pub(crate) metrics_listen: Option<MetricsListen>,

    /// The format of the log on stderr
    #[arg(long, env = "SVCTOK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Which lines to log besides audit events: a level (error, warn, info, debug, trace), or
    /// directives such as warn,svctok=debug [default: RUST_LOG, or info]
    #[arg(long, env = "SVCTOK_LOG_LEVEL", value_name = "FILTER")]
    pub(crate) log_level: Option<String>,

    /// How long the store keeps audit events (who changed which token, and how). off records none. A
    /// file: store never has any
    #[arg(long, env = "SVCTOK_AUDIT_RETENTION")]
    #[arg(value_name = "DURATION|forever|off", default_value = "400d")]
    #[arg(value_parser = audit_retention)]
    pub(crate) audit_retention: AuditRetention,

    /// How many connections to a postgres:// store are used at a time, besides the one that receives
    /// changes. Fewer free slots on the server are no error [default: 10]
    #[arg(long, env = "SVCTOK_DATABASE_CONNECTIONS", value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) database_connections: Option<u32>,

    /// How long requests may take to finish after SIGTERM or SIGINT. A stop takes up to 9 s more
    #[arg(long, env = "SVCTOK_SHUTDOWN_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "20s", value_parser = duration)]
    pub(crate) shutdown_timeout: Duration,

    /// The maximum number of connections. At the limit, a new connection replaces the one that has
    /// been idle longest; health and metrics have reserved connections [default: 1024, or less if
    /// the limit of open files is lower]
    #[arg(long, env = "SVCTOK_MAX_CONNECTIONS", value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: Option<u32>,

    /// A proxy in front of this server whose client address header is trusted: an address, or a
    /// network such as 10.0.0.0/8. Can be repeated; values can be separated by commas [default: none,
    /// the client is the connection's peer]
    #[arg(long = "trusted-proxy", env = "SVCTOK_TRUSTED_PROXY")]
    #[arg(value_name = "CIDR", value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<TrustedProxies>,

    /// The header in which trusted proxies send the client's address: Forwarded (RFC 7239), or a
    /// header with a list of addresses, such as X-Real-IP. The server reads no other header
    #[arg(long, env = "SVCTOK_CLIENT_ADDRESS_HEADER", value_name = "NAME")]
    #[arg(default_value = "X-Forwarded-For", requires = "trusted_proxies")]
    pub(crate) client_address_header: HeaderName,

    /// A path below /verify for proxies that append the path and query of the original request, which
    /// are ignored there: deploy?role=deployer&scope=projects:write serves /verify/deploy and all paths
    /// below it, and requires that role and scope. Can be repeated; values can be separated by spaces
    /// [default: none]
    #[arg(long = "verify-prefix", env = "SVCTOK_VERIFY_PREFIX")]
    #[arg(value_name = "NAME[?QUERY]", value_delimiter = ' ')]
    pub(crate) verify_prefixes: Vec<VerifyPrefix>,

    /// Responds to valid tokens at /verify with 204 instead of 200
    #[arg(long, env = "SVCTOK_VERIFY_NO_CONTENT")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) verify_no_content: bool,
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

    /// Returns how the store is opened.
    pub(crate) fn store_options(&self) -> StoreOptions {
        StoreOptions {
            audit_retention: self.audit_retention,
            database_connections: self.database_connections,
        }
    }

    /// Returns the file for the administrator token, unless it is stdout.
    pub(crate) fn bootstrap_token_file(&self) -> Option<&Path> {
        let path = self.bootstrap_token_file.as_deref();
        path.filter(|path| !is_stdout(path))
    }

    /// Returns the endpoint of forward authentication.
    pub(crate) fn forward_auth(&self, layer: ServiceTokenLayer) -> ForwardAuth {
        let prefixes = self.verify_prefixes.iter().cloned();
        let endpoint = prefixes.fold(ForwardAuth::new(layer), ForwardAuth::with_prefix);
        if self.verify_no_content {
            endpoint.respond_with_no_content()
        } else {
            endpoint
        }
    }

    /// Returns whether a flag concerns the administrator token.
    pub(crate) fn has_bootstrap_flag(&self) -> bool {
        self.bootstrap || self.bootstrap_token_file.is_some()
    }
}

/// Where `/metrics` is served, if not at `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsListen {
    Address(SocketAddr),
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Plain text, one line per event
    Text,
    /// JSON, one object per line
    Json,
}

impl FromStr for MetricsListen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map_err(|_| "neither an address nor `off`")?;
        Ok(Self::Address(address))
    }
}

fn audit_retention(text: &str) -> Result<AuditRetention, String> {
    match text {
        "forever" => Ok(AuditRetention::Forever),
        "off" => Ok(AuditRetention::Off),
        text => match duration(text) {
            Ok(retention) if retention >= MIN_AUDIT_RETENTION => Ok(AuditRetention::For(retention)),
            Ok(_) => Err("shorter than 1h".to_owned()),
            Err(error) => Err(format!("{error}, forever or off")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_retention_is_a_duration_forever_or_off() {
        let days = |days: u64| AuditRetention::For(Duration::from_secs(days * 86_400));
        assert_eq!(audit_retention("400d"), Ok(days(400)));
        assert_eq!(audit_retention("forever"), Ok(AuditRetention::Forever));
        assert_eq!(audit_retention("off"), Ok(AuditRetention::Off));
        for text in ["", "400", "0s", "59m", "-1d", "never"] {
            assert!(audit_retention(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_listen_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(MetricsListen::Off));
        let address = "127.0.0.1:9090".parse().map(MetricsListen::Address);
        assert_eq!("127.0.0.1:9090".parse(), address.map_err(|_| ""));
        assert!("9090".parse::<MetricsListen>().is_err());
    }
}
