package testkit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// PostgresExec runs a statement behind the back of whatever serves from the database,
// as its owner could.
func PostgresExec(ctx context.Context, databaseURL, statement string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
