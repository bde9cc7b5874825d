package admin

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
)

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

// readAudit answers a page. Where there are rows behind it, the Link header asks
// for them by a cursor, which new rows do not move.
func (a *API) readAudit(c *call) (reply, error) {
	texts, query, err := readAuditQuery(c.URL.RawQuery, c.now, auditfilter.Page)
	if err != nil {
		return reply{}, err
	}
	query.Tenant = c.key.Tenant
	beyond := query
	beyond.Limit++ // whether there are more
	entries, total, err := a.cfg.Store.Audit(c.Context(), beyond)
	if err != nil {
		return reply{}, err
	}
	if len(entries) > query.Limit {
		entries = entries[:query.Limit]
		next := auditfilter.Next(texts, &query, entries[len(entries)-1].ID)
		c.out.Set("Link", "<?"+next.Encode()+`>; rel="next"`)
	}
	page := auditPage{Total: total, Limit: query.Limit, Offset: query.Offset}
	if page.Entries, err = auditRowsOf(entries); err != nil {
		return reply{}, err
	}
	return reply{value: page, message: "Retrieved " + strconv.Itoa(len(entries)) + " audit entries"}, a.recordRead(c, "", store.AuditResource)
}

// readAuditQuery reads a query string, as the caller's mistake where it will not do.
func readAuditQuery(query string, now time.Time, read func(map[string][]string, time.Time) (store.AuditQuery, error)) (url.Values, store.AuditQuery, error) {
	texts, err := url.ParseQuery(query)
	if err != nil {
		return nil, store.AuditQuery{}, badRequest("Invalid query string.")
	}
	q, err := read(texts, now)
	var wrong *auditfilter.Error
	switch {
	case err == nil:
		return texts, q, nil
	case !errors.As(err, &wrong):
		return nil, store.AuditQuery{}, err
	case wrong.Twice:
		return nil, store.AuditQuery{}, badRequest("Invalid " + wrong.Field + ": given more than once.")
	}
	return nil, store.AuditQuery{}, badRequest("Invalid " + wrong.Field + ": " + echo(wrong.Text) + ". Must " + wrong.Must + ".")
}

func auditRowsOf(entries []store.AuditEntry) ([]auditRow, error) {
	rows := make([]auditRow, 0, len(entries))
	for i := range entries {
		row, err := auditRowOf(&entries[i])
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
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
