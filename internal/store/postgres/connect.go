package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds one attempt at one host where the URL has no
// connect_timeout: a fleet that lost its primary should try the next host soon.
const connectTimeout = 5 * time.Second

// pgxConnectTimeout is what pgx puts where the URL says nothing.
const pgxConnectTimeout = 2 * time.Minute

// parseURL reads a connection URL. Its error repeats nothing of the URL: where
// the text is malformed, what looks like a host may be half of a password.
func parseURL(url string) (*pgxpool.Config, error) {
	if url == "" {
		return nil, errors.New("database URL: is empty: give postgres://user@host:5432/database")
	}
	cfg, err := pgxpool.ParseConfig(url)
	// An @ in the name of the database is what an unescaped slash in a password
	// leads to: the host is then the user, and the database the password's rest.
	if err != nil || strings.Contains(cfg.ConnConfig.Database, "@") {
		return nil, errors.New("database URL: cannot be read (it is not repeated here, for it may hold a password): " +
			"the form is postgres://user:password@host:5432/database?sslmode=verify-full, with special characters in the password percent-encoded")
	}
	c := cfg.ConnConfig
	if c.ConnectTimeout == pgxConnectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "portcullis"
	}
	c.ValidateConnect = primaryOnly(c.ValidateConnect)
	return cfg, nil
}

// primaryOnly refuses standbys, so that the next host is tried: a revision that
// a lagging standby shows is no word from the store. What the URL asks of a
// session (target_session_attrs) is asked as well, so a URL that wants a standby
// finds no host.
func primaryOnly(asked pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if asked != nil {
			var notPreferred *pgconn.NotPreferredError // of prefer-standby
			if err := asked(ctx, conn); err != nil && !errors.As(err, &notPreferred) {
				return err
			}
		}
		return pgconn.ValidateConnectTargetSessionAttrsPrimary(ctx, conn)
	}
}
