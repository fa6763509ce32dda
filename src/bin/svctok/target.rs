use crate::args::{AccessArgs, TargetArgs};
use crate::context::{Context, ContextFile, Contexts};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::SecretText;
use crate::store_url::StoreUrl;

/// The server or store that a command works on.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Store(StoreUrl),
    Server {
        url: String,
        /// The token from the environment or the context.
        token: Option<SecretText>,
    },
}

impl Target {
    /// Returns the target that the flags specify, else the environment, else the current context.
    pub(crate) fn resolve(args: &AccessArgs) -> Result<Self, Failure> {
        Self::resolve_from(&args.target, Environment::read()?, || {
            ContextFile::locate().read()
        })
    }

    fn resolve_from(
        flags: &TargetArgs,
        environment: Environment,
        contexts: impl FnOnce() -> Result<Contexts, Failure>,
    ) -> Result<Self, Failure> {
        let Environment { target, token } = environment;
        let (specified, names) = if flags.is_empty() {
            (&target, "SVCTOK_URL, SVCTOK_STORE and SVCTOK_CONTEXT")
        } else {
            (flags, "--url, --store and --context")
        };
        match (&specified.url, &specified.store, &specified.context) {
            (None, Some(store), None) => Ok(Self::Store(store.clone())),
            (Some(url), None, None) => Ok(Self::Server {
                url: url.clone(),
                token,
            }),
            (None, None, name) => {
                let contexts = contexts()?;
                if name.is_none() && contexts.current.is_none() {
                    return Err(Failure::usage("no server or store specified").with_hint(
                        "specify --url or --store, or save a context: `svctok context save --help`",
                    ));
                }
                let (name, context) = contexts.named_or_current(name.clone())?;
                Self::from_context(&name, context, token)
            }
            _ => Err(Failure::usage(format!("specify only one of {names}"))),
        }
    }

    /// Returns the target of a context. The token in a context is sent only to its own server.
    pub(crate) fn from_context(
        name: &str,
        context: &Context,
        token: Option<SecretText>,
    ) -> Result<Self, Failure> {
        match (&context.url, &context.store) {
            (Some(url), None) => Ok(Self::Server {
                url: url.clone(),
                token: token.or_else(|| {
                    let saved = context.service_token.clone();
                    saved.map(|saved| saved.with_source(format!("the context {name}")))
                }),
            }),
            (None, Some(store)) => Ok(Self::Store(store.clone())),
            _ => Err(Failure::usage(format!(
                "the context {name} must have a url or a store"
            ))),
        }
    }
}

impl TargetArgs {
    pub(crate) fn is_empty(&self) -> bool {
        self.url.is_none() && self.store.is_none() && self.context.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    const FILE: &str = r#"
        current = "a"
        contexts.a = { url = "http://a", service_token = "of-a" }
        contexts.b = { store = "sqlite:b" }
        contexts.c = { url = "http://c", store = "sqlite:c" }
    "#;

    fn args(url: Option<&str>, store: Option<&str>, context: Option<&str>) -> TargetArgs {
        TargetArgs {
            url: url.map(str::to_owned),
            store: store.map(|text| text.parse().expect("a store")),
            context: context.map(str::to_owned),
        }
    }

    /// Returns the target with its token as a text.
    fn resolve(
        flags: &TargetArgs,
        target: TargetArgs,
        token: Option<&str>,
    ) -> Result<String, FailureKind> {
        let environment = Environment {
            target,
            token: token.map(SecretText::new),
        };
        let contexts = || Ok(toml::from_str(FILE).expect("TOML"));
        let target = Target::resolve_from(flags, environment, contexts);
        target
            .map_err(|failure| failure.kind())
            .map(|target| match target {
                Target::Store(store) => store.to_string(),
                Target::Server { url, token } => {
                    let token = token.as_ref().map_or("none", SecretText::expose_secret);
                    format!("{url} {token}")
                }
            })
    }

    #[test]
    fn flags_take_precedence_over_environment_over_file() {
        let nothing = || args(None, None, None);
        let url = || args(Some("http://u"), None, None);
        let store = || args(None, Some("sqlite:s"), None);
        let context = |name| args(None, None, Some(name));
        for (flags, variables, token, expected) in [
            (url(), store(), None, "http://u none"),
            (url(), nothing(), Some("t"), "http://u t"),
            (store(), url(), Some("t"), "sqlite:s"),
            (context("a"), url(), None, "http://a of-a"),
            (nothing(), url(), None, "http://u none"),
            (nothing(), store(), None, "sqlite:s"),
            (nothing(), context("b"), None, "sqlite:b"),
            (nothing(), nothing(), None, "http://a of-a"),
            (nothing(), nothing(), Some("t"), "http://a t"),
        ] {
            assert_eq!(resolve(&flags, variables, token).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn zero_or_two_targets_are_usage_errors() {
        let nothing = || args(None, None, None);
        let both = || args(Some("http://u"), Some("sqlite:s"), None);
        for (flags, variables) in [
            (both(), nothing()),
            (nothing(), both()),
            (args(None, None, Some("c")), nothing()),
            (args(None, None, Some("d")), nothing()),
        ] {
            assert_eq!(resolve(&flags, variables, None), Err(FailureKind::Usage));
        }
    }
}
