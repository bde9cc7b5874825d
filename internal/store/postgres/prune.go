package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The changes go first, and both in one transaction: a reader that finds its
// revision in the one log finds all that came after it in the other.
const (
	sqlPruneChanges = `DELETE FROM portcullis.change_log WHERE revision <= (SELECT number FROM portcullis.revision) - $1`

	sqlPruneRevisions = `DELETE FROM portcullis.revision_log WHERE revision <= (SELECT number FROM portcullis.revision) - $1`
)

// PruneChanges implements store.Store.
func (s *Store) PruneChanges(ctx context.Context, keep int64) error {
	if keep < 0 {
		return fmt.Errorf("prune the change log: keep: %d is below 0", keep)
	}
	return s.try(ctx, "prune the change log", func(ctx context.Context) error {
		b := &pgx.Batch{}
		b.Queue(sqlPruneChanges, keep)
		b.Queue(sqlPruneRevisions, keep)
		return s.pool.SendBatch(ctx, b).Close()
	})
}
