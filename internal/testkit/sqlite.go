package testkit

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver
)

// SQLite runs a statement on a SQLite file behind the back of whatever serves from
// it, as somebody with the file in hands could. It returns what the statement
// selects, which is one column of text.
func SQLite(ctx context.Context, path, statement string, args ...any) (out []string, err error) {
	db, err := sql.Open("sqlite", "file://"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", statement, err)
	}
	defer rows.Close()
	for rows.Next() {
		var cell sql.NullString
		if err := rows.Scan(&cell); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
		out = append(out, cell.String)
	}
	return out, rows.Err()
}
