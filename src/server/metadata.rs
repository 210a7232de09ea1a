//! What there is: catalogs, schemas, tables, keys, types, and what the server can do.
//!
//! A dataset below a root is a schema, `climate/2003/tas.nc`, and its tables are those of its variables.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, Nullable, Searchable, SqlInfo,
    SqlSupportedTransaction, XdbcDataType,
};
use datafusion::common::{Constraint, TableReference};
use datafusion::datasource::TableType;
use tonic::Status;

use super::access::{Principal, Roots};
use super::rows::plain;
use super::status::{of, status};
use crate::catalog::provider::{is_dataset_name, provider};
use crate::catalog::{Opened, tables};
use crate::error::Error;
use crate::session::Session;

/// Most datasets that are listed, and how deep folders are looked into.
const DATASETS: usize = 5000;
const DEPTH: usize = 8;

/// The catalog that everything is in.
pub(super) const CATALOG: &str = "datafusion";

/// A schema and its tables, as somebody sees it.
pub(super) struct Listed<'a> {
    session: &'a Session,
    roots: Arc<Roots>,
}

impl<'a> Listed<'a> {
    pub(super) fn new(session: &'a Session, principal: &Principal) -> Self {
        Self {
            session,
            roots: principal.roots(),
        }
    }

    /// The schemas of the session, and those that are datasets.
    async fn schemas(&self, pattern: Option<&str>) -> Result<Vec<String>, Status> {
        let is_wanted = |name: &String| pattern.is_none_or(|pattern| like(pattern, name));
        let own = self.session.context().catalog(CATALOG);
        let mut names = own.map(|own| own.schema_names()).unwrap_or_default();
        if !names.iter().any(|name| name == "information_schema") {
            names.push("information_schema".to_owned());
        }
        for (root, location) in self.roots.all() {
            // Nothing below it can match.
            let start = pattern.map(|pattern| pattern.split(['%', '_', '\\']).next().unwrap_or(""));
            if let Some(start) = start
                && !start.starts_with(root)
                && !root.starts_with(start)
            {
                continue;
            }
            names.extend(self.datasets(root, &location).await?);
        }
        names.retain(is_wanted);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The datasets below a root, `root/path`, sorted.
    async fn datasets(&self, root: &str, location: &str) -> Result<Vec<String>, Status> {
        if is_dataset_name(location) {
            return Ok(vec![root.to_owned()]);
        }
        let store = self
            .session
            .catalog()
            .store(location)
            .map_err(|error| of(&error))?;
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match store.list(&folder).await {
                Ok(entries) => entries,
                // What may not be listed is not there for who asks.
                Err(Error::Io { .. } | Error::NotFound(_) | Error::Unsupported(_)) => continue,
                Err(error) => return Err(of(&error)),
            };
            for entry in entries {
                let name = entry.key.rsplit('/').next().unwrap_or(&entry.key);
                if name.starts_with('.') {
                    continue;
                }
                if is_dataset_name(name) {
                    found.push(format!("{root}/{}", entry.key));
                    if found.len() >= DATASETS {
                        return Ok(found);
                    }
                } else if entry.is_directory && depth < DEPTH {
                    folders.push((entry.key, depth + 1));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) async fn db_schemas(
        &self,
        command: CommandGetDbSchemas,
    ) -> Result<RecordBatch, Status> {
        let names = self
            .schemas(command.db_schema_filter_pattern.as_deref())
            .await?;
        let mut builder = command.into_builder();
        for name in names {
            builder.append(CATALOG, name);
        }
        builder.build().map_err(Status::from)
    }

    pub(super) async fn tables(&self, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let schemas = self
            .schemas(command.db_schema_filter_pattern.as_deref())
            .await?;
        let pattern = command.table_name_filter_pattern.clone();
        let is_wanted = |name: &str| pattern.as_deref().is_none_or(|pattern| like(pattern, name));
        let with_schema = command.include_schema;
        let mut builder = command.into_builder();
        let nothing = Schema::empty();
        for schema in schemas {
            if schema.contains('/') || self.roots.all().any(|(root, _)| root == schema) {
                // A dataset that cannot be opened has no tables; asking for one tells why.
                let Ok(opened) = self.session.open(&schema).await else {
                    continue;
                };
                for table in tables::tables(&opened) {
                    if !is_wanted(&table.name) {
                        continue;
                    }
                    let columns = match with_schema {
                        true => self.columns(&opened, table).await,
                        false => None,
                    };
                    let columns = columns.as_deref().unwrap_or(&nothing);
                    builder.append(CATALOG, &schema, &table.name, "TABLE", columns)?;
                }
                continue;
            }
            let own = self.session.context().catalog(CATALOG);
            let Some(provider) = own.and_then(|own| own.schema(&schema)) else {
                continue;
            };
            for name in provider.table_names() {
                if !is_wanted(&name) {
                    continue;
                }
                let Ok(Some(table)) = provider.table(&name).await else {
                    continue;
                };
                let columns = plain(&table.schema());
                let columns = if with_schema {
                    columns.as_ref()
                } else {
                    &nothing
                };
                let kind = match table.table_type() {
                    TableType::View => "VIEW",
                    TableType::Base | TableType::Temporary => "TABLE",
                };
                builder.append(CATALOG, &schema, &name, kind, columns)?;
            }
        }
        builder.build().map_err(Status::from)
    }

    async fn columns(&self, opened: &Arc<Opened>, table: &tables::TableParts) -> Option<SchemaRef> {
        let table = provider(self.session.catalog(), opened, table).await.ok()?;
        Some(plain(&table.schema()))
    }

    pub(super) async fn primary_keys(
        &self,
        command: CommandGetPrimaryKeys,
    ) -> Result<RecordBatch, Status> {
        let name = match (&command.db_schema, &command.table) {
            (Some(schema), table) if !schema.is_empty() => {
                TableReference::full(CATALOG, schema.as_str(), table.as_str())
            }
            (_, table) => TableReference::bare(table.as_str()),
        };
        let table = self.session.context().table_provider(name).await;
        let table = table.map_err(|error| status(&error))?;
        let constraints = table.constraints().cloned().unwrap_or_default();
        let key = constraints.iter().find_map(|constraint| match constraint {
            Constraint::PrimaryKey(columns) => Some(columns.clone()),
            _ => None,
        });
        let schema = table.schema();
        let columns: Vec<String> = key
            .unwrap_or_default()
            .into_iter()
            .filter_map(|column| Some(schema.fields().get(column)?.name().clone()))
            .collect();
        let count = columns.len();
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
        let places = (1..).take(count);
        let arrays: Vec<ArrayRef> = vec![
            same(CATALOG),
            same(command.db_schema.as_deref().unwrap_or("public")),
            same(&command.table),
            Arc::new(StringArray::from(columns)),
            Arc::new(StringArray::from(vec![None::<&str>; count])),
            Arc::new(Int32Array::from_iter_values(places)),
        ];
        RecordBatch::try_new(primary_keys_schema(), arrays)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// The columns of an answer about primary keys.
pub(super) fn primary_keys_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// That there are no foreign keys.
pub(super) fn no_foreign_keys() -> RecordBatch {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let rule = |name| Field::new(name, DataType::UInt8, false);
    let schema = Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        rule("update_rule"),
        rule("delete_rule"),
    ]);
    RecordBatch::new_empty(Arc::new(schema))
}

/// Whether a text is like a pattern, in which `%` stands for any text, `_` for any character, and `\` for that what follows
/// stands for itself.
fn like(pattern: &str, text: &str) -> bool {
    let (text, pattern) = (
        StringArray::new_scalar(text),
        StringArray::new_scalar(pattern),
    );
    arrow::compute::like(&text, &pattern).is_ok_and(|is_like| is_like.true_count() == 1)
}

/// What the server says about itself.
pub(super) static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "hyperslab");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::Transaction as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, true);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    // Names that are not quoted become lower case; quoted ones stay.
    info.append(SqlInfo::SqlIdentifierCase, 3i32);
    info.append(SqlInfo::SqlQuotedIdentifierCase, 1i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, 0i32);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    info.append(
        SqlInfo::SqlKeywords,
        words("COPY EXCLUDE FILTER OVERWRITE QUALIFY REPLACE ROLLBACK STORED VACUUM VERSION"),
    );
    info.append(
        SqlInfo::SqlNumericFunctions,
        words("abs acos asin atan atan2 ceil cos cot degrees exp floor ln log log10 mod pi power radians random round sign sin sqrt tan trunc"),
    );
    info.append(
        SqlInfo::SqlStringFunctions,
        words("ascii btrim chr concat concat_ws initcap left length lower lpad ltrim md5 repeat replace reverse right rpad rtrim split_part strpos substr translate trim upper"),
    );
    info.append(
        SqlInfo::SqlSystemFunctions,
        words("coalesce nullif version"),
    );
    info.append(
        SqlInfo::SqlDatetimeFunctions,
        words("current_date current_time date_bin date_part date_trunc day dayofyear hour minute month now season to_timestamp year"),
    );
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlSchemaTerm, "dataset");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(SqlInfo::SqlTransactionsSupported, true);
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
    built(info.build())
});

