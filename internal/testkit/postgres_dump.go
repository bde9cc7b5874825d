package testkit

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
)

// PostgresDump is what pg_dump writes of the database of a URL.
func PostgresDump(tb testing.TB, databaseURL string) []byte {
	tb.Helper()
	bin, err := FindPostgres()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), filepath.Join(bin, "pg_dump"), "--dbname="+databaseURL)
	cmd.Env = serverEnv(tb.TempDir())
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("pg_dump: %v", err)
	}
	return out
}
