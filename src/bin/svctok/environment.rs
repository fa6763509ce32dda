//! What the environment says. A variable that is empty says nothing.

use std::env;
use std::ffi::OsString;

use crate::failure::Failure;
use crate::secret::SecretText;
use crate::store_url::StoreUrl;

/// Where the tokens are, and with what token they are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) url: Option<String>,
    pub(crate) store: Option<StoreUrl>,
    pub(crate) context: Option<String>,
    pub(crate) token: Option<SecretText>,
}

impl Environment {
    pub(crate) fn read() -> Result<Self, Failure> {
        let store = variable("SVCTOK_STORE")?.map(|text| text.parse::<StoreUrl>());
        let store = store.transpose();
        Ok(Self {
            url: variable("SVCTOK_URL")?,
            // The value may hold a password.
            store: store.map_err(|error| Failure::usage(format!("SVCTOK_STORE: {error}")))?,
            context: variable("SVCTOK_CONTEXT")?,
            token: variable("SVCTOK_TOKEN")?.map(SecretText::new),
        })
    }
}

/// The variable as the system has it.
pub(crate) fn variable_os(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn variable(name: &str) -> Result<Option<String>, Failure> {
    let value = variable_os(name).map(OsString::into_string).transpose();
    value.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))
}

/// Who is at work, for the audit trail.
pub(crate) fn user() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(variable_os);
    let user = user.and_then(|user| user.into_string().ok());
    let is_name = |user: &String| user.len() <= 100 && !user.contains(char::is_control);
    user.filter(is_name)
        .unwrap_or_else(|| "operator".to_owned())
}
