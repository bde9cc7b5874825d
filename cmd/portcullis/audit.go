package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/store"
)

func newAuditCommand(p *process) *cobra.Command {
	return newGroupCommand("audit", "The audit: who changed what, and when",
		"Every write leaves a row in the audit of its tenant, in the same transaction: by\nwhom, what it was about, what was there before and after, and how it came out.",
		newAuditListCommand(p),
		newAuditSuspiciousCommand(p))
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

func newAuditListCommand(p *process) *cobra.Command {
	var tenant, action string
	var limit, offset int
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List a tenant's audit, newest first",
		Long: `Lists a tenant's audit rows, newest first. REVISION is the one that the write made.
--json prints what the table leaves out too: before, after, address, request id.`,
		Example: `  portcullis audit list --tenant acme --limit 20
  portcullis audit list --action REMOVE_MEMBERSHIP --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 500 {
				return usagef("--limit: %d is outside 1 to 500", limit)
			}
			if offset < 0 {
				return usagef("--offset: %d is below 0", offset)
			}
			if action != "" {
				if err := checkName(action, 64, "_"); err != nil {
					return usagef("--action: %w", err)
				}
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				t, err := d.tenant(ctx, tenant)
				if err != nil {
					return err
				}
				query := store.AuditQuery{Tenant: t.ID, Limit: limit, Offset: offset}
				if action != "" {
					query.Actions = []store.Action{store.Action(action)}
				}
				entries, total, err := d.Audit(ctx, query)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(p.stdout, describeAudit(entries))
				}
				if err := printTable(p.stdout, []string{"TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "REVISION"}, auditRows(entries)); err != nil {
					return err
				}
				if shown := offset + len(entries); shown < total {
					fmt.Fprintf(p.stderr, "%d of %d rows; --offset %d shows what came before\n", len(entries), total, shown)
				}
				return nil
			})
		},
	}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&action, "action", "", "only this `action`, such as ADD_MEMBERSHIP")
	c.Flags().IntVar(&limit, "limit", 50, "how many rows, 1 to 500")
	c.Flags().IntVar(&offset, "offset", 0, "how many of the newest rows to leave out")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
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
	for _, e := range entries {
		out = append(out, auditJSON{
			ID: e.ID, Time: e.Time.UTC(), Actor: e.Actor, Action: string(e.Action), Resource: e.Resource, User: e.User,
			Outcome: e.Outcome, Success: e.Success, Before: rawJSON(e.Before), After: rawJSON(e.After), Details: rawJSON(e.Details),
			Address: e.Address, UserAgent: e.UserAgent, RequestID: e.RequestID, Revision: e.Revision,
		})
	}
	return out
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
