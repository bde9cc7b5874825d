package admin

import (
	"context"
	"net/netip"
	"time"

	"portcullis/internal/clientaddr"
)

// Routes lists the route table as "METHOD pattern", for the tests that must
// cover every row of it.
func (a *API) Routes() []string {
	var out []string
	for _, r := range a.allRoutes() {
		out = append(out, r.method+" "+r.pattern)
	}
	return out
}

// NoteFailure counts a failed authentication of an address.
func (a *API) NoteFailure(addr, reason string) {
	a.failed.note(clientaddr.Network(netip.MustParseAddr(addr)), reason)
}

// WriteFailures ends the minute and writes what there is, without a wait after a
// write that failed. Run must not be in flight.
func (a *API) WriteFailures(ctx context.Context) {
	a.failed.endMinute(true)
	a.failed.after = time.Time{}
	a.failed.flush(ctx)
}
