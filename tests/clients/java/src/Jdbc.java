import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** What a Java service does with the server, by the JDBC driver of the Arrow project: URL, user, password. */
public final class Jdbc {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("user", args[1]);
        properties.put("password", args[2]);
        try (Connection connection = DriverManager.getConnection(args[0], properties)) {
            statements(connection);
            parameters(connection);
            updates(connection);
            metadata(connection);
        }
        properties.put("password", "wrong");
        try (Connection connection = DriverManager.getConnection(args[0], properties)) {
            throw new AssertionError("a wrong password is let in");
        } catch (SQLException expected) {
            check(expected.getMessage().contains("wrong"), expected.getMessage());
        }
        System.out.println("ok");
    }

    private static void statements(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            try (ResultSet rows = statement.executeQuery(
                    "SELECT time, lat, tas, CASE WHEN lat > 80 THEN tas END AS polar FROM 'data/tas.nc' "
                            + "WHERE lon = 0 AND time < '2002-01-02' ORDER BY lat")) {
                int count = 0;
                while (rows.next()) {
                    Timestamp time = rows.getTimestamp("time");
                    check(time.toString().startsWith("2002-01-01 12:00"), "time " + time);
                    double lat = rows.getDouble("lat");
                    check(rows.getFloat("tas") > 200, "tas");
                    rows.getFloat("polar");
                    check(rows.wasNull() == (lat <= 80), "NULL at " + lat);
                    count++;
                }
                check(count == 16, "rows " + count);
            }
            try (ResultSet rows = statement.executeQuery("SELECT * FROM 'data/tas.nc'")) {
                int count = 0;
                while (rows.next()) {
                    count++;
                }
                check(count == 1095 * 16 * 24, "all rows " + count);
            }
            try {
                statement.executeQuery("SELECT nothing FROM 'data/tas.nc'");
                throw new AssertionError("no such column");
            } catch (SQLException expected) {
                check(expected.getMessage().contains("nothing"), expected.getMessage());
            }
        }
    }

    private static void parameters(Connection connection) throws SQLException {
        String sql = "SELECT count(*) FROM 'data/tas.nc' WHERE lat > ? AND month(time) = ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int month = 1; month <= 2; month++) {
                statement.setDouble(1, 0);
                statement.setInt(2, month);
                try (ResultSet rows = statement.executeQuery()) {
                    check(rows.next(), "no row");
                    long expected = 8L * 24 * 3 * (month == 1 ? 31 : 28);
                    check(rows.getLong(1) == expected, "count " + rows.getLong(1));
                }
            }
        }
    }

    private static void updates(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            long copied = statement.executeLargeUpdate(
                    "COPY (SELECT time, lat, lon, tas FROM 'data/tas.nc' WHERE year(time) = 2002) TO 'data/java.zarr'");
            check(copied == 365 * 16 * 24, "copied " + copied);
            statement.execute("CREATE TABLE names (id BIGINT, name VARCHAR)");
        }
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO names VALUES (?, ?)")) {
            for (int id = 1; id <= 3; id++) {
                insert.setLong(1, id);
                insert.setString(2, id == 2 ? null : "name " + id);
                insert.addBatch();
            }
            insert.executeBatch();
        }
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT count(*), count(name), max(name) FROM names")) {
            check(rows.next() && rows.getLong(1) == 3 && rows.getLong(2) == 2, "batch");
            check(rows.getString(3).equals("name 3"), rows.getString(3));
        }
    }

    private static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        check(metadata.getDatabaseProductName().equals("hyperslab"), metadata.getDatabaseProductName());
        check(metadata.getIdentifierQuoteString().equals("\""), "quote");
        check(!metadata.isReadOnly() && metadata.supportsTransactions(), "transactions");
        check(list(metadata.getCatalogs(), "TABLE_CAT").contains("datafusion"), "catalogs");
        check(list(metadata.getSchemas(), "TABLE_SCHEM").contains("data/tas.nc"), "schemas");
        List<String> tables = list(metadata.getTables(null, "data/tas.nc", "%", null), "TABLE_NAME");
        check(tables.contains("tas") && tables.contains("pr"), tables.toString());
        List<String> columns = list(metadata.getColumns(null, "data/tas.nc", "tas", "%"), "COLUMN_NAME");
        check(columns.containsAll(List.of("time", "lat", "lon", "tas")), columns.toString());
        List<String> keys = list(metadata.getPrimaryKeys(null, "data/tas.nc", "tas"), "COLUMN_NAME");
        check(keys.equals(List.of("time", "lat", "lon")), keys.toString());
        check(list(metadata.getTableTypes(), "TABLE_TYPE").contains("TABLE"), "table types");
        // The driver answers this one itself, with nothing.
        list(metadata.getTypeInfo(), "TYPE_NAME");
        check(list(metadata.getImportedKeys(null, "data/tas.nc", "tas"), "PKTABLE_NAME").isEmpty(), "keys");
        check(list(metadata.getExportedKeys(null, "data/tas.nc", "tas"), "PKTABLE_NAME").isEmpty(), "keys");
        for (String text : new String[] {
            metadata.getSQLKeywords(), metadata.getNumericFunctions(), metadata.getStringFunctions(),
            metadata.getSystemFunctions(), metadata.getTimeDateFunctions(), metadata.getSearchStringEscape(),
            metadata.getExtraNameCharacters(), metadata.getSchemaTerm(), metadata.getCatalogTerm(),
            metadata.getDatabaseProductVersion(), metadata.getDriverVersion()
        }) {
            check(text != null, "a text is missing");
        }
    }

    private static List<String> list(ResultSet rows, String column) throws SQLException {
        List<String> values = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                values.add(rows.getString(column));
            }
        }
        return values;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
