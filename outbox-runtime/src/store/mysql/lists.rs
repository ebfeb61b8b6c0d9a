//! Lists as parameters: MySQL has no arrays.

use sqlx::{Encode, MySql, QueryBuilder, Type};

/// Numbers for `json_table`: one parameter, however many there are. A statement that begins with
/// them searches each by an index, where `in (…)` may read the whole table.
pub(super) fn json(numbers: &[i64]) -> String {
    // A list of numbers always serializes.
    serde_json::to_string(numbers).unwrap_or_default()
}

/// Values after `in (`, and the end of it.
pub(super) fn push_list<'t, T>(query: &mut QueryBuilder<MySql>, values: impl IntoIterator<Item = T>)
where
    T: Encode<'t, MySql> + Type<MySql>,
{
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    query.push(")");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_parameter() {
        assert_eq!(json(&[]), "[]");
        assert_eq!(json(&[3, i64::MAX]), "[3,9223372036854775807]");
    }

    #[test]
    fn a_list_has_a_parameter_for_each_value() {
        let mut query = QueryBuilder::new("seq in (");
        push_list(&mut query, [1_i64, 2]);
        assert_eq!(query.sql(), "seq in (?, ?)");
    }
}
