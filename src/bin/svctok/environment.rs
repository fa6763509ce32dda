//! Environment variables. An empty variable counts as absent.

use std::env;
use std::ffi::OsString;

use crate::args::TargetArgs;
use crate::failure::Failure;
use crate::secret::SecretText;
use crate::store_url::StoreUrl;

const TOKEN: &str = "SVCTOK_TOKEN";

/// The server or store, and the token to authenticate with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) target: TargetArgs,
    pub(crate) token: Option<SecretText>,
}

impl Environment {
    pub(crate) fn read() -> Result<Self, Failure> {
        let store = variable("SVCTOK_STORE")?.map(|text| text.parse::<StoreUrl>());
        // Errors do not quote the value, which may contain a password.
        let store = store
            .transpose()
            .map_err(|error| Failure::usage(format!("SVCTOK_STORE: {error}")))?;
        Ok(Self {
            target: TargetArgs {
                url: variable("SVCTOK_URL")?,
                store,
                context: variable("SVCTOK_CONTEXT")?,
            },
            token: variable(TOKEN)?.map(|text| SecretText::new(text).with_source(TOKEN)),
        })
    }
}

/// Starts this program again without the empty variables of PostgreSQL, such as `PGUSER`, if there are
/// any.
///
/// sqlx reads them itself, and takes an empty one for a value. A process cannot safely change its own
/// environment.
#[cfg(unix)]
pub(crate) fn restart_without_empty_postgres_variables() {
    use std::os::unix::process::CommandExt;

    let variables = env::vars_os();
    let empty = variables
        .filter(|(name, value)| value.is_empty() && name.as_encoded_bytes().starts_with(b"PG"));
    let names: Vec<_> = empty.map(|(name, _)| name).collect();
    let Some(program) = env::current_exe().ok().filter(|_| !names.is_empty()) else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in names {
        command.env_remove(name);
    }
    // It returns only if it fails. Then an empty variable is an error where it matters.
    let _ = command.exec();
}

#[cfg(not(unix))]
pub(crate) fn restart_without_empty_postgres_variables() {}

/// Returns a variable that may not be UTF-8.
pub(crate) fn variable_os(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn variable(name: &str) -> Result<Option<String>, Failure> {
    let value = variable_os(name).map(OsString::into_string).transpose();
    value.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))
}

/// Returns the name of the user, for audit events.
pub(crate) fn user() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(variable_os);
    let user = user.and_then(|user| user.into_string().ok());
    let is_name = |user: &String| user.len() <= 100 && !user.contains(char::is_control);
    user.filter(is_name)
        .unwrap_or_else(|| "operator".to_owned())
}
