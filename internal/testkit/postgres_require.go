package testkit

import (
	"context"
	"sync"
	"testing"
	"time"
)

// sharedPostgres starts one server for all tests of a binary. It ends with the
// process: a count of users would stop and start it between tests that do not
// overlap.
var sharedPostgres = sync.OnceValues(func() (*PG, error) { return StartPostgres(context.Background()) })

// Postgres returns the URL of a new, empty database on a server that the tests
// of this binary share. The database is dropped at the test's end. Where no
// Postgres can be had it skips the test with the reason, or fails it under
// PORTCULLIS_REQUIRE_POSTGRES=1.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return testDatabase(tb, func(ctx context.Context, p *PG) (string, error) { return p.CreateDatabase(ctx) })
}

// PostgresFrom is Postgres, but the database is a copy of one that prepare has
// filled. prepare runs once in this binary for each name.
func PostgresFrom(tb testing.TB, name string, prepare func(url string) error) string {
	tb.Helper()
	return testDatabase(tb, func(ctx context.Context, p *PG) (string, error) { return p.CopyDatabase(ctx, name, prepare) })
}

func testDatabase(tb testing.TB, create func(context.Context, *PG) (string, error)) string {
	tb.Helper()
	requirePostgres(tb)
	p, err := sharedPostgres()
	if err != nil {
		tb.Fatal(err)
	}
	url, err := create(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.DropDatabase(ctx, url); err != nil {
			tb.Error(err)
		}
	})
	return url
}

// PostgresServer starts a server of the test's own, to be stopped, crashed and
// copied. It ends with the test, and its log is shown if the test failed.
func PostgresServer(tb testing.TB) *PG {
	tb.Helper()
	requirePostgres(tb)
	p, err := StartPostgres(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, p)
	return p
}

// PostgresReplica starts a streaming standby of p that ends with the test.
func PostgresReplica(tb testing.TB, p *PG) *PG {
	tb.Helper()
	r, err := p.Replica(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, r)
	return r
}

func closeAtEnd(tb testing.TB, p *PG) {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("postgres's log:\n%s", p.Log())
		}
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
}

func requirePostgres(tb testing.TB) {
	tb.Helper()
	if _, err := FindPostgres(); err != nil {
		Unavailable(tb, "PORTCULLIS_REQUIRE_POSTGRES", err)
	}
}
