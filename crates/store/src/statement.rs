//! A statement with its parameters, for whichever database it is run on.

use std::borrow::Cow;

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Database, Encode, SqlSafeStr, SqlStr, Type};

/// Portable SQL with `?` for each parameter.
pub(crate) fn query(sql: &'static str) -> Statement {
    Statement {
        sql: SqlStr::from_static(sql),
        values: Vec::new(),
    }
}

/// SQL put together from our own texts and from names that the database itself gave for its tables
/// and columns; never from what anybody sent.
pub(crate) fn query_of(sql: String) -> Statement {
    Statement {
        sql: AssertSqlSafe(sql).into_sql_str(),
        values: Vec::new(),
    }
}

/// Removes the rows of a table whose `column` is one of `keys`; none if there are no keys.
pub(crate) fn delete_by(
    table: &'static str,
    column: &'static str,
    keys: Vec<String>,
) -> Option<Statement> {
    if keys.is_empty() {
        return None;
    }
    let places = vec!["?"; keys.len()].join(", ");
    let sql = format!("DELETE FROM {table} WHERE {column} IN ({places})");
    Some(keys.into_iter().fold(query_of(sql), Statement::bind))
}

/// SQL and the values of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    sql: SqlStr,
    values: Vec<Value>,
}

/// The two types of column that the schema uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Option<Cow<'static, str>>),
    Number(Option<i64>),
}

impl Statement {
    /// Gives the next parameter its value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// As the driver takes it.
    pub(crate) fn into_query<DB: Database>(self) -> Query<'static, DB, DB::Arguments>
    where
        Option<String>: Encode<'static, DB> + Type<DB>,
        Option<i64>: Encode<'static, DB> + Type<DB>,
    {
        self.values
            .into_iter()
            .fold(sqlx::query(self.sql), |query, value| match value {
                Value::Text(text) => query.bind(text.map(Cow::into_owned)),
                Value::Number(number) => query.bind(number),
            })
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}
