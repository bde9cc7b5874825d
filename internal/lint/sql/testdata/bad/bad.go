// Package bad builds SQL from input in every way that must be found: the line of
// each call that does carries a comment that begins with want.
package bad

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type conn struct{ db *sql.DB }

func (c *conn) exec(ctx context.Context, query string) error {
	_, err := c.db.ExecContext(ctx, query)
	return err
}

type execer interface {
	exec(ctx context.Context, query string) error
}

type querier interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

type spec struct {
	where string
	Open  string
}

var pattern = "a"

var Exported = "SELECT 1"

func where(name string) string { return "WHERE x = '" + name + "'" }

func header() string { return os.Getenv("WHERE") }

func two() (string, error) { return "SELECT 1", nil }

func Concatenated(db *sql.DB, name string) {
	db.Query("SELECT a FROM t WHERE x = '" + name + "'")        // want
	db.Query("SELECT a FROM t WHERE x = '" + input(name) + "'") // want
}

func Variable(ctx context.Context, db *sql.DB) {
	name := os.Args[1]                                        // another package's variable
	db.ExecContext(ctx, "DELETE FROM t WHERE x = '"+name+"'") // want
	query := "SELECT a FROM t WHERE x = '"                    // until here constant
	query += name                                             // and here no more
	db.QueryRowContext(ctx, query+"'")                        // want
	db.Exec(fmt.Sprintf("DELETE FROM %s", name))              // want
	db.Exec("SELECT a FROM t " + where(name))                 // want
	db.Exec("SELECT a FROM t " + header())                    // want
	db.Exec(strings.Join([]string{"SELECT", name}, " "))      // want
	db.Exec([]string{"SELECT 1", name}[1])                    // want
	db.Exec(map[string]string{"a": name}["a"])                // want
	db.Exec(strings.ToUpper("select 1"))                      // want
	db.Exec(Exported)                                         // want
	db.Exec((&conn{}).text())                                 // want
	many, _ := two()                                          // several results
	db.Exec(many)                                             // want
	var b strings.Builder                                     // a builder
	b.WriteString(name)                                       //
	db.Exec(b.String())                                       // want
	var buffer bytes.Buffer                                   //
	db.Exec(buffer.String())                                  // want
	var scanned string                                        //
	fmt.Sscan(name, &scanned)                                 //
	db.Exec(scanned)                                          // want
	var s spec                                                //
	json.Unmarshal([]byte(name), &s)                          //
	db.Exec(s.Open)                                           // want
	s.where = name                                            //
	db.Exec("SELECT a FROM t WHERE " + s.where)               // want
	texts := []string{"SELECT 1"}                             //
	texts[0] = name                                           //
	for _, text := range texts {                              //
		db.Exec(text) // want
	}
	lists := map[string]bool{} //
	lists[name] = true         //
	for key := range lists {   //
		db.Exec("DROP TABLE " + key) // want
	}
	func(q string) { db.Exec(q) }(name) // want
	run := db.Exec                      // want
	run(name)
	switch v := any(name).(type) {
	case string:
		db.Exec(v) // want
	}
	channel := make(chan string, 1)
	received := <-channel
	db.Exec(received) // want
	pattern = name
	db.Exec(pattern) // want
}

func (c *conn) text() string {
	return *c.pointer()
}

func (c *conn) pointer() *string { return nil }

// Wrapped passes on what it is given, through a method, an interface and a library's
// interface.
func Wrapped(ctx context.Context, c *conn, e execer, q querier, name string) {
	c.exec(ctx, "SELECT '"+strings.TrimSpace(input(name))+"'") // want
	e.exec(ctx, "SELECT '"+input(name)+"'")                    // want
	q.Query("SELECT '" + input(name) + "'")                    // want
}

// Caller is told, not passed: the text is Caller's.
func passed(db *sql.DB, name string) { db.Exec("SELECT '" + name + "'") }

func Caller(db *sql.DB) { passed(db, os.Getenv("NAME")) } // want

func Exporting(db *sql.DB, query string) { db.Exec(query) } // want

func Handler() func(db *sql.DB, name string) { return passed } // want

func input(name string) string { return fmt.Sprint(name) }
