package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
)

func newAuditCommand(p *process) *cobra.Command {
	return newGroupCommand("audit", "The audit: who changed what, and when",
		"Every write leaves a row in the audit of its tenant, in the same transaction: by\nwhom, what it was about, what was there before and after, and how it came out.",
		newAuditQueryCommand(p), newAuditExportCommand(p), newAuditSuspiciousCommand(p),
		newAuditVerifyCommand(p), newAuditCheckpointCommand(p), newAuditPruneCommand(p))
}

// auditJSON is an audit row for scripts.
type auditJSON struct {
	ID        int64           `json:"id"`
	Time      time.Time       `json:"time"`
	Actor     string          `json:"actor"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	User      string          `json:"user"`
	Outcome   string          `json:"outcome"`
	Success   bool            `json:"success"`
	Before    json.RawMessage `json:"before"` // null where there is none
	After     json.RawMessage `json:"after"`
	Details   json.RawMessage `json:"details"`
	Address   string          `json:"address"`
	UserAgent string          `json:"user_agent"`
	RequestID string          `json:"request_id"`
	Revision  int64           `json:"revision"`
}

func auditRows(entries []store.AuditEntry) [][]string {
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, []string{showTime(e.Time, ""), e.Actor, string(e.Action), e.Resource, e.Outcome, fmt.Sprint(e.Revision)})
	}
	return rows
}

func describeAudit(entries []store.AuditEntry) []auditJSON {
	out := make([]auditJSON, 0, len(entries))
	for i := range entries {
		out = append(out, describeEntry(&entries[i]))
	}
	return out
}

func describeEntry(e *store.AuditEntry) auditJSON {
	return auditJSON{
		ID: e.ID, Time: e.Time.UTC(), Actor: e.Actor, Action: string(e.Action), Resource: e.Resource, User: e.User,
		Outcome: e.Outcome, Success: e.Success, Before: rawJSON(e.Before), After: rawJSON(e.After), Details: rawJSON(e.Details),
		Address: e.Address, UserAgent: e.UserAgent, RequestID: e.RequestID, Revision: e.Revision,
	}
}

// rawJSON is stored JSON as it is, null for none, and a string for what is no
// JSON, so that one odd row does not hide the others.
func rawJSON(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("null")
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage("null")
	}
	return quoted
}
