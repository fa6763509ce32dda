use crate::args::AccessArgs;
use crate::context::{Context, ContextFile, Contexts};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::SecretText;
use crate::store_url::StoreUrl;

/// Where the tokens are.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Store(StoreUrl),
    Server {
        url: String,
        /// The token that was saved for this server, or stands in the environment.
        token: Option<SecretText>,
    },
}

/// What names a target: flags, or the environment.
#[derive(Clone, Copy)]
struct TargetOptions<'a> {
    url: &'a Option<String>,
    store: &'a Option<StoreUrl>,
    context: &'a Option<String>,
    /// What they are, to people.
    description: &'static str,
}

impl Target {
    /// What the flags name, else the environment, else the context in use.
    pub(crate) fn resolve(args: &AccessArgs) -> Result<Self, Failure> {
        Self::resolve_from(args, Environment::read()?, || ContextFile::locate().read())
    }

    fn resolve_from(
        args: &AccessArgs,
        environment: Environment,
        contexts: impl FnOnce() -> Result<Contexts, Failure>,
    ) -> Result<Self, Failure> {
        let flags = TargetOptions {
            url: &args.url,
            store: &args.store,
            context: &args.context,
            description: "--url, --store and --context",
        };
        let variables = TargetOptions {
            url: &environment.url,
            store: &environment.store,
            context: &environment.context,
            description: "SVCTOK_URL, SVCTOK_STORE and SVCTOK_CONTEXT",
        };
        let names = if flags.count() > 0 { flags } else { variables };
        if names.count() > 1 {
            let message = format!("of {}, only one can be meant", names.description);
            return Err(Failure::usage(message));
        }
        if let Some(store) = names.store {
            return Ok(Self::Store(store.clone()));
        }
        if let Some(url) = names.url {
            return Ok(Self::Server {
                url: url.clone(),
                token: environment.token,
            });
        }
        let contexts = contexts()?;
        if names.context.is_none() && contexts.current.is_none() {
            return Err(Failure::usage("it is not said where the tokens are")
                .with_hint("name a server by --url or a store by --store, or save a context: `svctok context save --help`"));
        }
        let (name, context) = contexts.named_or_current(names.context.clone())?;
        Self::from_context(&name, context, environment.token)
    }

    /// What a context names. A token saved in it is sent to its own server and to no other.
    pub(crate) fn from_context(
        name: &str,
        context: &Context,
        token: Option<SecretText>,
    ) -> Result<Self, Failure> {
        match (&context.url, &context.store) {
            (Some(url), None) => Ok(Self::Server {
                url: url.clone(),
                token: token.or_else(|| context.service_token.clone()),
            }),
            (None, Some(store)) => Ok(Self::Store(store.clone())),
            _ => Err(Failure::usage(format!(
                "the context {name} must name a url or a store"
            ))),
        }
    }
}

impl TargetOptions<'_> {
    fn count(&self) -> usize {
        let named = [
            self.url.is_some(),
            self.store.is_some(),
            self.context.is_some(),
        ];
        named.into_iter().filter(|is_named| *is_named).count()
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

    fn args(url: Option<&str>, store: Option<&str>, context: Option<&str>) -> AccessArgs {
        AccessArgs {
            url: url.map(str::to_owned),
            store: store.map(|text| text.parse().expect("a store")),
            context: context.map(str::to_owned),
            ..AccessArgs::default()
        }
    }

    /// The target and the token for it.
    fn resolve(
        flags: &AccessArgs,
        variables: AccessArgs,
        token: Option<&str>,
    ) -> Result<String, FailureKind> {
        let environment = Environment {
            url: variables.url,
            store: variables.store,
            context: variables.context,
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
