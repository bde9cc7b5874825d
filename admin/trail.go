package admin

import (
	"time"

	"portcullis/internal/store"
)

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
func (a *API) recordRead(c *call, resource string) error {
	if !a.cfg.AuditChecks {
		return nil
	}
	return a.record(c, store.AuditEntry{Resource: resource, Outcome: "done", Success: true, Revision: a.cfg.Cache.Applied()})
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