/// The types of columns.
pub(super) static TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    use XdbcDataType::{
        XdbcBigint, XdbcBit, XdbcDate, XdbcDouble, XdbcInteger, XdbcReal, XdbcSmallint,
        XdbcTimestamp, XdbcTinyint, XdbcVarbinary, XdbcVarchar,
    };
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size, quote, unsigned, radix) in [
        ("BOOLEAN", XdbcBit, Some(1), None, None, None),
        ("TINYINT", XdbcTinyint, Some(8), None, Some(false), Some(2)),
        (
            "SMALLINT",
            XdbcSmallint,
            Some(16),
            None,
            Some(false),
            Some(2),
        ),
        ("INTEGER", XdbcInteger, Some(32), None, Some(false), Some(2)),
        ("BIGINT", XdbcBigint, Some(64), None, Some(false), Some(2)),
        ("REAL", XdbcReal, Some(24), None, Some(false), Some(2)),
        ("DOUBLE", XdbcDouble, Some(53), None, Some(false), Some(2)),
        ("VARCHAR", XdbcVarchar, None, Some("'"), None, None),
        ("BYTEA", XdbcVarbinary, None, Some("'"), None, None),
        ("DATE", XdbcDate, Some(10), Some("'"), None, None),
        ("TIMESTAMP", XdbcTimestamp, Some(26), Some("'"), None, None),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: size,
            literal_prefix: quote.map(str::to_owned),
            literal_suffix: quote.map(str::to_owned),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: data_type == XdbcVarchar,
            searchable: Searchable::Full,
            unsigned_attribute: unsigned,
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: data_type,
            datetime_subcode: None,
            num_prec_radix: radix,
            interval_precision: None,
        });
    }
    built(types.build())
});

/// What was put together of constants above.
#[expect(
    clippy::expect_used,
    reason = "it depends on constants only, and is built by a test"
)]
fn built<T, E: std::fmt::Debug>(built: Result<T, E>) -> T {
    built.expect("constants fit each other")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn constants_fit_each_other() {
        assert!(SQL_INFO.record_batch([0, 1, 8]).unwrap().num_rows() == 3);
        assert!(TYPES.record_batch(None).unwrap().num_rows() == 11);
        assert_eq!(no_foreign_keys().num_columns(), 13);
    }

    #[test]
    fn patterns_are_those_of_sql() {
        for (pattern, text, expected) in [
            ("%", "", true),
            ("%", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("a%c", "abxc", true),
            ("%b%", "abc", true),
            ("b%", "abc", false),
            ("", "", true),
            ("", "a", false),
            ("ä%", "äb", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
