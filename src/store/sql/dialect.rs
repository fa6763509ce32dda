/// The statements that differ between the databases.
pub(super) struct Dialect {
    /// Selects the records of a JSON array of IDs, and locks them in that order where several
    /// transactions write at a time.
    pub(super) get_and_lock: &'static str,
    /// Inserts a JSON array of attributes of the token `$1`, created at `$2`.
    pub(super) insert_attributes: &'static str,
    /// Revokes the tokens of a JSON array of pairs of ID and time. Their reserved names are free
    /// again.
    pub(super) revoke_many: &'static str,
    /// Moves last uses forward, given as a JSON array of pairs of ID and time.
    pub(super) touch: &'static str,
    /// Appends a JSON array of rows to the audit trail.
    pub(super) append_events: &'static str,
    /// Deletes the oldest events before `$1`, `$2` at most, and returns a row for each.
    pub(super) prune_events: &'static str,
    /// Notifies other processes of a JSON array of changes when the transaction is committed.
    pub(super) notify: &'static str,
    /// Deletes old notifications, if they are rows.
    pub(super) prune_notifications: Option<&'static str>,
    /// Takes the advisory lock `$1` until the transaction ends, if several transactions write at a
    /// time.
    pub(super) lock: Option<&'static str>,
    /// Whether the planner knows which index is more selective.
    pub(super) has_statistics: bool,
    /// Whether a text can contain the character U+0000.
    pub(super) allows_nul: bool,
    /// The prefix of a statement whose plan is wanted, and the column of the plan.
    pub(super) explain: (&'static str, &'static str),
    /// Returns a row if the table `service_token_schema` exists.
    pub(super) has_schema: &'static str,
    /// One script per schema version.
    pub(super) migrations: &'static [&'static str],
}
