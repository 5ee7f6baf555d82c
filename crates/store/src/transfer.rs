//! A whole site as text: taken out of one database and put into another.
//!
//! One JSON value per line: a head; for each table a line with its name, columns and number of
//! rows, followed by its rows as arrays; an end with the number of all rows, so that a file that
//! was cut off is known by it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::migration::known_version;
use crate::row::{Columns, Row};
use crate::schema::{ColumnKind, Schema, Table};
use crate::statement::{Statement, Value, query_of};
use crate::{Store, StoreError, Tx};

/// Says what the file is.
const FORMAT: &str = "dess-site";
/// Rows read at once.
const PAGE: u64 = 5_000;
/// Values in one statement (SQLite takes 32,766).
const VALUES_MAX: usize = 10_000;

/// Rows of each table that were carried over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Name and number of rows of each table.
    pub tables: Vec<(String, u64)>,
}

impl Transfer {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

/// Why a site was not carried over. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file cannot be read or written.
    #[error("cannot use the file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A line is not what should be there.
    #[error("line {line}: {reason}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file was made by a release with another schema.
    #[error(
        "the file has schema version {found}, this release has {known}; import it with the release \
         that made it, then update"
    )]
    Schema {
        /// Of the file.
        found: u32,
        /// Of this release.
        known: u32,
    },
    /// There is a site already.
    #[error(
        "the database is not empty ({table} has {rows} rows); replace its content with --replace"
    )]
    NotEmpty {
        /// A table that has rows.
        table: String,
        /// How many.
        rows: u64,
    },
    /// What arrived is not what was sent.
    #[error("{table}: {expected} rows were to be imported, {found} arrived")]
    Count {
        /// The table.
        table: String,
        /// As the file says.
        expected: u64,
        /// As the database says.
        found: u64,
    },
    /// Rows refer to others that are not there.
    #[error("{}", .0.join("; "))]
    References(Vec<String>),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    schema: u32,
    exported_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableHead {
    table: String,
    columns: Vec<String>,
    rows: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: u64,
}

impl Store {
    /// Writes the whole site into a new file that only its owner may read: it holds secrets. `at`
    /// is noted as the time of the export.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or the database cannot be read.
    pub async fn export(&self, path: &Path, at: Timestamp) -> Result<Transfer, TransferError> {
        let failed = |source| TransferError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut out = BufWriter::new(file);
        let written = self.export_to(&mut out, path, at).await;
        let synced = written.and_then(|transfer| {
            out.flush()
                .and_then(|()| out.get_ref().sync_all())
                .map_err(failed)?;
            Ok(transfer)
        });
        if synced.is_err() {
            // What is there is of no use; the first error counts.
            let _ = std::fs::remove_file(path);
        }
        synced
    }

    async fn export_to(
        &self,
        out: &mut (impl Write + Send),
        path: &Path,
        at: Timestamp,
    ) -> Result<Transfer, TransferError> {
        let mut write = |line: Json| {
            writeln!(out, "{line}").map_err(|source| TransferError::File {
                path: path.to_owned(),
                source,
            })
        };
        write(json_of(&Head {
            format: FORMAT.into(),
            schema: known_version(),
            exported_at: at.0,
        }))?;
        let mut tx = self.read().await?;
        let schema = tx.schema().await?;
        let mut transfer = Transfer::default();
        for table in &schema.tables {
            let rows = tx.row_count(&table.name).await?;
            write(json_of(&TableHead {
                table: table.name.clone(),
                columns: table.columns.iter().map(|c| c.name.clone()).collect(),
                rows,
            }))?;
            let mut done = 0;
            while done < rows {
                let page = tx.row_page(table, done).await?;
                if page.is_empty() {
                    break;
                }
                done += page.len() as u64;
                for row in page {
                    write(Json::Array(row))?;
                }
            }
            if done != rows {
                return Err(TransferError::Count {
                    table: table.name.clone(),
                    expected: rows,
                    found: done,
                });
            }
            transfer.tables.push((table.name.clone(), rows));
        }
        write(json_of(&End {
            end: transfer.rows(),
        }))?;
        Ok(transfer)
    }

