use std::time::SystemTime;

/// What a server says of an active token, as far as anything here depends on it.
///
/// What is absent or `null` is `None`, and so is an empty name.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) subject: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) name: Option<String>,
    pub(super) token_type: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) jti: Option<String>,
    pub(super) audience: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) not_before: Option<SystemTime>,
    pub(super) issued_at: Option<SystemTime>,
    /// Whether the token is bound to a key that its bearer must prove to have.
    pub(super) is_bound: bool,
}

impl Claims {
    /// About how many bytes an answer takes in memory: its texts twice, for they stand in its
    /// record as well.
    pub(super) fn weight(&self) -> u64 {
        const FIXED: usize = 1_024;
        let of = |texts: &[String]| texts.iter().map(|it| it.len() + 24).sum::<usize>();
        let single = [&self.subject, &self.client_id, &self.username, &self.name];
        let more = [&self.token_type, &self.issuer, &self.jti];
        let single = single.into_iter().chain(more).flatten().map(String::len);
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| key.len() + value.len() + 48);
        let lists = of(&self.audience) + of(&self.scopes) + of(&self.roles);
        let texts = single.sum::<usize>() + lists + labels.sum::<usize>();
        (FIXED + 2 * texts) as u64
    }
}
