//! Columns to and from domain values.

use std::fmt::Display;
use std::str::FromStr;

use dess_model::{ImageId, Timestamp, VersionRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;

/// One row of an answer.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    MariaDb(MySqlRow),
}

/// Reads the columns of one row by name.
pub(crate) struct Columns<'a>(pub(crate) &'a Row);

impl Columns<'_> {
    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.text_opt(column)?
            .ok_or_else(|| wrong(column, "nothing"))
    }

    pub(crate) fn text_opt(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.text_of(column)
    }

    /// As [`Columns::text_opt`], of a column that the database named.
    pub(crate) fn text_of(&self, column: &str) -> Result<Option<String>, StoreError> {
        match self.0 {
            Row::Sqlite(row) => row.try_get(column),
            Row::MariaDb(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }

    /// The number in a column that the database named.
    pub(crate) fn number_of(&self, column: &str) -> Result<Option<i64>, StoreError> {
        match self.0 {
            Row::Sqlite(row) => row.try_get(column),
            Row::MariaDb(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }

    /// A value with a textual form.
    pub(crate) fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        self.parsed_opt(column)?
            .ok_or_else(|| wrong(column, "nothing"))
    }

    pub(crate) fn parsed_opt<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.text_opt(column)?
            .map(|text| text.parse().map_err(|_| wrong(column, text)))
            .transpose()
    }

    /// A value kept as its serde name, e.g. `volatile`.
    pub(crate) fn named<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.named_opt(column)?
            .ok_or_else(|| wrong(column, "nothing"))
    }

    pub(crate) fn named_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.text_opt(column)?
            .map(|text| {
                serde_json::from_value(serde_json::Value::String(text.clone()))
                    .map_err(|_| wrong(column, text))
            })
            .transpose()
    }

    /// A value kept as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let text = self.text(column)?;
        serde_json::from_str(&text).map_err(|_| wrong(column, text))
    }

    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.number_opt(column)?
            .ok_or_else(|| wrong(column, "nothing"))
    }

    pub(crate) fn number_opt<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.number_of(column)?
            .map(|number| T::try_from(number).map_err(|_| wrong(column, number)))
            .transpose()
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.number::<i64>(column)? != 0)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.number(column).map(Timestamp)
    }

    pub(crate) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.number_opt(column)?.map(Timestamp))
    }

    /// The columns `image_id` and `version_number`.
    pub(crate) fn version_opt(&self) -> Result<Option<VersionRef>, StoreError> {
        let image: Option<ImageId> = self.parsed_opt("image_id")?;
        let number = self.number_opt("version_number")?;
        Ok(image
            .zip(number)
            .map(|(image, number)| VersionRef { image, number }))
    }
}

/// The serde name of a plain value, e.g. `volatile`.
pub(crate) fn name_of<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("only unit variants are stored by name, not {other:?}"),
    }
}

/// The JSON form of plain values.
pub(crate) fn json_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain values always have a JSON form")
}

pub(crate) fn text_of<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Counts of bytes and the like as the database keeps them; saturates far beyond real values.
pub(crate) fn count_of(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn wrong(column: &'static str, value: impl Display) -> StoreError {
    StoreError::Value {
        column,
        value: value.to_string(),
    }
}

fn unreadable(source: sqlx::Error) -> StoreError {
    StoreError::Query {
        action: "read a column",
        source,
    }
}