    /// Puts a site from a file into this database, as a whole or not at all. With `replace` what
    /// is there goes first; without, nothing may be there.
    ///
    /// # Errors
    /// If the file is no whole export of this release, the database has rows, or what arrives does
    /// not fit together.
    pub async fn import(&self, path: &Path, replace: bool) -> Result<Transfer, TransferError> {
        self.transact(|tx| import(tx, path, replace)).await
    }
}

async fn import(mut tx: Tx, path: &Path, replace: bool) -> Result<Transfer, TransferError> {
    let mut lines = Lines::open(path)?;
    let head: Head = lines.expect("the head of an export")?;
    if head.format != FORMAT {
        return Err(lines.wrong("this is no export of a site"));
    }
    if head.schema != known_version() {
        return Err(TransferError::Schema {
            found: head.schema,
            known: known_version(),
        });
    }
    let schema = tx.schema().await?;
    make_room(&mut tx, &schema, replace).await?;
    let mut transfer = Transfer::default();
    for table in &schema.tables {
        let head: TableHead = lines.expect(&format!("the table {}", table.name))?;
        if head.table != table.name
            || !head
                .columns
                .iter()
                .eq(table.columns.iter().map(|c| &c.name))
        {
            return Err(lines.wrong(&format!(
                "{} does not have the name or the columns of {}",
                head.table, table.name
            )));
        }
        import_rows(&mut tx, &mut lines, table, head.rows).await?;
        let found = tx.row_count(&table.name).await?;
        if found != head.rows {
            return Err(TransferError::Count {
                table: table.name.clone(),
                expected: head.rows,
                found,
            });
        }
        transfer.tables.push((table.name.clone(), found));
    }
    let end: End = lines.expect("the end of the export")?;
    if end.end != transfer.rows() {
        return Err(lines.wrong("the file says another number of rows than it has"));
    }
    if lines.next()?.is_some() {
        return Err(lines.wrong("something follows the end"));
    }
    let dangling = tx.dangling(&schema).await?;
    if !dangling.is_empty() {
        return Err(TransferError::References(dangling));
    }
    Ok(transfer)
}

async fn make_room(tx: &mut Tx, schema: &Schema, replace: bool) -> Result<(), TransferError> {
    for table in schema.tables.iter().rev() {
        if replace {
            let delete = query_of(format!("DELETE FROM {}", table.name));
            tx.execute("remove what is to be replaced", delete).await?;
            continue;
        }
        let rows = tx.row_count(&table.name).await?;
        if rows > 0 {
            return Err(TransferError::NotEmpty {
                table: table.name.clone(),
                rows,
            });
        }
    }
    Ok(())
}

async fn import_rows(
    tx: &mut Tx,
    lines: &mut Lines,
    table: &Table,
    rows: u64,
) -> Result<(), TransferError> {
    let width = table.columns.len();
    let at_once = (VALUES_MAX / width.max(1)).max(1);
    let mut left = rows;
    while left > 0 {
        let count = left.min(at_once as u64);
        let mut values = Vec::new();
        for _ in 0..count {
            let row: Vec<Json> = lines.expect(&format!("a row of {}", table.name))?;
            if row.len() != width {
                return Err(lines.wrong(&format!("{} has {width} columns", table.name)));
            }
            for (column, value) in table.columns.iter().zip(row) {
                let value = value_of(&column.kind, value).ok_or_else(|| {
                    lines.wrong(&format!("{} of {} cannot be this", column.name, table.name))
                })?;
                values.push(value);
            }
        }
        insert(tx, table, values).await?;
        left -= count;
    }
    Ok(())
}

async fn insert(tx: &mut Tx, table: &Table, values: Vec<Value>) -> Result<(), StoreError> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let one = format!("({})", vec!["?"; names.len()].join(", "));
    let rows = vec![one.as_str(); values.len() / names.len()].join(", ");
    let sql = format!(
        "INSERT INTO {} ({}) VALUES {rows}",
        table.name,
        names.join(", ")
    );
    let statement = values.into_iter().fold(query_of(sql), Statement::bind);
    tx.execute("import rows", statement).await.map(drop)
}

