use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::failure::Failure;
use crate::secret::{SecretText, redact_secrets};
use crate::store_url::StoreUrl;

/// A server and the token for it, or a store.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: Option<String>,
    #[serde(serialize_with = "expose_token")]
    pub(crate) service_token: Option<SecretText>,
    #[serde(default, deserialize_with = "store", serialize_with = "expose_store")]
    pub(crate) store: Option<StoreUrl>,
}

/// All contexts, and the name of the current one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = match names.as_slice() {
                [] => "`svctok context save` creates one".to_owned(),
                names => redact_secrets(&format!("available contexts: {}", names.join(", "))),
            };
            // The name may be a token, pasted by mistake.
            let message = redact_secrets(&format!("no such context: {name}"));
            Failure::usage(message).with_hint(hint)
        })
    }

    /// Returns the context of this name, or else the current one, with its name.
    pub(crate) fn named_or_current(
        &self,
        name: Option<String>,
    ) -> Result<(String, &Context), Failure> {
        let name = name.or_else(|| self.current.clone()).ok_or_else(|| {
            Failure::usage("there is no current context")
                .with_hint("specify a context, or set one with `svctok context set NAME`")
        })?;
        let context = self.get(&name)?;
        Ok((name, context))
    }
}

/// Returns whether a context may have this name.
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

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn expose_store<S: Serializer>(store: &Option<StoreUrl>, to: S) -> Result<S::Ok, S::Error> {
    store.as_ref().map(StoreUrl::expose_secret).serialize(to)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn expose_token<S: Serializer>(token: &Option<SecretText>, to: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(SecretText::expose_secret).serialize(to)
}
