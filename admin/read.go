package admin

import (
	"encoding/json"
	"net/url"
	"strconv"

	"portcullis/internal/store"
)

// The window of an audit page.
const (
	defaultLimit = 50
	maxLimit     = 500
	maxOffset    = 1<<31 - 1
)

type roleRow struct {
	Role        string `json:"role"`
	Description string `json:"description"`
}

func (a *API) listRoles(c *call) (reply, error) {
	roles, err := a.cfg.Store.RoleList(c.Context(), c.key.Tenant)
	if err != nil {
		return reply{}, err
	}
	rows := make([]roleRow, 0, len(roles))
	for _, r := range roles {
		rows = append(rows, roleRow{Role: r.Name, Description: r.Description})
	}
	rows, err = page(c, rows)
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, "", "roles")
}

type auditPage struct {
	Total   int        `json:"total"`
	Limit   int        `json:"limit"`
	Offset  int        `json:"offset"`
	Entries []auditRow `json:"entries"`
}

// auditRow has Auth's columns without client_id. What Portcullis records beyond
// them is in Details.
type auditRow struct {
	ID        int64          `json:"id"`
	Timestamp string         `json:"timestamp"`
	User      *string        `json:"user"`
	Action    store.Action   `json:"action"`
	Resource  string         `json:"resource"`
	Details   map[string]any `json:"details"`
	Address   *string        `json:"ip_address"`
	UserAgent *string        `json:"user_agent"`
	Success   bool           `json:"success"`
}

func (a *API) readAudit(c *call) (reply, error) {
	query, err := parseAuditQuery(c.URL.RawQuery)
	if err != nil {
		return reply{}, err
	}
	query.Tenant = c.key.Tenant
	entries, total, err := a.cfg.Store.Audit(c.Context(), query)
	if err != nil {
		return reply{}, err
	}
	page := auditPage{Total: total, Limit: query.Limit, Offset: query.Offset, Entries: make([]auditRow, 0, len(entries))}
	for i := range entries {
		row, err := auditRowOf(&entries[i])
		if err != nil {
			return reply{}, err
		}
		page.Entries = append(page.Entries, row)
	}
	return reply{value: page, message: "Retrieved " + strconv.Itoa(len(entries)) + " audit entries"}, a.recordRead(c, "", "audit")
}

// parseAuditQuery reads limit, offset and action; other parameters are ignored.
func parseAuditQuery(query string) (store.AuditQuery, error) {
	none := store.AuditQuery{}
	q, err := url.ParseQuery(query)
	if err != nil {
		return none, badRequest("Invalid query string.")
	}
	limit, err := intValue(q, "limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return none, err
	}
	offset, err := intValue(q, "offset", 0, 0, maxOffset)
	if err != nil {
		return none, err
	}
	action, _, err := oneValue(q, "action")
	if err != nil {
		return none, err
	}
	if action != "" && !validAction(action) {
		return none, badRequest("Invalid action: " + echo(action) + ". Must be 1-64 letters and underscores, such as ADD_MEMBERSHIP.")
	}
	out := store.AuditQuery{Limit: limit, Offset: offset}
	if action != "" {
		out.Actions = []store.Action{store.Action(action)}
	}
	return out, nil
}

func intValue(q url.Values, name string, unset, least, most int) (int, error) {
	text, given, err := oneValue(q, name)
	if err != nil || !given {
		return unset, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, badRequest("Invalid " + name + ": " + echo(text) + ". Must be an integer from " +
			strconv.Itoa(least) + " to " + strconv.Itoa(most) + ".")
	}
	return n, nil
}

func validAction(s string) bool {
	if len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if b := s[i]; b != '_' && !(b >= 'a' && b <= 'z') && !(b >= 'A' && b <= 'Z') {
			return false
		}
	}
	return true
}

// auditRowOf shows an entry as Auth does, and puts into its details who acted,
// what was before and after, and where in the history it stands.
func auditRowOf(e *store.AuditEntry) (auditRow, error) {
	details := map[string]any{}
	if e.Details != "" {
		if err := json.Unmarshal([]byte(e.Details), &details); err != nil {
			return auditRow{}, err
		}
	}
	for name, text := range map[string]string{"before": e.Before, "after": e.After} {
		if text != "" {
			details[name] = json.RawMessage(text)
		}
	}
	details["actor"] = e.Actor
	details["outcome"] = e.Outcome
	details["revision"] = e.Revision
	details["request_id"] = e.RequestID
	return auditRow{
		ID:        e.ID,
		Timestamp: timestamp(e.Time),
		User:      orNull(e.User),
		Action:    e.Action,
		Resource:  e.Resource,
		Details:   details,
		Address:   orNull(e.Address),
		UserAgent: orNull(e.UserAgent),
		Success:   e.Success,
	}, nil
}

// orNull is nil, which JSON shows as null, for the empty string.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
