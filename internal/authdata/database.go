package authdata

import (
	"context"
	"iter"
	"strconv"
	"strings"
)

// database is one read transaction in one of the two databases. Its queries are
// written for both; every value comes as text.
type database interface {
	// catalog returns the columns of those tables of Auth's that are there.
	catalog(ctx context.Context) (catalog, error)

	// table is a table's name as a query has it.
	table(name string) string

	// text is an expression whose value is the column's first maxText+1 bytes or
	// characters as text, and NULL for NULL.
	text(column string) string

	// booleans are the words for true and false, as text gives them.
	booleans() (yes, no []string)

	// binary sorts text by its bytes.
	binary() string

	// rows runs a query with the parameters $1, $2 and so on. The values of a row are
	// good until the next one. Queries may nest.
	rows(ctx context.Context, query string, args ...any) iter.Seq2[[]*string, error]

	close() error
}

// column is an expression of a query and the name of its value.
type column struct {
	name string
	expr string // a column as "m.user"
}

// cols makes columns of one table's alias.
func cols(alias string, names ...string) []column {
	out := make([]column, len(names))
	for i, name := range names {
		out[i] = column{name, quote(alias, name)}
	}
	return out
}

// quote is alias."name": user and timestamp are words of SQL.
func quote(alias, name string) string { return alias + `."` + name + `"` }

// list is the columns of a SELECT.
func list(db database, columns []column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = db.text(c.expr)
	}
	return strings.Join(parts, ", ")
}

// notFalse keeps the rows whose boolean is true or is none at all: that is for
// fields.boolean to say. NULL is false to Auth.
func notFalse(db database, expr string) string {
	_, no := db.booleans()
	return db.text(expr) + " NOT IN ('" + strings.Join(no, "', '") + "')" // NULL NOT IN is not true
}

// one reads a query's single number.
func one(ctx context.Context, db database, query string, args ...any) (int64, error) {
	var n int64
	for row, err := range db.rows(ctx, query, args...) {
		if err != nil {
			return 0, err
		}
		if row[0] != nil {
			if n, err = strconv.ParseInt(*row[0], 10, 64); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}
