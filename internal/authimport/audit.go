package authimport

import (
	"context"
	"encoding/json"

	"portcullis/internal/authdata"
	"portcullis/internal/store"
)

// audit imports the audit. Auth names no tenant in it, and its fingerprints cannot be
// computed from here: the rows go to the one tenant where there is but one, else to no
// tenant, where an operator reads them.
func (r *run) audit(ctx context.Context) error {
	var tenant store.TenantID
	if len(r.tenants) == 1 {
		tenant = r.tenants[0]
	}
	after, _, err := r.after("", 0)
	if err != nil {
		return err
	}
	for row, err := range r.Source.Audit(ctx, after) {
		r.rows++
		if err != nil {
			if err := r.bad(err); err != nil {
				return err
			}
			continue
		}
		entry, err := auditEntry(tenant, &row)
		if err != nil {
			return err
		}
		r.batch.Audit = append(r.batch.Audit, entry)
		r.sum.Read.Audit++
		if r.n++; r.n == batchRows {
			if err := r.write(ctx, place{At: row.Cursor.String()}, false); err != nil {
				return err
			}
		}
	}
	return r.write(ctx, place{}, true)
}

// auditEntry is an audit row. What Auth says in its own columns stays in the details.
func auditEntry(tenant store.TenantID, row *authdata.AuditEntry) (store.AuditEntry, error) {
	details := map[string]any{"imported_from": "auth"}
	if row.ClientID != "" {
		details["client_id"] = row.ClientID
	}
	if row.Details != "" {
		details["details"] = json.RawMessage(row.Details)
	}
	text, err := json.Marshal(details)
	if err != nil {
		return store.AuditEntry{}, err
	}
	outcome := store.OutcomeDone.String()
	if !row.Success {
		outcome = "denied"
	}
	return store.AuditEntry{
		Time: inRange(row.Time), Tenant: tenant, Actor: "auth", User: row.User, Action: store.Action(row.Action), Resource: row.Resource,
		Details: string(text), Outcome: outcome, Success: row.Success, Address: row.IPAddress, UserAgent: row.UserAgent,
	}, nil
}
