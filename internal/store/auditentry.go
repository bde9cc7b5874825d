package store

import (
	"fmt"
	"time"
)

// AuditEntry is one audit row.
type AuditEntry struct {
	ID        int64
	Time      time.Time
	Tenant    TenantID // 0: of no tenant
	Actor     string   // who did it
	User      string   // whom it is about, where it is about a principal
	Action    Action
	Resource  string // "role/editor", "permission/editor/edit_content", ...
	Before    string // JSON, "" where there is none
	After     string // JSON, "" where there is none
	Details   string // JSON object, "" where there is none
	Outcome   string // "done", "unchanged", "missing", "denied", "error"
	Success   bool
	Address   string
	UserAgent string
	RequestID string
	Revision  int64 // the revision that the write made; for a read, that it saw
}

// AuditQuery selects audit rows of one tenant, newest first. Zero fields select all.
type AuditQuery struct {
	Tenant  TenantID
	Actions []Action // any of these, compared without case; MaxAuditActions at most
	Entity  string   // the resource's kind: what stands before its first "/", such as "role"
	Subject string   // whom the row is about, as AuditUser has it
	Actor   string   // who did it
	Outcome string
	Since   time.Time // rows of that time and later
	Until   time.Time // rows before it
	// Before is a cursor: rows with a lower id. It and Offset are for different
	// readers; use one.
	Before int64
	Limit  int // 1 to 1000
	Offset int
	// NoTotal spares the count of all rows that are selected; the total is then 0.
	NoTotal bool
}

// MaxAuditActions is how many actions a query may name.
const MaxAuditActions = 50

// MaxAuditPage is how many rows one call of Audit reads at most.
const MaxAuditPage = 1000

// Check refuses a query that selects nothing sensible.
func (q *AuditQuery) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxAuditPage:
		return fmt.Errorf("limit: %d is outside 1 to %d", q.Limit, MaxAuditPage)
	case q.Offset < 0:
		return fmt.Errorf("offset: %d is below 0", q.Offset)
	case q.Before < 0:
		return fmt.Errorf("before: %d is below 0", q.Before)
	case len(q.Actions) > MaxAuditActions:
		return fmt.Errorf("actions: %d are more than %d", len(q.Actions), MaxAuditActions)
	}
	return nil
}