impl Tx {
    /// Rows of a table.
    pub(crate) async fn row_count(&mut self, table: &str) -> Result<u64, StoreError> {
        let statement = query_of(format!("SELECT COUNT(*) AS found FROM {table}"));
        let row = self.fetch_optional("count rows", statement).await?;
        row.map_or(Ok(0), |row| Columns(&row).number("found"))
    }

    async fn row_page(&mut self, table: &Table, from: u64) -> Result<Vec<Vec<Json>>, StoreError> {
        let statement = query_of(format!(
            "SELECT * FROM {} ORDER BY {} LIMIT {PAGE} OFFSET {from}",
            table.name,
            table.key().join(", ")
        ));
        let rows = self.fetch_all("export rows", statement).await?;
        rows.iter().map(|row| values_of(table, row)).collect()
    }

    /// References to rows that are not there, in words.
    pub(crate) async fn dangling(&mut self, schema: &Schema) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for table in &schema.tables {
            for reference in &table.references {
                let (column, parent) = (&reference.column, &reference.table);
                let statement = query_of(format!(
                    "SELECT COUNT(*) AS found FROM {} child WHERE child.{column} IS NOT NULL AND \
                     NOT EXISTS (SELECT 1 FROM {parent} parent WHERE parent.{} = child.{column})",
                    table.name, reference.table_column
                ));
                let row = self.fetch_optional("check references", statement).await?;
                let count: u64 = row.map_or(Ok(0), |row| Columns(&row).number("found"))?;
                if count > 0 {
                    found.push(format!(
                        "{count} rows of {} name a {column} that is not in {parent}",
                        table.name
                    ));
                }
            }
        }
        Ok(found)
    }
}

fn values_of(table: &Table, row: &Row) -> Result<Vec<Json>, StoreError> {
    let row = Columns(row);
    table
        .columns
        .iter()
        .map(|column| match column.kind {
            ColumnKind::Number => Ok(row.number_of(&column.name)?.map_or(Json::Null, Json::from)),
            ColumnKind::Text(_) | ColumnKind::Other(_) => {
                Ok(row.text_of(&column.name)?.map_or(Json::Null, Json::from))
            }
        })
        .collect()
}

fn value_of(kind: &ColumnKind, value: Json) -> Option<Value> {
    match (kind, value) {
        (ColumnKind::Number, Json::Null) => Some(Value::Number(None)),
        (ColumnKind::Number, Json::Number(number)) => number.as_i64().map(Value::from),
        (ColumnKind::Text(_), Json::Null) => Some(Value::Text(None)),
        (ColumnKind::Text(_), Json::String(text)) => Some(Value::from(text)),
        _ => None,
    }
}

fn json_of<T: Serialize>(line: &T) -> Json {
    serde_json::to_value(line).expect("plain values always have a JSON form")
}

/// The lines of a file, counted.
struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, TransferError> {
        match File::open(path) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                input: BufReader::new(file),
                number: 0,
            }),
            Err(source) => Err(TransferError::File {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn next(&mut self) -> Result<Option<String>, TransferError> {
        let mut line = String::new();
        self.number += 1;
        match self.input.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line)),
            Err(source) => Err(TransferError::File {
                path: self.path.clone(),
                source,
            }),
        }
    }

    fn expect<T: for<'de> Deserialize<'de>>(&mut self, what: &str) -> Result<T, TransferError> {
        let Some(line) = self.next()? else {
            return Err(self.wrong(&format!("{what} is missing: the file was cut off")));
        };
        // The parser's own words would repeat the line, which may hold secrets.
        serde_json::from_str(&line).map_err(|_| self.wrong(&format!("this is not {what}")))
    }

    fn wrong(&self, reason: &str) -> TransferError {
        TransferError::Line {
            line: self.number,
            reason: reason.to_owned(),
        }
    }
}
