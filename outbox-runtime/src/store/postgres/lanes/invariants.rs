//! What must hold for windows and cursors: asserted by the running code in debug builds, and by the
//! model in every state (`protocol_model/lanes.rs`).

/// The number and the transaction id that were drawn when a snapshot was taken.
pub(in crate::store::postgres) type Drawn = (i64, u64);

/// A later window begins where the earlier one ended, and reaches at least as far.
pub(in crate::store::postgres) fn windows_connect(
    (floor, horizon): Drawn,
    (later_floor, later_horizon): Drawn,
) -> bool {
    floor <= later_floor && horizon < later_horizon
}

/// Rows are read above the cursor, each after the one before it.
pub(in crate::store::postgres) fn in_order(
    last_seq: i64,
    mut seqs: impl Iterator<Item = i64>,
) -> bool {
    seqs.try_fold(last_seq, |last, seq| (seq > last).then_some(seq)).is_some()
}
