//! Environment variables. An empty variable counts as absent.

#[cfg(unix)]
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::path::Path;

use crate::args::TargetArgs;
use crate::failure::Failure;
#[cfg(unix)]
use crate::output;
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
/// environment. If the program cannot be started again, it continues with a warning.
#[cfg(unix)]
pub(crate) fn restart_without_empty_postgres_variables() {
    use std::os::unix::process::CommandExt;

    let Some(variables) = without_empty_postgres_variables(env::vars_os()) else {
        return;
    };
    let program = env::current_exe().and_then(|program| {
        if is_loader(&program) {
            return Err(io::Error::other("it was started by the dynamic loader"));
        }
        Ok(program)
    });
    let error = match program {
        Ok(program) => {
            let mut arguments = env::args_os();
            let mut command = std::process::Command::new(program);
            if let Some(name) = arguments.next() {
                command.arg0(name);
            }
            // It returns only if it fails.
            command.args(arguments).env_clear().envs(variables).exec()
        }
        Err(error) => error,
    };
    output::eprint_message(format_args!(
        "warning: cannot restart svctok without the empty variables of PostgreSQL, such as PGUSER: \
         {error}"
    ));
}

#[cfg(not(unix))]
pub(crate) fn restart_without_empty_postgres_variables() {}

/// Returns the environment without the empty variables of PostgreSQL, or `None` if there are none. The
/// first of several entries with one name counts, as in libc.
#[cfg(unix)]
fn without_empty_postgres_variables(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Option<BTreeMap<OsString, OsString>> {
    let mut first = BTreeMap::new();
    for (name, value) in variables {
        first.entry(name).or_insert(value);
    }
    let before = first.len();
    first.retain(|name, value| !value.is_empty() || !name.as_encoded_bytes().starts_with(b"PG"));
    (first.len() < before).then_some(first)
}

/// Returns whether a program is the dynamic loader, as in `ld.so svctok`. It would take the first
/// argument for the program.
#[cfg(unix)]
fn is_loader(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().as_encoded_bytes();
    [&b"ld-"[..], b"ld.so", b"ld64"]
        .iter()
        .any(|start| name.starts_with(start))
}

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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn remaining(variables: &[(&str, &str)]) -> Option<Vec<(OsString, OsString)>> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        without_empty_postgres_variables(variables).map(|remaining| remaining.into_iter().collect())
    }

    #[test]
    fn first_entry_of_a_name_counts() {
        let a = ("A", "1");
        for unchanged in [
            &[][..],
            &[a, ("PGUSER", "x")],
            &[a, ("B", ""), ("XPGUSER", "")],
            &[("PGUSER", "x"), ("PGUSER", "")],
        ] {
            assert_eq!(remaining(unchanged), None, "{unchanged:?}");
        }
        for (given, expected) in [
            (&[a, ("PGUSER", "")][..], &[a][..]),
            (&[("PGUSER", ""), ("PGUSER", "x"), a], &[a]),
            (
                &[
                    a,
                    ("A", "2"),
                    ("PGHOST", "x"),
                    ("PGHOST", ""),
                    ("PGUSER", ""),
                ],
                &[a, ("PGHOST", "x")],
            ),
        ] {
            let expected = expected
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            assert_eq!(remaining(given), Some(expected.collect()), "{given:?}");
        }
    }

    #[test]
    fn loaders_are_recognized() {
        for loader in [
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-musl-x86_64.so.1",
            "/usr/bin/ld.so",
        ] {
            assert!(is_loader(Path::new(loader)), "{loader}");
        }
        for program in ["/usr/bin/svctok", "/usr/bin/ldap-tokens", "svctok-ld"] {
            assert!(!is_loader(Path::new(program)), "{program}");
        }
    }
}
