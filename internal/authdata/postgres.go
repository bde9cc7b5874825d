package authdata

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// defaultSchema is where Auth puts its tables unless it is told otherwise.
const defaultSchema = "auth_rbac"

const (
	connectTimeout = 10 * time.Second
	closeTimeout   = 5 * time.Second

	// fetchSize is how many rows one round trip brings. A cursor in the server keeps
	// memory bounded, and lets a caller leave off without reading to the end.
	fetchSize = 500
)

// session is how the transaction is set up: times come as text in UTC; the
// importer may be slower than a time-out; names are the catalog's. With
// row_security off, a policy that would hide rows is an error.
var session = []string{
	"SET LOCAL TimeZone = 'UTC'",
	"SET LOCAL DateStyle = 'ISO'",
	"SET LOCAL statement_timeout = 0",
	"SET LOCAL idle_in_transaction_session_timeout = 0",
	"SET LOCAL row_security = off",
	"SET LOCAL search_path = pg_catalog",
	"SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'",
}

// postgresDB is a read transaction on a Postgres schema.
type postgresDB struct {
	conn    *pgx.Conn
	schema  string
	cursors int
}

func openPostgres(ctx context.Context, url, schema string) (database, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errPostgresURL // pgx's own repeats parts of it
	}
	if _, ok := cfg.RuntimeParams["application_name"]; !ok {
		cfg.RuntimeParams["application_name"] = "portcullis import"
	}
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	cfg.ConnectTimeout = min(cfg.ConnectTimeout, connectTimeout)
	// No prepared statements: they would not outlive a transaction of PgBouncer's.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Auth's database: %w", err)
	}
	p := &postgresDB{conn: conn}
	if err := p.begin(ctx, schema); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *postgresDB) begin(ctx context.Context, schema string) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	for _, sql := range session {
		batch.Queue(sql)
	}
	if err := p.conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("begin to read Auth's database: %w", err)
	}
	schemas, err := p.schemas(ctx)
	if err != nil {
		return fmt.Errorf("look for Auth's schema: %w", err)
	}
	holds := func(name string) bool {
		for _, s := range schemas {
			if s == name {
				return true
			}
		}
		return false
	}
	switch {
	case schema != "" && !holds(schema):
		return fmt.Errorf("%w: the schema %q has no table %s%s", ErrNotAuth, schema, tableRole, found(schemas))
	case schema != "":
		p.schema = schema
	case holds(defaultSchema):
		p.schema = defaultSchema
	case len(schemas) == 1:
		p.schema = schemas[0]
	case len(schemas) == 0:
		return fmt.Errorf("%w: no schema of it has a table %s", ErrNotAuth, tableRole)
	default:
		return fmt.Errorf("several schemas hold Auth's tables (%s): name one with --schema", strings.Join(schemas, ", "))
	}
	return nil
}

func found(schemas []string) string {
	if len(schemas) == 0 {
		return ""
	}
	return ", and these have: " + strings.Join(schemas, ", ")
}

// schemas are those that hold Auth's roles.
func (p *postgresDB) schemas(ctx context.Context) ([]string, error) {
	const query = `SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = $1 AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' ORDER BY 1`
	var names []string
	for row, err := range p.rows(ctx, query, tableRole) {
		if err != nil {
			return nil, err
		}
		names = append(names, *row[0])
	}
	return names, nil
}

func (p *postgresDB) catalog(ctx context.Context) (catalog, error) {
	const query = `SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')`
	c := make(catalog)
	for row, err := range p.rows(ctx, query, p.schema) {
		if err != nil {
			return nil, fmt.Errorf("list the columns of the schema %q: %w", p.schema, err)
		}
		c[*row[0]] = append(c[*row[0]], *row[1])
	}
	return c, nil
}

func (p *postgresDB) table(name string) string { return pgx.Identifier{p.schema, name}.Sanitize() }

func (p *postgresDB) text(expr string) string {
	return "left((" + expr + ")::text, " + strconv.Itoa(maxText+1) + ")"
}

// booleans are the words of a boolean column and of an integer one.
func (p *postgresDB) booleans() (yes, no []string) {
	return []string{"true", "1"}, []string{"false", "0"}
}

func (p *postgresDB) binary() string { return `pg_catalog."C"` }

func (p *postgresDB) rows(ctx context.Context, query string, args ...any) iter.Seq2[[]*string, error] {
	return func(yield func([]*string, error) bool) {
		p.cursors++
		name := "portcullis_" + strconv.Itoa(p.cursors)
		batch := &pgx.Batch{}
		batch.Queue("DECLARE "+name+" NO SCROLL CURSOR FOR "+query, args...)
		batch.Queue("FETCH " + strconv.Itoa(fetchSize) + " FROM " + name)
		page, err := fetch(ctx, p.conn, batch, 1)
		for {
			if err != nil {
				yield(nil, advise(err))
				return
			}
			last := len(page) < fetchSize
			for _, row := range page {
				if !yield(row, nil) {
					last = true
					break
				}
			}
			if last {
				// An error leaves the transaction as it is for the next query to meet.
				_, _ = p.conn.Exec(ctx, "CLOSE "+name)
				return
			}
			batch := &pgx.Batch{}
			batch.Queue("FETCH " + strconv.Itoa(fetchSize) + " FROM " + name)
			page, err = fetch(ctx, p.conn, batch, 0)
		}
	}
}

// fetch sends a batch and returns the rows of its last statement, before which
// there are so many others.
func fetch(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, others int) (page [][]*string, err error) {
	results := conn.SendBatch(ctx, batch)
	defer func() {
		if closing := results.Close(); err == nil {
			err = closing
		}
	}()
	for range others {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues() // text, since every column is of type text
		row := make([]*string, len(raw))
		for i, v := range raw {
			if v != nil {
				s := string(v)
				row[i] = &s
			}
		}
		page = append(page, row)
	}
	return page, rows.Err()
}

// advise adds the mend to the errors that an operator may meet.
func advise(err error) error {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		switch {
		case e.Code == "42501" && strings.Contains(e.Message, "row-level security"):
			return fmt.Errorf("row-level security hides rows from this user: read as a superuser or a role with BYPASSRLS: %w", err)
		case e.Code == "42501":
			return fmt.Errorf("this user may not read all of Auth's tables: read as their owner, or grant it USAGE on the schema and SELECT on the tables: %w", err)
		}
	}
	return err
}

// close ends the connection, and with it the transaction.
func (p *postgresDB) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return p.conn.Close(ctx)
}
