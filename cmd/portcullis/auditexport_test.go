package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
)

// cutStore gives no page of the audit after the first.
type cutStore struct {
	store.Store
	pages int
}

func (s *cutStore) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, int, error) {
	if s.pages++; s.pages > 1 {
		return nil, 0, errors.New("the disk is gone")
	}
	return s.Store.Audit(ctx, q)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestTheExportHasEveryRow: page after page; and what
// stops it is an error, behind whole lines.
func TestTheExportHasEveryRow(t *testing.T) {
	ctx := t.Context()
	st, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "auth.sqlite3")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const rows = 2*store.MaxAuditPage + 7
	var entries []store.AuditEntry
	for i := range rows {
		entries = append(entries, store.AuditEntry{Tenant: 1, Action: store.ActionCheckPermission, Resource: fmt.Sprintf("permission/%d", i), Details: `{"a":"<>"}`, Outcome: "done"})
	}
	if err := st.RecordAudit(ctx, entries); err != nil {
		t.Fatal(err)
	}
	query := store.AuditQuery{Tenant: 1, Actions: []store.Action{store.ActionCheckPermission}}
	export := func(s store.Store) (lines int, err error) {
		t.Helper()
		var out, told bytes.Buffer
		err = exportAudit(ctx, &process{stdout: &out, stderr: &told}, desk{Store: s}, query)
		for line := range bytes.Lines(out.Bytes()) {
			var row auditJSON
			if err := json.Unmarshal(line, &row); err != nil || row.Resource != fmt.Sprintf("permission/%d", rows-1-lines) || string(row.Details) != `{"a":"<>"}` {
				t.Fatalf("line %d: %s: %v", lines, line, err)
			}
			lines++
		}
		return lines, err
	}
	if lines, err := export(st); err != nil || lines != rows {
		t.Errorf("%d lines, %v; want %d", lines, err, rows)
	}
	if lines, err := export(&cutStore{Store: st}); lines != store.MaxAuditPage || err == nil || err.Error() != "after 1000 rows: the disk is gone" {
		t.Errorf("a cut export: %d lines, %v", lines, err)
	}
	err = exportAudit(ctx, &process{stdout: fullDisk{}, stderr: fullDisk{}}, desk{Store: st}, query)
	if code, text := judge(err); code != exitUnavailable || text != "write the answer: no space left" {
		t.Errorf("a full disk: %d %s", code, text)
	}
}
