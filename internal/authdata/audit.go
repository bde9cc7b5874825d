package authdata

import (
	"context"
	"iter"
)

// Audit yields the audit of all tenants by id. On Postgres its table is partitioned
// by month, where an id is only unique beside its time: a cursor's Sub counts the
// rows of its ID.
func (s *Source) Audit(ctx context.Context, after Cursor) iter.Seq2[AuditEntry, error] {
	q := query{
		table:   tableAudit,
		columns: cols("t", "id", "timestamp", "client_id", "user", "action", "resource", "details", "ip_address", "user_agent", "success"),
		from:    s.db.table(tableAudit) + " AS t WHERE t.id >= CAST($1 AS BIGINT)",
		order:   `t.id, t."timestamp"`,
	}
	id, seen := after.start()
	skip := max(seen, 0)
	var at Cursor
	return stream(ctx, s, Secret{}, q, []any{id}, func(f *fields) (AuditEntry, bool) {
		if at.Sub == 0 || at.ID != f.row.Cursor.ID {
			at = Cursor{ID: f.row.Cursor.ID}
		}
		at.Sub++
		f.row.Cursor = at
		if at.ID == after.ID && at.Sub <= skip {
			return AuditEntry{}, false
		}
		return AuditEntry{
			Row:       f.row,
			Time:      f.moment("timestamp"),
			ClientID:  f.text("client_id"),
			User:      f.text("user"),
			Action:    f.text("action"),
			Resource:  f.text("resource"),
			Details:   f.document("details"),
			IPAddress: f.text("ip_address"),
			UserAgent: f.text("user_agent"),
			Success:   f.boolean("success"),
		}, true
	})
}
