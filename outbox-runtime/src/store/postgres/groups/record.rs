//! The witness: a row that is on disk only if all that was visible in our windows is, too.

use sqlx::PgConnection;

use super::PgGroup;
use crate::error::OutboxError;
use crate::store::postgres::fragments::fill;

/// Its own id, which is above all that our windows have seen: they were opened before, on the same
/// server. Inserted, never updated, since it is written as often as windows are opened (see
/// `lanes/lease.rs`). The claim is locked, so that nobody has claimed the group when this commits.
const WITNESS: &str = "\
insert into {witness} (claim, xid)
select g.claim, pg_current_xact_id() from {group} g where g.grp = $1 and g.claim = $2 for share of g
returning xid::text";

/// Writes a witness, and returns it. `None`: the claim is not ours any more.
pub(super) async fn witness(
    connection: &mut PgConnection,
    of: &PgGroup,
) -> Result<Option<u64>, OutboxError> {
    let witness: Option<String> = sqlx::query_scalar(fill(&of.names, WITNESS))
        .bind(of.group)
        .bind(of.claim)
        .fetch_optional(connection)
        .await?;
    Ok(witness.and_then(|xid| xid.parse().ok()))
}
