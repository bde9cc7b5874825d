package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

const (
	sqlInsertReport = `
INSERT INTO portcullis.sidecar_reports (sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times, masters)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

	sqlReports = `
SELECT id, sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times, masters
FROM portcullis.sidecar_reports ORDER BY id`

	sqlTakeReports = `
WITH batch AS (SELECT id FROM portcullis.sidecar_reports ORDER BY id LIMIT $1),
     taken AS (DELETE FROM portcullis.sidecar_reports WHERE id IN (SELECT id FROM batch)
               RETURNING id, sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times, masters)
SELECT * FROM taken ORDER BY id`

	sqlSidecars = `SELECT id, last_report, last_seen, applied, staleness, policy_digest, stopped, masters FROM portcullis.sidecars`

	sqlPutSidecar = `
INSERT INTO portcullis.sidecars (id, last_report, last_seen, applied, staleness, policy_digest, stopped, masters) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET last_report = excluded.last_report, last_seen = excluded.last_seen, applied = excluded.applied,
    staleness = excluded.staleness, policy_digest = excluded.policy_digest, stopped = excluded.stopped, masters = excluded.masters`

	sqlForgetSidecars = `DELETE FROM portcullis.sidecars WHERE last_seen + staleness < $1`

	// Rows are locked in the order of ids, as RevokeKeys takes them.
	sqlUseKeys = `
WITH used AS (SELECT u.digest, u.at FROM unnest($1::bytea[], $2::bigint[]) AS u (digest, at)),
     found AS MATERIALIZED (SELECT k.id, used.at FROM portcullis.client_keys k JOIN used ON used.digest = k.digest
                            WHERE coalesce(k.last_used_at, 0) < used.at ORDER BY k.id FOR UPDATE OF k)
UPDATE portcullis.client_keys k SET last_used_at = greatest(coalesce(k.last_used_at, 0), found.at) FROM found WHERE k.id = found.id`

	sqlUseUserKeys = `
WITH used AS (SELECT u.digest, u.at FROM unnest($1::bytea[], $2::bigint[]) AS u (digest, at)),
     found AS MATERIALIZED (SELECT k.id, used.at FROM portcullis.user_keys k JOIN used ON used.digest = k.digest
                            WHERE coalesce(k.last_used_at, 0) < used.at ORDER BY k.id FOR UPDATE OF k)
UPDATE portcullis.user_keys k SET last_used_at = greatest(coalesce(k.last_used_at, 0), found.at) FROM found WHERE k.id = found.id`

	// One process folds at a time: reports are merged in the order of appending.
	sqlLockFold = `SELECT pg_advisory_xact_lock(hashtextextended('portcullis.fold_reports', 0))`
)

// foldBatch bounds how many reports one transaction folds.
const foldBatch = 1000

// Report implements store.Reader. A broken connection may leave a report twice:
// the second says what the first one did.
func (s *Store) Report(ctx context.Context, reports []store.Report) error {
	if len(reports) == 0 {
		return nil
	}
	return s.try(ctx, "report", func(ctx context.Context) error {
		b := &pgx.Batch{}
		for i := range reports {
			b.Queue(sqlInsertReport, reportArgs(&reports[i])...)
		}
		return s.pool.SendBatch(ctx, b).Close()
	})
}

func reportArgs(r *store.Report) []any {
	digests, times := make([][]byte, len(r.Uses)), make([]int64, len(r.Uses))
	for i := range r.Uses {
		digests[i], times[i] = r.Uses[i].Digest[:], r.Uses[i].At.UnixNano()
	}
	return []any{r.Sidecar, int16(r.Kind), r.At.UnixNano(), r.Applied, int64(r.Staleness), r.PolicyDigest, digests, times, strings.Join(r.Masters, " ")}
}

// fold is the state of the sidecars while reports are merged in.
type fold struct {
	sidecars map[string]store.Sidecar
	last     map[string]int64    // the id of the newest report of each that was merged
	touched  map[string]struct{} // those that a report has changed
	uses     map[store.Digest]time.Time
	n        int // reports read
}

func newFold() *fold {
	return &fold{
		sidecars: make(map[string]store.Sidecar),
		last:     make(map[string]int64),
		touched:  make(map[string]struct{}),
		uses:     make(map[store.Digest]time.Time),
	}
}

func (f *fold) readSidecars(rows pgx.Rows, err error) error {
	return each(rows, err, func(scan func(...any) error) error {
		var sc store.Sidecar
		var last, seen int64
		var masters string
		err := scan(&sc.ID, &last, &seen, &sc.Applied, (*int64)(&sc.Staleness), &sc.PolicyDigest, &sc.Stopped, &masters)
		sc.Masters = splitIDs(masters)
		sc.LastSeen = store.FromNanos(seen)
		f.sidecars[sc.ID], f.last[sc.ID] = sc, last
		return err
	})
}

// readReports merges reports, in the order of their ids.
func (f *fold) readReports(rows pgx.Rows, err error) error {
	return each(rows, err, func(scan func(...any) error) error {
		var r store.Report
		var id, at int64
		var masters string
		var digests [][]byte
		var times []int64
		if err := scan(&id, &r.Sidecar, &r.Kind, &at, &r.Applied, (*int64)(&r.Staleness), &r.PolicyDigest, &digests, &times, &masters); err != nil {
			return err
		}
		f.n++
		for i, digest := range digests {
			if len(digest) != len(store.Digest{}) {
				continue // no key has it
			}
			if d, used := store.Digest(digest), store.FromNanos(times[i]); used.After(f.uses[d]) {
				f.uses[d] = used
			}
		}
		// A row may become visible after one with a higher id was merged already. It
		// is the older word, and must not stand as the last one.
		if r.Kind == store.ReportUses || id < f.last[r.Sidecar] {
			return nil
		}
		r.At, r.Masters = store.FromNanos(at), splitIDs(masters)
		f.sidecars[r.Sidecar], f.last[r.Sidecar] = f.sidecars[r.Sidecar].After(r), id
		f.touched[r.Sidecar] = struct{}{}
		return nil
	})
}

// splitIDs reads what was joined with a space between; none is nil.
func splitIDs(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Fields(text)
}

// FoldReports implements store.Store.
func (s *Store) FoldReports(ctx context.Context) error {
	for {
		f := newFold()
		err := s.try(ctx, "fold reports", func(ctx context.Context) error {
			f = newFold()
			return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
				return f.run(ctx, tx, s.now())
			})
		})
		if err != nil || f.n < foldBatch {
			return err
		}
	}
}

func (f *fold) run(ctx context.Context, tx pgx.Tx, now time.Time) error {
	if _, err := tx.Exec(ctx, sqlLockFold); err != nil {
		return err
	}
	if err := f.readSidecars(tx.Query(ctx, sqlSidecars)); err != nil {
		return err
	}
	if err := f.readReports(tx.Query(ctx, sqlTakeReports, foldBatch)); err != nil {
		return err
	}
	b := &pgx.Batch{}
	for id := range f.touched {
		sc := f.sidecars[id]
		b.Queue(sqlPutSidecar, id, f.last[id], sc.LastSeen.UnixNano(), sc.Applied, int64(sc.Staleness), sc.PolicyDigest, sc.Stopped, strings.Join(sc.Masters, " "))
	}
	if len(f.uses) > 0 {
		digests, times := make([][]byte, 0, len(f.uses)), make([]int64, 0, len(f.uses))
		for digest, at := range f.uses {
			digests, times = append(digests, digest[:]), append(times, at.UnixNano())
		}
		b.Queue(sqlUseKeys, digests, times)
		b.Queue(sqlUseUserKeys, digests, times) // a digest is of one kind of key or the other
	}
	b.Queue(sqlForgetSidecars, now.Add(-store.ForgetSidecarAfter).UnixNano())
	return tx.SendBatch(ctx, b).Close()
}

// Sidecars implements store.Store.
func (s *Store) Sidecars(ctx context.Context) ([]store.Sidecar, error) {
	f := newFold()
	err := s.try(ctx, "list sidecars", func(ctx context.Context) error {
		f = newFold()
		return s.snapshot(ctx, func(b *pgx.Batch) {
			b.Queue(sqlSidecars)
			b.Queue(sqlReports)
		}, func(r pgx.BatchResults) error {
			if err := f.readSidecars(r.Query()); err != nil {
				return err
			}
			return f.readReports(r.Query())
		})
	})
	if err != nil {
		return nil, err
	}
	list := make([]store.Sidecar, 0, len(f.sidecars))
	for _, sc := range f.sidecars {
		list = append(list, sc)
	}
	slices.SortFunc(list, func(a, b store.Sidecar) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}
