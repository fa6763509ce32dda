use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Arg, Args, Subcommand};
use tower_service_token::lifecycle::Expiry;

use super::{AccessArgs, FilterArgs, value};

#[derive(Debug, Args)]
pub(crate) struct ServiceTokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a service token
    ///
    /// A token file (--store file:PATH) records neither who created a token nor the times of its
    /// creation, changes and use.
    Create(CreateArgs),
    /// Delete a service token
    ///
    /// Revokes the token for good. With a filter instead of an ID, revokes all tokens that match.
    /// Preview them with --dry-run, then confirm their number with --expect.
    ///
    /// If more than 20 tokens are deleted, a terminal shows only their number; -o json shows the IDs.
    #[command(mut_arg("id", |id| or_self(id).conflicts_with_all(BULK_FLAGS)))]
    #[command(mut_arg("id_flag", |id| id.conflicts_with_all(BULK_FLAGS)))]
    Delete(DeleteArgs),
    /// Disable a service token
    ///
    /// The token is rejected until it is enabled again.
    #[command(mut_arg("id", required))]
    Disable(DisableArgs),
    /// Enable a service token that was disabled
    #[command(mut_arg("id", required))]
    Enable(ChangeArgs),
    /// Show a service token
    #[command(mut_arg("id", |id| or_self(required(id))))]
    Get(GetArgs),
    /// List service tokens
    List(ListArgs),
    /// Issue a new secret for a service token
    ///
    /// If the response was lost, rotate again. A client that authenticates with the previous secret
    /// of the same token can do so until the grace period ends, and needs --if-revision. Such a
    /// rotation ends the lost secret, and keeps the previous one for at most the rest of its grace
    /// period.
    ///
    /// A rotation of `self` changes no file or context that contains the token: write the new secret
    /// there with --output-file or `svctok context save`.
    #[command(mut_arg("id", |id| or_self(required(id))))]
    Rotate(RotateArgs),
    /// Update a service token
    ///
    /// Fields without a flag stay as they are.
    #[command(mut_arg("id", required))]
    Update(UpdateArgs),
}

/// The help of an ID that may be `self`.
const ID_OR_SELF: &str = "The ID of the service token: ten letters and digits, its decimal number, \
                          or `self` for the token that authenticates the request";

fn required(id: Arg) -> Arg {
    id.required_unless_present("id_flag")
}

fn or_self(id: Arg) -> Arg {
    id.help(ID_OR_SELF)
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The name of the service token
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) fields: FieldArgs,
    #[command(flatten)]
    pub(crate) expiry: ExpiryArgs,
    #[command(flatten)]
    pub(crate) file: SecretFileArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) fields: UpdateFieldArgs,
    #[command(flatten)]
    pub(crate) expiry: ExpiryArgs,
    /// Allow the change even if no valid token can administer tokens afterwards
    #[arg(long)]
    pub(crate) last_admin: bool,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// The changes of an update, besides the expiry.
#[derive(Debug, Default, PartialEq, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct UpdateFieldArgs {
    /// The new name
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) fields: FieldArgs,
    /// Remove the expiration date
    #[arg(long, conflicts_with_all = ["expiration", "expires_in"])]
    pub(crate) no_expiration: bool,
    /// Remove the description
    #[arg(long, conflicts_with = "description")]
    pub(crate) no_description: bool,
    /// Remove the subject
    #[arg(long, conflicts_with = "subject")]
    pub(crate) no_subject: bool,
    /// Remove the owner, so that the token can manage tokens of every owner
    #[arg(long, conflicts_with = "owner")]
    pub(crate) no_owner: bool,
    /// Remove the start time
    #[arg(long, conflicts_with = "not_before")]
    pub(crate) no_not_before: bool,
    /// Remove a label; can be repeated
    #[arg(long = "no-label", value_name = "KEY")]
    pub(crate) removed_labels: Vec<String>,
}

/// The fields of a token besides its name and expiry.
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct FieldArgs {
    /// A comma separated list of roles to assign to the service token
    #[arg(long, alias = "role", value_delimiter = ',')]
    pub(crate) roles: Option<Vec<String>>,
    /// A comma separated list of scopes to assign to the service token
    #[arg(long, alias = "scope", value_delimiter = ',')]
    pub(crate) scopes: Option<Vec<String>>,
    /// The date or time from which the token is valid
    #[arg(long, value_name = "TIME", value_parser = value::date_or_timestamp)]
    pub(crate) not_before: Option<SystemTime>,
    /// The purpose of the token
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The user or service that the token acts for
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// The user or team that manages the token
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// A label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ExpiryArgs {
    /// The expiration date of the service token, in the format yyyy-MM-dd. The token is valid through
    /// the end of that day, UTC. A time such as 2027-01-31T12:00:00Z is accepted too
    #[arg(long, value_name = "DATE", value_parser = value::expiration)]
    pub(crate) expiration: Option<Expiry>,
    /// The time until the token expires, such as 30d, 12h or P30D
    #[arg(long, value_name = "DURATION", value_parser = value::expires_in)]
    #[arg(conflicts_with = "expiration")]
    pub(crate) expires_in: Option<Expiry>,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// How long the previous secret stays valid, such as 1h. Token files do not support it
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "0s")]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) file: SecretFileArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Include deleted tokens, and show the state of each
    #[arg(long)]
    pub(crate) all: bool,
    /// The maximum number of tokens [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// The flags of a bulk deletion.
const BULK_FLAGS: [&str; 4] = ["FilterArgs", "all_tokens", "dry_run", "expect"];

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Delete every token; cannot be combined with a filter
    #[arg(long, conflicts_with = "FilterArgs")]
    pub(crate) all_tokens: bool,
    /// Show how many tokens match and up to 100 of them, without deleting any
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The number of tokens that match; if it differs, no token is deleted
    #[arg(long, value_name = "NUMBER", conflicts_with = "dry_run")]
    pub(crate) expect: Option<usize>,
    /// Allow the change even if no valid token can administer tokens afterwards
    #[arg(long)]
    pub(crate) last_admin: bool,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArgs {
    /// Allow the change even if no valid token can administer tokens afterwards
    #[arg(long)]
    pub(crate) last_admin: bool,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// The change of one token.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevisionArgs {
    /// Change the token only if it is at this revision, as shown by `svctok get`, or by `svctok get
    /// self` for the token that authenticates the request
    #[arg(long, value_name = "NUMBER")]
    pub(crate) if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The ID of the service token: ten letters and digits, or its decimal number
    #[arg(value_name = "ID", conflicts_with = "id_flag")]
    pub(crate) id: Option<String>,
    /// The same as the argument
    #[arg(id = "id_flag", long = "id", value_name = "ID", hide = true)]
    pub(crate) id_flag: Option<String>,
}

/// The destination of a new secret.
#[derive(Debug, Args)]
pub(crate) struct SecretFileArgs {
    /// Write the secret to a file that only its owner can read, instead of stdout; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "output_file")]
    pub(crate) force: bool,
}
