package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"portcullis/internal/store"
	"portcullis/policy"
)

// wire is the connections of a store under test: it counts what is sent, and
// can cut a connection at a commit.
type wire struct {
	writes atomic.Int64 // messages or pipelines sent
	dials  atomic.Int64
	refuse atomic.Bool // no new connections

	// cut, where it is set, ends the next connection that sends a commit: before
	// the server gets it, or before its answer comes back.
	cut atomic.Int32
}

const (
	cutNever int32 = iota
	cutBeforeCommit
	cutAfterCommit
)

var errRefused = errors.New("refused by the test")

func (w *wire) open(t *testing.T, url string) *Store {
	t.Helper()
	cfg := Config{URL: url}
	pool, err := cfg.pool()
	if err != nil {
		t.Fatal(err)
	}
	dial := pool.ConnConfig.DialFunc
	pool.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if w.refuse.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errRefused}
		}
		w.dials.Add(1)
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wireConn{Conn: conn, w: w}, nil
	}
	st, err := open(t.Context(), cfg, pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() }) // its error is nil, always
	return st
}

type wireConn struct {
	net.Conn
	w    *wire
	deaf atomic.Bool // answers are lost
}

func (c *wireConn) Write(p []byte) (int, error) {
	c.w.writes.Add(1)
	if bytes.Contains(bytes.ToLower(p), []byte("commit\x00")) && !bytes.Contains(p, []byte("READ ONLY")) {
		switch c.w.cut.Swap(cutNever) {
		case cutBeforeCommit:
			c.Conn.Close()
		case cutAfterCommit:
			c.deaf.Store(true)
			n, err := c.Conn.Write(p)
			time.Sleep(200 * time.Millisecond) // the server works meanwhile
			c.Conn.Close()
			return n, err
		}
	}
	return c.Conn.Write(p)
}

func (c *wireConn) Read(p []byte) (int, error) {
	if c.deaf.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(p)
}

// written is what the database holds of a role: how often its creation was
// audited, and how many revisions there are.
func written(t *testing.T, url, role string) (audited int, head int64) {
	t.Helper()
	err := connect(t, url).QueryRow(t.Context(), `SELECT (SELECT count(*) FROM portcullis.audit WHERE resource = $1), (SELECT number FROM portcullis.revision)`,
		store.RoleResource(role)).Scan(&audited, &head)
	if err != nil {
		t.Fatal(err)
	}
	return audited, head
}

func TestACommitWhoseConnectionBreaksIsMadeOnce(t *testing.T) {
	for name, cut := range map[string]int32{"before the server gets it": cutBeforeCommit, "before its answer": cutAfterCommit} {
		t.Run(name, func(t *testing.T) {
			url := migrated(t)
			w := &wire{}
			st := w.open(t, url)
			before := putRole(t, st, "viewer")
			w.cut.Store(cut)
			result := putRole(t, st, "editor")
			if w.cut.Load() != cutNever {
				t.Fatal("no connection was cut")
			}
			audited, head := written(t, url, "editor")
			if audited != 1 || head != before.Revision.Number+1 || result.Revision.Number != head || result.Outcome != store.OutcomeDone {
				t.Errorf("audited %d times at head %d, answered %+v; want once, done, at %d", audited, head, result, before.Revision.Number+1)
			}
			if now, err := st.Head(t.Context()); err != nil || now.Revision != result.Revision {
				t.Errorf("the head is %+v, error %v; the write was answered %+v", now.Revision, err, result.Revision)
			}
		})
	}
}

// Where nobody can tell whether the commit was made, the error says so, and the
// write is not made twice.
func TestACommitOfUnknownOutcomeIsAnError(t *testing.T) {
	url := migrated(t)
	w := &wire{}
	st := w.open(t, url)
	before := putRole(t, st, "viewer")
	w.cut.Store(cutAfterCommit)
	go func() {
		for w.cut.Load() != cutNever {
			time.Sleep(time.Millisecond)
		}
		w.refuse.Store(true)
	}()
	_, err := st.PutRole(t.Context(), by, tenantIDPast(t, url), "editor", nil)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("cannot be told")) {
		t.Fatalf("got %v, want an error that says that the outcome cannot be told", err)
	}
	if audited, head := written(t, url, "editor"); audited != 1 || head != before.Revision.Number+1 {
		t.Errorf("audited %d times at head %d, want once at %d", audited, head, before.Revision.Number+1)
	}
}

