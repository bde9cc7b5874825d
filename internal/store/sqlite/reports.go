package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"portcullis/internal/store"
)

const (
	sqlInsertReport = `INSERT INTO sidecar_reports (sidecar, kind, reported_at, applied, staleness, policy_digest, masters, uses)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

	// A batch, in the order of appending.
	sqlReports = `SELECT id, sidecar, kind, reported_at, applied, staleness, policy_digest, masters, uses
		FROM sidecar_reports ORDER BY id LIMIT ?`

	sqlDropReports = `DELETE FROM sidecar_reports WHERE id <= ?`

	sqlSidecars = `SELECT id, last_seen, applied, staleness, policy_digest, masters, stopped FROM sidecars ORDER BY id`

	sqlPutSidecar = `INSERT INTO sidecars (id, last_seen, applied, staleness, policy_digest, masters, stopped) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen, applied = excluded.applied,
			staleness = excluded.staleness, policy_digest = excluded.policy_digest,
			masters = excluded.masters, stopped = excluded.stopped`

	sqlForgetSidecars = `DELETE FROM sidecars WHERE last_seen + staleness < ?`

	sqlUseKey = `UPDATE client_keys SET last_used_at = ?1 WHERE digest = ?2 AND coalesce(last_used_at, 0) < ?1`

	sqlUseUserKey = `UPDATE user_keys SET last_used_at = ?1 WHERE digest = ?2 AND coalesce(last_used_at, 0) < ?1`
)

// foldBatch bounds how many reports one transaction folds, so that writes wait
// for a short one.
const foldBatch = 1000

// Report implements store.Reader.
func (s *Store) Report(ctx context.Context, reports []store.Report) error {
	if len(reports) == 0 {
		return nil
	}
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		for i := range reports {
			r := &reports[i]
			_, err := c.exec(ctx, sqlInsertReport, r.Sidecar, int64(r.Kind), r.At.UnixNano(), r.Applied, int64(r.Staleness), r.PolicyDigest,
				strings.Join(r.Masters, " "), packUses(r.Uses))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// splitMasters reads the ids of master keys, with a space between; nil for none.
func splitMasters(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, " ")
}

const useSize = len(store.Digest{}) + 8

func packUses(uses []store.KeyUse) []byte {
	b := make([]byte, 0, len(uses)*useSize)
	for _, u := range uses {
		b = append(b, u.Digest[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(u.At.UnixNano()))
	}
	return b
}

func unpackUses(b []byte) ([]store.KeyUse, error) {
	if len(b)%useSize != 0 {
		return nil, errors.New("a report's uses are cut off")
	}
	var uses []store.KeyUse
	for row := range slices.Chunk(b, useSize) {
		at := int64(binary.BigEndian.Uint64(row[len(store.Digest{}):]))
		uses = append(uses, store.KeyUse{Digest: store.Digest(row), At: store.FromNanos(at)})
	}
	return uses, nil
}

// fold is the state of the sidecars while reports are merged in.
type fold struct {
	sidecars map[string]store.Sidecar
	uses     map[store.Digest]time.Time
	last     int64 // id of the last report
	n        int
}

// read merges up to limit reports, in the order of appending.
func (f *fold) read(ctx context.Context, c *conn, limit int) error {
	f.sidecars, f.uses = make(map[string]store.Sidecar), make(map[store.Digest]time.Time)
	err := c.each(ctx, sqlSidecars, nil, func(rows *sql.Rows) error {
		var sc store.Sidecar
		var seen int64
		var masters string
		err := rows.Scan(&sc.ID, &seen, &sc.Applied, (*int64)(&sc.Staleness), &sc.PolicyDigest, &masters, &sc.Stopped)
		sc.Masters = splitMasters(masters)
		sc.LastSeen = store.FromNanos(seen)
		f.sidecars[sc.ID] = sc
		return err
	})
	if err != nil {
		return err
	}
	return c.each(ctx, sqlReports, args{limit}, func(rows *sql.Rows) error {
		var r store.Report
		var at int64
		var packed []byte
		var masters string
		if err := rows.Scan(&f.last, &r.Sidecar, &r.Kind, &at, &r.Applied, (*int64)(&r.Staleness), &r.PolicyDigest, &masters, &packed); err != nil {
			return err
		}
		r.At, r.Masters = store.FromNanos(at), splitMasters(masters)
		var err error
		if r.Uses, err = unpackUses(packed); err != nil {
			return err
		}
		f.n++
		for _, u := range r.Uses {
			if u.At.After(f.uses[u.Digest]) {
				f.uses[u.Digest] = u.At
			}
		}
		if r.Kind != store.ReportUses {
			f.sidecars[r.Sidecar] = f.sidecars[r.Sidecar].After(r)
		}
		return nil
	})
}

// FoldReports implements store.Store.
func (s *Store) FoldReports(ctx context.Context) error {
	for {
		var f fold
		err := s.writing(ctx, func(ctx context.Context, c *conn) error {
			f = fold{}
			if err := f.read(ctx, c, foldBatch); err != nil {
				return err
			}
			return f.write(ctx, c, s.cfg.Now())
		})
		if err != nil {
			return fmt.Errorf("fold reports: %w", err)
		}
		if f.n < foldBatch {
			return nil
		}
	}
}

func (f *fold) write(ctx context.Context, c *conn, now time.Time) error {
	if f.n > 0 {
		for _, sc := range f.sidecars {
			_, err := c.exec(ctx, sqlPutSidecar, sc.ID, sc.LastSeen.UnixNano(), sc.Applied, int64(sc.Staleness), sc.PolicyDigest,
				strings.Join(sc.Masters, " "), sc.Stopped)
			if err != nil {
				return err
			}
		}
		for digest, at := range f.uses {
			// A digest is of one kind of key or the other.
			for _, use := range []string{sqlUseKey, sqlUseUserKey} {
				if _, err := c.exec(ctx, use, at.UnixNano(), digest[:]); err != nil {
					return err
				}
			}
		}
		if _, err := c.exec(ctx, sqlDropReports, f.last); err != nil {
			return err
		}
	}
	_, err := c.exec(ctx, sqlForgetSidecars, now.Add(-store.ForgetSidecarAfter).UnixNano())
	return err
}

// Sidecars implements store.Store.
func (s *Store) Sidecars(ctx context.Context) ([]store.Sidecar, error) {
	var f fold
	err := s.reading(ctx, "list sidecars", func(ctx context.Context, c *conn) error {
		f = fold{}
		return f.read(ctx, c, -1) // all of them
	})
	if err != nil {
		return nil, err
	}
	var list []store.Sidecar
	for _, sc := range f.sidecars {
		list = append(list, sc)
	}
	slices.SortFunc(list, func(a, b store.Sidecar) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}
