use std::time::SystemTime;

use clap::Args;
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenStatus;

use super::value;

/// Conditions that tokens must meet.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filter")]
pub(crate) struct FilterArgs {
    /// Only tokens with this name
    #[arg(long)]
    name: Option<String>,
    /// Only tokens with this role
    #[arg(long)]
    role: Option<String>,
    /// Only tokens with exactly this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only tokens with this subject
    #[arg(long)]
    subject: Option<String>,
    /// Only tokens of this owner
    #[arg(long)]
    owner: Option<String>,
    /// Only tokens in this state: active, disabled, revoked or expired
    #[arg(long)]
    state: Option<TokenStatus>,
    /// Only tokens with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::label)]
    label: Option<(String, String)>,
    /// Only tokens that expire before a date, a time, or 30d from now
    #[arg(long, value_name = "TIME", value_parser = value::from_now)]
    expires_before: Option<SystemTime>,
    /// Only tokens not used since a date, a time, or 90d ago
    #[arg(long, value_name = "TIME", value_parser = value::ago)]
    last_used_before: Option<SystemTime>,
}

impl FilterArgs {
    pub(crate) fn into_filter(self) -> TokenFilter {
        let mut filter = TokenFilter::new();
        filter.name = self.name;
        filter.role = self.role;
        filter.scope = self.scope;
        filter.subject = self.subject;
        filter.owner = self.owner;
        filter.status = self.state;
        filter.label = self.label;
        filter.expires_before = self.expires_before;
        filter.last_used_before = self.last_used_before;
        filter
    }
}
