// Package good runs constants alone, in every way that the check follows.
package good

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

const columns = `id, name`

const byName = `SELECT ` + columns + ` FROM t WHERE name = ?`

const limit = 10

type table struct {
	name string
	read string
}

var tables = []table{
	{"a", `SELECT ` + columns + ` FROM a`},
	{name: "b", read: `SELECT ` + columns + ` FROM b`},
}

type conn struct{ db *sql.DB }

// exec passes its query on, so its callers are held to constants.
func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	_, err := c.db.ExecContext(ctx, query, args...)
	return err
}

type tx struct{ *conn }

type dialect interface{ text(expr string) string }

type one struct{}

func (one) text(expr string) string { return "CAST(" + expr + " AS TEXT)" }

func quote(name string) string { return `"` + name + `"` }

func Run(ctx context.Context, db *sql.DB, d dialect, name string, newest bool) error {
	t := &tx{&conn{db}}
	if err := t.exec(ctx, byName, name); err != nil { // input is a parameter
		return err
	}
	order := ` ORDER BY id`
	if newest {
		order += ` DESC`
	}
	query := byName + order + " LIMIT " + strconv.Itoa(limit)
	if _, err := db.QueryContext(ctx, query, name); err != nil {
		return err
	}
	var names []string
	for _, t := range tables {
		if _, err := db.Query(t.read); err != nil {
			return err
		}
		names = append(names, quote(t.name))
	}
	var where string
	for column, sign := range map[string]string{"a": "=", "b": "<"} {
		where += column + sign + "? AND "
	}
	db.QueryRow("SELECT " + d.text("id") + " FROM " + strings.Join(names, ", ") + " WHERE " + where + "1")
	_, err := db.Prepare(string(query))
	return err
}
