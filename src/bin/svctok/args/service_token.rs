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
    /// A token file (--store file:PATH) keeps no time of its creation, change or use, and not who
    /// created it.
    Create(CreateArgs),
    /// Delete a service token
    ///
    /// Revokes the token: it is refused for good. With a filter in place of an ID, revokes all
    /// tokens that match. Preview them with --dry-run, then confirm their number with --expect.
    ///
    /// If more than 20 tokens are deleted, a terminal shows their number alone; -o json shows the IDs.
    Delete(DeleteArgs),
    /// Disable a service token
    ///
    /// It is refused until it is enabled again.
    Disable(DisableArgs),
    /// Enable a service token that was disabled
    Enable(EnableArgs),
    /// Show a service token
    #[command(mut_arg("id", or_self))]
    Get(GetArgs),
    /// List service tokens
    List(ListArgs),
    /// Issue a new secret for a service token
    ///
    /// If the response was lost, rotate again. With the previous secret of the token itself this
    /// works until its grace ends, and needs --if-revision. Such a rotation ends the current
    /// secret, which was lost, and keeps the previous one for at most the rest of its grace.
    ///
    /// A rotation of `self` changes no file or context that holds the token: write the new secret
    /// there with --output-file or `svctok context save`.
    #[command(mut_arg("id", or_self))]
    Rotate(RotateArgs),
    /// Update a service token
    ///
    /// What is not named stays as it is.
    Update(UpdateArgs),
}

/// What an ID is where `self` takes the place of one.
const ID_OR_SELF: &str = "The ID of the service token: ten letters and digits, its decimal number, \
                          or `self` for the token that the server is called with";

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
    pub(crate) file: SecretFileArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    /// Another name
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) fields: FieldArgs,
    /// Removes the expiration date
    #[arg(long, conflicts_with_all = ["expiration", "expires_in"])]
    pub(crate) no_expiration: bool,
    /// Removes the description
    #[arg(long, conflicts_with = "description")]
    pub(crate) no_description: bool,
    /// Removes the subject
    #[arg(long, conflicts_with = "subject")]
    pub(crate) no_subject: bool,
    /// Removes the start
    #[arg(long, conflicts_with = "not_before")]
    pub(crate) no_not_before: bool,
    /// Removes a label; may be given several times
    #[arg(long = "no-label", value_name = "KEY")]
    pub(crate) removed_labels: Vec<String>,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) last_admin: LastAdminArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// What people choose of a token, but for its name.
#[derive(Debug, Args)]
pub(crate) struct FieldArgs {
    /// A comma separated list of roles to assign to the service token
    #[arg(long, alias = "role", value_delimiter = ',')]
    pub(crate) roles: Option<Vec<String>>,
    /// A comma separated list of scopes to assign to the service token
    #[arg(long, alias = "scope", value_delimiter = ',')]
    pub(crate) scopes: Option<Vec<String>>,
    /// The expiration date of the service token, the format is yyyy-MM-dd; it works through the end
    /// of that day, UTC. A time such as 2027-01-31T12:00:00Z is possible too
    #[arg(long, value_name = "DATE", value_parser = value::expiration)]
    pub(crate) expiration: Option<Expiry>,
    /// The time until it expires, such as 30d, 12h or P30D
    #[arg(long, value_name = "DURATION", value_parser = value::expires_in)]
    #[arg(conflicts_with = "expiration")]
    pub(crate) expires_in: Option<Expiry>,
    /// When it starts working: a date or a time
    #[arg(long, value_name = "TIME", value_parser = value::date_or_timestamp)]
    pub(crate) not_before: Option<SystemTime>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Whom it acts for
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
}

impl FieldArgs {
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            roles,
            scopes,
            expiration,
            expires_in,
            not_before,
            description,
            subject,
            labels,
        } = self;
        let is_named = [
            roles.is_some(),
            scopes.is_some(),
            expiration.is_some(),
            expires_in.is_some(),
            not_before.is_some(),
            description.is_some(),
            subject.is_some(),
            !labels.is_empty(),
        ];
        !is_named.contains(&true)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    /// How long the secret from before works on, such as 1h; in a token file it cannot
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "0s")]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) file: SecretFileArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Those that were deleted, too
    #[arg(long)]
    pub(crate) all: bool,
    /// At most this many [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[arg(value_name = "ID", conflicts_with = "id_flag", help = ID_OR_SELF)]
    pub(crate) id: Option<String>,
    /// The ID, as a flag
    #[arg(id = "id_flag", long = "id", value_name = "ID")]
    pub(crate) id_flag: Option<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Every token, in place of a filter
    #[arg(long)]
    pub(crate) all_tokens: bool,
    /// Show how many tokens match and up to 100 of them, and delete none
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many tokens match; if the number differs, none is deleted
    #[arg(long, value_name = "NUMBER", conflicts_with = "dry_run")]
    pub(crate) expect: Option<usize>,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) last_admin: LastAdminArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) last_admin: LastAdminArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    #[command(flatten)]
    pub(crate) revision: RevisionArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RevisionArgs {
    /// Change the token only if it is at this revision, as shown by `svctok get`, or by `svctok get
    /// self` for the token that the server is called with
    #[arg(long, value_name = "NUMBER")]
    pub(crate) if_revision: Option<u64>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LastAdminArgs {
    /// Confirm that no token may administer tokens afterwards
    #[arg(long = "last-admin")]
    pub(crate) is_confirmed: bool,
}

/// A token, and how it is reached.
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
    #[arg(
        value_name = "ID",
        required_unless_present = "id_flag",
        conflicts_with = "id_flag"
    )]
    pub(crate) id: Option<String>,
    /// The ID, as a flag
    #[arg(id = "id_flag", long = "id", value_name = "ID")]
    pub(crate) id_flag: Option<String>,
}

/// Where a new secret goes.
#[derive(Debug, Args)]
pub(crate) struct SecretFileArgs {
    /// Writes the secret to a file that only its owner can read, and not to stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Replaces the file if it is there
    #[arg(long, requires = "output_file")]
    pub(crate) force: bool,
}
