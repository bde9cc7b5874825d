package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// parseURL reads a connection URL and makes it what the store needs. A URL by
// which a connection may cross the network without TLS is a *PlaintextError,
// unless that is allowed.
func parseURL(url string, allowed ...Allowance) (*pgxpool.Config, error) {
	cfg, err := readURL(url)
	if err != nil {
		return nil, err
	}
	c := cfg.ConnConfig
	if refusal := transportOf(c).Refusal(); refusal != nil && !slices.Contains(allowed, AllowPlaintext) {
		return nil, fmt.Errorf("database URL: %w", refusal)
	}
	if c.ConnectTimeout == pgxConnectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "portcullis"
	}
	c.ValidateConnect = primaryOnly(c.ValidateConnect)
	return cfg, nil
}

// readURL reads a connection URL. Its error repeats nothing of the URL: where the
// text is malformed, what looks like a host may be half of a password.
func readURL(url string) (*pgxpool.Config, error) {
	if url == "" {
		return nil, errors.New("database URL: is empty: give postgres://user@host:5432/database")
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil || strayAt(url) {
		if problem := tlsProblem(err); problem != nil && !strayAt(url) {
			return nil, fmt.Errorf("database URL: TLS: %w", problem)
		}
		return nil, errors.New("database URL: cannot be read (it is not repeated here, for it may hold a password): " +
			"the form is postgres://user:password@host:5432/database?sslmode=verify-full, with special characters in the password percent-encoded")
	}
	if _, given := cfg.ConnConfig.RuntimeParams["hostaddr"]; given {
		return nil, errHostaddr
	}
	return cfg, nil
}

// tlsProblem returns what was wrong with the files of sslrootcert, sslcert and
// sslkey, nil where that was not it. Of the URL it repeats a file's path at most.
func tlsProblem(err error) error {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) || parse.Unwrap() == nil || !strings.Contains(parse.Error(), "failed to configure TLS") {
		return nil
	}
	problem := parse.Unwrap()
	if problem.Error() == "sslmode is invalid" {
		return errors.New("sslmode is none of disable, allow, prefer, require, verify-ca and verify-full")
	}
	return problem
}

// strayAt reports whether a URL has an @ beside the one that ends the user's name
// and password, or a #. It is what an unescaped character in a password leads to:
// the driver then takes a part of the password for the host or the database, and
// names it in its errors.
func strayAt(url string) bool {
	_, rest, isURL := strings.Cut(url, "://")
	if !isURL || !strings.HasPrefix(url, "postgres") {
		return false
	}
	authority, path, _ := strings.Cut(rest, "/")
	return strings.Count(authority, "@") > 1 || strings.ContainsAny(path, "@#") || strings.Contains(authority, "#")
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