// tenantIDPast is tenant default's, read past the store.
func tenantIDPast(t *testing.T, url string) (id store.TenantID) {
	t.Helper()
	if err := connect(t, url).QueryRow(t.Context(), `SELECT id FROM portcullis.tenants WHERE name = 'default'`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAMissCostsOneRoundTrip(t *testing.T) {
	w := &wire{}
	st := w.open(t, migrated(t))
	tenant := tenantID(t, st)
	at := putRole(t, st, "editor").Revision
	putRole(t, st, "viewer")
	for name, read := range map[string]func() error{
		"Grant": func() error { _, err := st.Grant(t.Context(), tenant, policy.KindUser, "alice"); return err },
		"Key":   func() error { _, err := st.Key(t.Context(), store.Digest{1}); return err },
		"Roles": func() error { _, err := st.Roles(t.Context(), tenant); return err },
		"Head":  func() error { _, err := st.Head(t.Context()); return err },
		"Delta": func() error { _, err := st.Delta(t.Context(), at, []store.TenantID{tenant}); return err },
	} {
		if err := read(); err != nil { // prepares the statement
			t.Fatal(err)
		}
		// A connection that was idle for a second is pinged first.
		best := int64(1000)
		for range 3 {
			before := w.writes.Load()
			if err := read(); err != nil {
				t.Fatal(err)
			}
			best = min(best, w.writes.Load()-before)
		}
		if best != 1 {
			t.Errorf("%s took %d round trips, want 1", name, best)
		}
	}
}

func TestDeadConnectionsInThePoolAreNoErrors(t *testing.T) {
	url := migrated(t)
	w := &wire{}
	st := w.open(t, url)
	tenant := tenantID(t, st)
	kill := func() {
		execSQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	for name, call := range map[string]func() error{
		"read":     func() error { _, err := st.Head(t.Context()); return err },
		"snapshot": func() error { _, err := st.Delta(t.Context(), store.Revision{}, nil); return noUnknown(err) },
		"base":     func() error { _, err := st.Bootstrap(t.Context(), func(store.Digest) error { return nil }); return err },
		"write":    func() error { _, err := st.PutRole(t.Context(), by, tenant, "editor", nil); return err },
		"audit":    func() error { return st.RecordAudit(t.Context(), []store.AuditEntry{{Action: "X"}}) },
		"report": func() error {
			return st.Report(t.Context(), []store.Report{{Sidecar: "a", Kind: store.ReportHeartbeat, At: time.Now()}})
		},
		"fold": func() error { return st.FoldReports(t.Context()) },
	} {
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kill()
		if err := call(); err != nil {
			t.Errorf("%s after its connection was ended: %v", name, err)
		}
	}
}

// More dead connections than one call makes attempts.
func TestAPoolFullOfDeadConnections(t *testing.T) {
	url := migrated(t)
	st, err := Open(t.Context(), Config{URL: url, MaxConns: 3 * maxAttempts})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var held []*pgxpool.Conn
	for range 3 * maxAttempts {
		conn, err := st.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	execSQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if _, err := st.Head(t.Context()); err != nil {
		t.Error(err)
	}
}

func noUnknown(err error) error {
	if errors.Is(err, store.ErrRevisionUnknown) {
		return nil
	}
	return err
}

func TestWhatIsWorthAnotherAttempt(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code} }
	for _, c := range []struct {
		name                     string
		err                      error
		disconnected, conflicted bool
	}{
		{"deadlock", pg("40P01"), false, true},
		{"serialization", pg("40001"), false, true},
		{"unique violation", pg("23505"), false, false},
		{"a check of ours", &pgconn.PgError{Code: "23514", SchemaName: "portcullis", TableName: "roles", ConstraintName: "roles_name_check"}, false, false},
		{"a partition that has come", &pgconn.PgError{Code: "23514", SchemaName: "portcullis", TableName: "audit_default"}, false, true},
		{"shutdown", pg("57P01"), true, false},
		{"starting up", pg("57P03"), true, false},
		{"read-only", pg("25006"), true, false},
		{"canceled by the server", pg("57014"), false, false},
		{"connection failure", pg("08006"), true, false},
		{"refused", &net.OpError{Op: "dial", Err: errRefused}, true, false},
		{"the caller's context", context.Canceled, false, false},
		{"the caller's deadline", context.DeadlineExceeded, false, false},
		{"not found", store.ErrNotFound, false, false},
	} {
		if got := disconnected(c.err); got != c.disconnected {
			t.Errorf("%s: disconnected is %v", c.name, got)
		}
		if got := conflicted(c.err); got != c.conflicted {
			t.Errorf("%s: conflicted is %v", c.name, got)
		}
	}
}
