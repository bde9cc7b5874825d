package store

import (
	"reflect"
	"testing"
	"time"

	"portcullis/internal/chain"
)

// TestAuditOf: an entry comes back from what its chain commits to as it was.
func TestAuditOf(t *testing.T) {
	e := AuditEntry{
		ID: 7, Time: time.UnixMicro(1772625600000001).UTC(), Tenant: 3, Actor: "cli", User: "amy", Action: ActionAddMembership,
		Resource: "membership/editor", Before: "b", After: "a", Details: "d", Outcome: "done", Success: true, Address: "203.0.113.9",
		UserAgent: "agent", RequestID: "request", Revision: 12,
	}
	for i, field := range reflect.VisibleFields(reflect.TypeFor[AuditEntry]()) {
		if reflect.ValueOf(e).Field(i).IsZero() {
			t.Errorf("%s is zero, which shows nothing", field.Name)
		}
	}
	row := e.ChainRow()
	if got := AuditOf(&row); got != e {
		t.Errorf("came back as %+v", got)
	}
	if got := AuditOf(&chain.Row{ID: 7, Texts: []string{"cli"}}); got.ID != 7 || got.Actor != "cli" {
		t.Errorf("of a row that is cut off: %+v", got)
	}
}
