//! The tables as the database itself describes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Engine;
use crate::migration::OWN_TABLES;
use crate::row::Columns;
use crate::statement::query;
use crate::{StoreError, Tx};

/// The tables of the site, those that others refer to first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) references: BTreeSet<Reference>,
    /// Indexes: whether their values are unique, and their columns in order.
    pub(crate) indexes: BTreeSet<(bool, Vec<String>)>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
    /// False if it may hold nothing.
    pub(crate) required: bool,
    /// As SQL.
    pub(crate) default: Option<String>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// Text of at most so many characters; none: any text.
    Text(Option<u32>),
    /// 64 bits with a sign.
    Number,
    /// None of the types that the schema is made of.
    Other(String),
}

/// A column whose values are those of another table's column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) column: String,
    pub(crate) table: String,
    pub(crate) table_column: String,
}

impl Table {
    /// Columns that name a row: those of the first unique index.
    pub(crate) fn key(&self) -> Vec<String> {
        let unique = self.indexes.iter().find(|(unique, _)| *unique);
        unique.map_or_else(
            || {
                self.columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect()
            },
            |(_, columns)| columns.clone(),
        )
    }
}

const SQLITE_COLUMNS: &str = "\
    SELECT m.name AS table_name, p.name AS column_name, lower(p.type) AS column_type, \
    p.\"notnull\" AS required, p.dflt_value AS column_default \
    FROM sqlite_master m JOIN pragma_table_info(m.name) p \
    WHERE m.type = 'table' ORDER BY m.name, p.cid";
const SQLITE_REFERENCES: &str = "\
    SELECT m.name AS table_name, f.\"from\" AS column_name, f.\"table\" AS parent_table, \
    f.\"to\" AS parent_column FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f \
    WHERE m.type = 'table'";
const SQLITE_INDEXES: &str = "\
    SELECT m.name AS table_name, l.name AS index_name, l.\"unique\" AS is_unique, \
    i.name AS column_name FROM sqlite_master m JOIN pragma_index_list(m.name) l \
    JOIN pragma_index_info(l.name) i WHERE m.type = 'table' ORDER BY m.name, l.name, i.seqno";
const MARIADB_COLUMNS: &str = "\
    SELECT table_name AS table_name, column_name AS column_name, column_type AS column_type, \
    CASE is_nullable WHEN 'NO' THEN 1 ELSE 0 END AS required, column_default AS column_default \
    FROM information_schema.columns WHERE table_schema = DATABASE() \
    ORDER BY table_name, ordinal_position";
const MARIADB_REFERENCES: &str = "\
    SELECT table_name AS table_name, column_name AS column_name, \
    referenced_table_name AS parent_table, referenced_column_name AS parent_column \
    FROM information_schema.key_column_usage \
    WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL";
const MARIADB_INDEXES: &str = "\
    SELECT table_name AS table_name, index_name AS index_name, \
    1 - non_unique AS is_unique, column_name AS column_name FROM information_schema.statistics \
    WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index";

impl Tx {
    /// The tables of the site.
    pub(crate) async fn schema(&mut self) -> Result<Schema, StoreError> {
        let (columns, references, indexes) = match self.engine() {
            Engine::Sqlite(_) => (SQLITE_COLUMNS, SQLITE_REFERENCES, SQLITE_INDEXES),
            Engine::MariaDb(_) => (MARIADB_COLUMNS, MARIADB_REFERENCES, MARIADB_INDEXES),
        };
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        for row in self.fetch_all("list the columns", query(columns)).await? {
            let row = Columns(&row);
            let name = row.text("table_name")?;
            if OWN_TABLES.contains(&name.as_str()) || name.starts_with("sqlite_") {
                continue;
            }
            let table = tables.entry(name.clone()).or_default();
            table.name = name;
            table.columns.push(Column {
                name: row.text("column_name")?,
                kind: kind_of(&row.text("column_type")?),
                required: row.flag("required")?,
                // MariaDB writes it so for columns that may hold nothing and have no other.
                default: row
                    .text_opt("column_default")?
                    .filter(|default| default != "NULL"),
            });
        }
        for row in self
            .fetch_all("list the references", query(references))
            .await?
        {
            let row = Columns(&row);
            if let Some(table) = tables.get_mut(&row.text("table_name")?) {
                table.references.insert(Reference {
                    column: row.text("column_name")?,
                    table: row.text("parent_table")?,
                    table_column: row.text("parent_column")?,
                });
            }
        }
        let mut keys: BTreeMap<(String, String), (bool, Vec<String>)> = BTreeMap::new();
        for row in self.fetch_all("list the indexes", query(indexes)).await? {
            let row = Columns(&row);
            let name = (row.text("table_name")?, row.text("index_name")?);
            let unique = row.flag("is_unique")?;
            let key = keys.entry(name).or_insert((unique, Vec::new()));
            key.1.push(row.text("column_name")?);
        }
        for ((table, _), key) in keys {
            if let Some(table) = tables.get_mut(&table) {
                table.indexes.insert(key);
            }
        }
        Ok(Schema {
            tables: in_order(tables),
        })
    }
}

/// Those that others refer to first. (A circle ends it: its tables come last, by name.)
fn in_order(mut tables: BTreeMap<String, Table>) -> Vec<Table> {
    let mut ordered: Vec<Table> = Vec::new();
    loop {
        let ready = tables.iter().find(|(_, table)| {
            let mut others = table.references.iter().map(|reference| &reference.table);
            others.all(|other| *other == table.name || !tables.contains_key(other))
        });
        let Some(name) = ready.map(|(name, _)| name.clone()) else {
            break;
        };
        ordered.extend(tables.remove(&name));
    }
    ordered.extend(tables.into_values());
    ordered
}

fn kind_of(written: &str) -> ColumnKind {
    let (base, length) = written.split_once('(').unwrap_or((written, ""));
    match base {
        "bigint" => ColumnKind::Number,
        "text" | "mediumtext" => ColumnKind::Text(None),
        "varchar" => ColumnKind::Text(length.trim_end_matches(')').parse().ok()),
        _ => ColumnKind::Other(written.to_owned()),
    }
}
