//! Rows that are read by the names of their columns.

/// A struct whose fields are the columns of a row, by their names. On every database: what the
/// stores read alike, they read by one struct.
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite", feature = "mysql")),
    allow(unused_macros)
)]
macro_rules! row {
    ($(
        $(#[$attribute:meta])*
        $vis:vis struct $Row:ident {
            $($(#[$doc:meta])* $field:ident: $Type:ty),* $(,)?
        }
    )*) => {$(
        $(#[$attribute])*
        $vis struct $Row {
            $($(#[$doc])* $vis $field: $Type),*
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $Row
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($Type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),* })
            }
        }
    )*};
}
pub(crate) use row;
