use super::session::Session;

const PROBE: &str = "UPDATE service_token_schema SET version = version";

/// Writes a row as it is: a server that is read-only, or whose disk is full, refuses it at the
/// latest when it is committed.
pub(super) async fn probe_write(session: &mut Session<'_>) -> Result<(), sqlx::Error> {
    session.execute(PROBE, &[]).await?;
    Ok(())
}
