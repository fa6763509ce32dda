use std::collections::BTreeMap;
use std::fmt;

use super::TokenRecord;

impl TokenRecord {
    /// Formats the fields of a record or a principal, without digests and data.
    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("id", &self.display_id())
            .field("name", &self.name())
            .field("subject", &self.subject())
            .field("owner", &self.owner())
            .field("roles", self.roles())
            .field("scopes", self.scopes())
            .field("expires_at", &self.expires_at())
            .field("labels", &self.labels().collect::<BTreeMap<_, _>>())
            .finish()
    }
}

impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("TokenRecord", f)
    }
}
