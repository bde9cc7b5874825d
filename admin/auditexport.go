package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	exportPage  = store.MaxAuditPage // rows that are in memory at once
	exportChunk = 64 << 10           // bytes that one write hands over: each has the server's time for a write
	exportGrace = 30 * time.Second   // to begin to write a page, beyond what its reading may take
)

// exportAudit answers all that the filters select, newest first, a row of the audit
// on each line. The first page is read before the answer begins, so that what is
// wrong with the request or the store has its status.
func (a *API) exportAudit(c *call) (reply, error) {
	if !c.ProtoAtLeast(1, 1) {
		// An answer of HTTP/1.0 ends where the connection does: one that is cut short
		// would look whole.
		return reply{}, badRequest("The export needs HTTP/1.1 or newer.")
	}
	_, query, err := readAuditQuery(c.URL.RawQuery, c.now, auditfilter.Filters)
	if err != nil {
		return reply{}, err
	}
	query.Tenant, query.Limit, query.NoTotal = c.key.Tenant, exportPage, true
	lines, more, err := a.exportPage(c.Context(), &query)
	if err != nil {
		return reply{}, err
	}
	stream := func(w http.ResponseWriter) error { return a.writeExport(c, w, query, lines, more) }
	return reply{stream: stream}, a.recordRead(c, "", store.AuditResource+"/export")
}

// exportPage reads a page as lines, and moves the query behind it.
func (a *API) exportPage(ctx context.Context, q *store.AuditQuery) (lines []byte, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.StoreTimeout)
	defer cancel()
	entries, _, err := a.cfg.Store.Audit(ctx, *q)
	if err != nil {
		return nil, false, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for i := range entries {
		row, err := auditRowOf(&entries[i])
		if err != nil {
			return nil, false, err
		}
		if err := enc.Encode(row); err != nil {
			return nil, false, err
		}
		q.Before = entries[i].ID
	}
	return out.Bytes(), len(entries) == q.Limit, nil
}

// writeExport writes page after page. Before each further one it asks again whether
// the key may read the audit: a key that is revoked gets no more of it.
func (a *API) writeExport(c *call, w http.ResponseWriter, q store.AuditQuery, lines []byte, more bool) error {
	rc := http.NewResponseController(w)
	for {
		for chunk := range slices.Chunk(lines, exportChunk) {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		// The deadline of the answer is not made for many pages.
		if err := rc.SetWriteDeadline(time.Now().Add(a.cfg.StoreTimeout + exportGrace)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if err := a.stillAdmits(c); err != nil {
			return err
		}
		var err error
		if lines, more, err = a.exportPage(c.Context(), &q); err != nil {
			return err
		}
	}
}

// stillAdmits asks anew, as of now, whether the call's key may do what it does.
func (a *API) stillAdmits(c *call) error {
	now := *c
	now.began = a.cfg.Cache.Now()
	key, reason, err := a.lookKey(&now, c.secret)
	switch {
	case err != nil:
		return err
	case reason != policy.ReasonOK:
		return authFailure(reason)
	case key.Tenant != c.key.Tenant || !permits(key.Scopes, c.route.scope):
		return missingScope(c.route.scope)
	}
	return nil
}
