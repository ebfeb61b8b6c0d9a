//! The counter from which the table of events takes its numbers.

use sqlx::{MySqlConnection, Row as _};

use super::statement;
use crate::store::names::Names;

/// The last number that was drawn for an event, also if its transaction was rolled back or its row
/// is gone; 0 if none was. It is not asked of `information_schema`, which may be a day old.
pub(super) async fn last_drawn(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<i64, sqlx::Error> {
    let shown = sqlx::query(statement(names, "show create table {event}"));
    let table: String = shown.fetch_one(connection).await?.try_get(1)?;
    Ok(last_drawn_of(&table))
}

/// The next number is told among the table's options, after its columns, unless it is the first.
fn last_drawn_of(table: &str) -> i64 {
    let options = table.rsplit_once("\n)").map_or("", |(_, options)| options);
    let next = options.split_once("AUTO_INCREMENT=").map_or("", |(_, next)| next);
    let digits = next.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<i64>().map_or(0, |next| next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_the_one_before_the_next_of_the_table() {
        let columns = "CREATE TABLE `outbox_event` (\n  `seq` bigint NOT NULL AUTO_INCREMENT,\n  KEY `seq` (`seq`)\n)";
        assert_eq!(last_drawn_of(&format!("{columns} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")), 0);
        let used = format!("{columns} ENGINE=InnoDB AUTO_INCREMENT=43 DEFAULT CHARSET=utf8mb4");
        assert_eq!(last_drawn_of(&used), 42);
    }

    #[test]
    fn a_prefix_that_reads_like_an_option_is_none() {
        let odd = "CREATE TABLE `AUTO_INCREMENT=9\n_event` (\n  `seq` bigint\n) ENGINE=InnoDB";
        assert_eq!(last_drawn_of(odd), 0);
    }
}
