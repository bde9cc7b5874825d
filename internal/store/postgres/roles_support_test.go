package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/testkit"
)

// Users of the tests' servers. Nobody asks for passwords on their sockets.
const (
	ownerUser   = "test_owner" // no superuser: what owning is, and no more
	adminUser   = "test_admin_user"
	sidecarUser = "test_sidecar_user"
)

// divided is a database whose schema belongs to ownerUser, with the runtime roles
// made by its migration and a user in each.
type divided struct{ super, owner, admin, sidecar string } // URLs

func divide(t *testing.T) divided {
	t.Helper()
	super := testkit.PostgresFrom(t, "divided", func(url string) error {
		if err := prepareDivided(context.Background(), url); err != nil {
			return err
		}
		_, err := EnsureRoles(context.Background(), as(url, ownerUser), DefaultGroupRoles())
		if err != nil {
			return err
		}
		return execAll(context.Background(), url,
			`GRANT portcullis_admin TO `+adminUser, `GRANT portcullis_sidecar TO `+sidecarUser)
	})
	newHistory(t, super)
	return divided{super, as(super, ownerUser), as(super, adminUser), as(super, sidecarUser)}
}

// prepareDivided makes the users, and the schema, which belongs to ownerUser.
func prepareDivided(ctx context.Context, url string) error {
	var sql []string
	for user, attributes := range map[string]string{ownerUser: "LOGIN CREATEROLE", adminUser: "LOGIN", sidecarUser: "LOGIN"} {
		sql = append(sql, `DO $$ BEGIN IF to_regrole('`+user+`') IS NULL THEN CREATE ROLE `+user+` `+attributes+`; END IF; END $$`)
	}
	sql = append(sql, `CREATE SCHEMA portcullis AUTHORIZATION `+ownerUser)
	if err := execAll(ctx, url, sql...); err != nil {
		return err
	}
	_, err := Migrate(ctx, as(url, ownerUser))
	return err
}

// as is the URL for another user.
func as(url, user string) string {
	return strings.Replace(url, "postgres://postgres@", "postgres://"+user+"@", 1)
}

func execAll(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
