//! The servers and stores that this tool knows by name.

mod file;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer};

pub(crate) use self::file::ContextFile;
use crate::failure::Failure;
use crate::secret::SecretText;
use crate::store_url::StoreUrl;

/// A server and the token for it, or a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: Option<String>,
    pub(crate) service_token: Option<SecretText>,
    #[serde(default, deserialize_with = "store")]
    pub(crate) store: Option<StoreUrl>,
}

/// All contexts, and which of them is used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = match names.as_slice() {
                [] => "there is none yet: `svctok context save` makes one".to_owned(),
                names => format!("there are: {}", names.join(", ")),
            };
            Failure::usage(format!("there is no context {name}")).with_hint(hint)
        })
    }

    /// The context of this name, or else the one in use; with its name.
    pub(crate) fn named_or_current(
        &self,
        name: Option<String>,
    ) -> Result<(String, &Context), Failure> {
        let name = name.or_else(|| self.current.clone()).ok_or_else(|| {
            Failure::usage("no context is in use")
                .with_hint("name one, or use one from now on by `svctok context set NAME`")
        })?;
        let context = self.get(&name)?;
        Ok((name, context))
    }
}

/// Whether a context may have this name: it stands in a file without quotes.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(is_good)
}

fn store<'de, D: Deserializer<'de>>(from: D) -> Result<Option<StoreUrl>, D::Error> {
    let text = String::deserialize(from)?;
    StoreUrl::from_str(&text)
        .map(Some)
        .map_err(de::Error::custom)
}
