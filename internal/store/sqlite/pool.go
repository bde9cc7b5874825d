package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
)

// role is what a pool of connections is for.
type role int

const (
	writing role = iota
	reading
	watching
)

// dsn builds the connection string. Every connection: no double-quoted strings,
// no statements that could damage the file, no trust in functions that a schema
// might smuggle in, temporary data in memory and not in /tmp.
func dsn(cfg Config, r role) string {
	q := url.Values{}
	q.Set("_dqs", "0")
	q.Set("_defensive", "1")
	q.Set("_error_rc", "1")
	// Short, since SQLite's own waiting comes to look every 100 ms only; retryBusy
	// goes on from there.
	q.Set("_busy_timeout", strconv.FormatInt(min(cfg.LockTimeout, 100*time.Millisecond).Milliseconds(), 10))
	q.Set("_foreign_keys", "1")
	q.Add("_pragma", "trusted_schema(0)")
	q.Add("_pragma", "cell_size_check(1)")
	q.Add("_pragma", "temp_store(memory)")
	switch r {
	case writing:
		q.Set("_txlock", "immediate")
		q.Set("_journal_mode", "WAL")
		// FULL: a write that was answered has been synced, and so outlives a power
		// cut and not only a kill (docs/design/store.md).
		q.Set("_synchronous", "FULL")
		// What is deleted is overwritten: a purged name stays in no free page.
		q.Add("_pragma", "secure_delete(1)")
		q.Add("_pragma", "journal_size_limit(67108864)")
	case reading, watching:
		q.Set("_query_only", "1")
	}
	return "file://" + (&url.URL{Path: cfg.Path}).EscapedPath() + "?" + q.Encode()
}

// conn is one connection with the statements prepared on it. Whoever has taken
// it from its pool has it alone.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
	bad   bool // its state is unknown: close it rather than reuse it
}

// stmt returns the prepared form of query, which must be a constant: it is kept
// for as long as the connection.
func (c *conn) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs a statement and returns the number of rows that it changed.
func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := c.stmt(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// args are a query's parameters.
type args []any

// scan reads a query's first row into dest, or returns sql.ErrNoRows.
func (c *conn) scan(ctx context.Context, query string, in args, dest ...any) error {
	s, err := c.stmt(ctx, query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(ctx, in...).Scan(dest...)
}

// each runs a query and calls row for each of its rows; an error from row ends
// it and comes back.
func (c *conn) each(ctx context.Context, query string, in args, row func(*sql.Rows) error) error {
	s, err := c.stmt(ctx, query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, in...)
	if err != nil {
		return err
	}
	defer rows.Close() // again, where row ends it; closing reports nothing that Err does not
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// begin, commit and rollback by hand rather than through sql.Tx: its rollback
// on a done context runs on another goroutine, and it cannot use statements that
// were prepared before it.

func (c *conn) begin(ctx context.Context, how string) error {
	_, err := c.exec(ctx, how)
	if err != nil && ctx.Err() != nil {
		// It may have begun nonetheless.
		c.rollback()
	}
	return err
}

// commit does not watch ctx once it has begun: its outcome is known.
func (c *conn) commit(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		_, err = c.exec(context.WithoutCancel(ctx), "COMMIT")
	}
	if err != nil {
		c.rollback()
	}
	return err
}

// rollback ends whatever transaction is open. A connection on which that fails
// is closed, which rolls back as well.
func (c *conn) rollback() {
	if _, err := c.exec(context.Background(), "ROLLBACK"); err != nil {
		c.bad = true
	}
}

// close closes the connection, and with it what transaction is open; its
// statements first, since SQLite keeps a connection, and its locks, for as long
// as a statement is left. With driver.ErrBadConn, database/sql does not keep it
// either.
func (c *conn) close(why error) error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	if why != nil {
		_ = c.c.Raw(func(any) error { return why }) // its error is why
	}
	if err := c.c.Close(); why == nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// pool hands out connections to one caller at a time.
type pool struct {
	db   *sql.DB
	idle chan *conn // holds an unopened conn for each that may yet be opened

	used, acquires, waits, canceled, waited atomic.Int64 // waited: nanoseconds
}

func openPool(cfg Config, r role) (*pool, error) {
	connector, err := sqlite.NewConnector(dsn(cfg, r))
	if err != nil {
		return nil, err
	}
	n := 1
	if r == reading {
		n = cfg.Readers
	}
	p := &pool{db: sql.OpenDB(connector), idle: make(chan *conn, n)}
	p.db.SetMaxOpenConns(n)
	for range n {
		p.idle <- &conn{}
	}
	return p, nil
}

// with runs fn with a connection of its own. A panic in fn closes it: what
// transaction it is in is anyone's guess.
func (p *pool) with(ctx context.Context, fn func(c *conn) error) error {
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		c.bad = c.bad || !returned
		p.give(c)
	}()
	err = fn(c)
	returned = true
	return err
}

// take waits for a connection. give must follow.
func (p *pool) take(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := p.next(ctx)
	if err != nil {
		return nil, err
	}
	if c.c == nil {
		if c.c, err = p.db.Conn(ctx); err != nil {
			c.c = nil
			p.idle <- c
			return nil, err
		}
		c.stmts = make(map[string]*sql.Stmt)
	}
	p.acquires.Add(1)
	p.used.Add(1)
	return c, nil
}

func (p *pool) next(ctx context.Context) (*conn, error) {
	select {
	case c := <-p.idle:
		return c, nil
	default:
	}
	p.waits.Add(1)
	start := time.Now()
	defer func() { p.waited.Add(int64(time.Since(start))) }()
	select {
	case c := <-p.idle:
		return c, nil
	case <-ctx.Done():
		p.canceled.Add(1)
		return nil, ctx.Err()
	}
}

func (p *pool) give(c *conn) {
	if c.bad {
		_ = c.close(driver.ErrBadConn) // says only that it was bad
		c = &conn{}
	}
	p.used.Add(-1)
	p.idle <- c
}

// close waits for the connections that are out and closes them all.
func (p *pool) close() error {
	var errs []error
	for range cap(p.idle) {
		if c := <-p.idle; c.c != nil {
			errs = append(errs, c.close(nil))
		}
	}
	return errors.Join(append(errs, p.db.Close())...)
}
