package main

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

// postgresCommands are what scripts on Postgres know beside the others' commands.
// superURL is the script's database, as its superuser.
func postgresCommands(superURL string) map[string]func(*testscript.TestScript, bool, []string) {
	commands := scriptCommands()
	// sql STATEMENT: the superuser runs it.
	commands["sql"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: sql STATEMENT")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, superURL)
		ts.Check(err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, args[0])
		ts.Check(err)
	}
	// user NAME: whom the programs that follow log in as.
	commands["user"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: user NAME")
		}
		ts.Setenv("AUTH_DATABASE_URL", strings.Replace(superURL, "postgres://postgres@", "postgres://"+args[0]+"@", 1))
	}
	return commands
}
