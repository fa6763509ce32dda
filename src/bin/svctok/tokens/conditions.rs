/// The conditions under which a command changes tokens.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conditions {
    pub(crate) if_missing: IfMissing,
    /// The revision that the token must have.
    pub(crate) if_revision: Option<u64>,
    /// Whether changes may leave no token that can administer tokens.
    pub(crate) allow_last_admin_removal: bool,
}

/// What to do if a store does not exist.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    #[default]
    Fail,
}
