use tower_service_token::lifecycle::NewToken;

use super::rotate::{Secret, show_secret};
use crate::args::{CreateArgs, FieldArgs, SecretFileArgs};
use crate::failure::Failure;
use crate::output::{Format, SecretFile};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: CreateArgs, output: Format) -> Result<(), Failure> {
    let file = args.file.open()?;
    let tokens = Tokens::open(&args.access, IfMissing::Create).await?;
    let created = async {
        let issued = tokens.create(new_token(args.name, args.fields)).await?;
        let secret = Secret {
            issued: &issued,
            action: "created",
        };
        show_secret(&secret, file, output)
    };
    let created = created.await;
    tokens.close().await;
    created
}

impl SecretFileArgs {
    /// Before there is a secret, so that none is made that cannot be kept.
    pub(super) fn open(&self) -> Result<Option<SecretFile>, Failure> {
        let path = self.output_file.as_deref();
        path.map(|path| SecretFile::open(path, self.force))
            .transpose()
    }
}

fn new_token(name: String, fields: FieldArgs) -> NewToken {
    let mut new = NewToken::new(name)
        .with_roles(names(fields.roles.unwrap_or_default()))
        .with_scopes(names(fields.scopes.unwrap_or_default()));
    if let Some(expiry) = fields.expiration.or(fields.expires_in) {
        new = new.with_expiry(expiry);
    }
    if let Some(start) = fields.not_before {
        new = new.with_not_before(start);
    }
    if let Some(description) = fields.description {
        new = new.with_description(description);
    }
    if let Some(subject) = fields.subject {
        new = new.with_subject(subject);
    }
    let labels = fields.labels.into_iter();
    labels.fold(new, |new, (key, value)| new.with_label(key, value))
}

/// What stands between commas, without spaces around it; `""` names nothing.
pub(super) fn names(texts: Vec<String>) -> impl Iterator<Item = String> {
    let names = texts.into_iter().map(|text| text.trim().to_owned());
    names.filter(|name| !name.is_empty())
}
