package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"portcullis/internal/store"
)

// permissionResource is a permission in the audit, where no role is named.
func permissionResource(permission string) string { return "permission/" + permission }

// recordCheck adds the audit row of a check, where Config.AuditChecks asks for
// it. As Auth has it, a negative answer is not a success.
func (a *API) recordCheck(c *call, user, resource string, holds bool, revision int64) error {
	if !a.cfg.AuditChecks {
		return nil
	}
	outcome := "denied"
	if holds {
		outcome = "done"
	}
	return a.record(c, store.AuditEntry{User: user, Resource: resource, Outcome: outcome, Success: holds, Revision: revision})
}

// recordRead adds the audit row of a listing, where Config.AuditChecks asks for
// it.
func (a *API) recordRead(c *call, user, resource string) error {
	if !a.cfg.AuditChecks {
		return nil
	}
	return a.record(c, store.AuditEntry{User: user, Resource: resource, Outcome: "done", Success: true, Revision: a.cfg.Cache.Applied()})
}

// recordKeyCheck is recordCheck for a presented user API key; key is nil where it
// opens nothing, for why. The secret stands in details as its fingerprint.
func (a *API) recordKeyCheck(c *call, key *store.UserKey, digest store.Digest, holds bool, why string) error {
	if !a.cfg.AuditChecks {
		return nil
	}
	e := store.AuditEntry{Resource: "api_key", Outcome: "denied", Success: holds, Revision: a.cfg.Cache.Applied()}
	if holds {
		e.Outcome = "done"
	}
	if key != nil {
		e.User, e.Resource = key.User, store.UserKeyResource(key.ID)
	}
	details := map[string]string{"fingerprint": fingerprint(c.key.Tenant, digest)}
	if why != "" {
		details["reason"] = why
	}
	text, err := json.Marshal(details)
	if err != nil {
		return err
	}
	e.Details = string(text)
	return a.record(c, e)
}

// refusalTimeout bounds how long the audit row of a refusal may hold up its
// answer.
const refusalTimeout = 2 * time.Second

// recordRefusal adds the audit row of a request that a live key made and that was
// answered 4xx: of writes always, of others where Config.AuditChecks asks for it.
// Nothing happened that the row must be kept for, so that a lost one is a warning
// and the refusal is given all the same. A 429 has none: what is limited must not
// reach the store. Names that were refused stay out of it.
func (a *API) recordRefusal(c *call, f *failure) {
	if c.route == nil || c.key == nil || f.limit != "" || f.status >= http.StatusInternalServerError || !(c.route.writes || a.cfg.AuditChecks) {
		return
	}
	user, resource := c.named()
	details, err := json.Marshal(map[string]int{"status": f.status})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), refusalTimeout)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
		err = a.record(c, store.AuditEntry{User: user, Resource: resource, Details: string(details), Outcome: "denied", Revision: a.cfg.Cache.Applied()})
	}
	if err != nil {
		a.cfg.Logger.Warn("the audit row of a refusal was lost", "request_id", c.id, "status", f.status, "error", err)
	}
}

// named is the user whom the path names, and the rest of the path as a resource.
// A parameter whose value was refused stands there by its own name.
func (c *call) named() (user, resource string) {
	segments := strings.Split(strings.TrimPrefix(c.route.pattern, "/api/"), "/")
	n := 0
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		rule, value := c.route.names[n], c.values[n]
		n++
		switch {
		case !rule.admits(value):
		case rule.user:
			user = value
		default:
			segments[i] = value
		}
	}
	return user, strings.Join(segments, "/")
}

// record fills in who asked and when. An answer whose row cannot be kept is not
// given: who asked for a complete trail gets no holes in it.
func (a *API) record(c *call, e store.AuditEntry) error {
	by := c.actor()
	e.Time = time.Unix(0, c.began.Wall)
	e.Tenant, e.Actor = by.Tenant, by.Name
	e.Action = c.route.action
	e.Address, e.UserAgent, e.RequestID = by.Address, by.UserAgent, by.RequestID
	if err := a.cfg.Store.RecordAudit(c.Context(), []store.AuditEntry{e}); err != nil {
		return err
	}
	a.metrics.audited(e.Action)
	return nil
}
