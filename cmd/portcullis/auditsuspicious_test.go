package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"portcullis/internal/suspicious"
)

// What is tried at the admin API of a running process is found: failed
// authentications by address, and operations that a valid key does not permit.
func TestWhatIsTriedAtTheAPIIsSuspicious(t *testing.T) {
	p := newPlace(t)
	checker := strings.TrimSpace(p.run("key", "new", "--name", "checker", "--scopes", "check"))
	s := p.start("serve")
	for i := range 21 {
		if got := s.status("GET", "/api/roles", fmt.Sprintf("11111111-1111-4111-8111-1111111111%02d", i)); got != 401 && got != 429 {
			t.Fatalf("key %d: %d", i, got)
		}
	}
	for i := range 11 {
		if got := s.status("POST", fmt.Sprintf("/api/role/r%d", i), checker); got != 403 {
			t.Fatalf("write %d: %d, want 403", i, got)
		}
	}
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := p.try("audit", "suspicious", "--json")
	var answer suspicionsJSON
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || code != int(exitNo) {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	found := map[string]suspicionJSON{}
	for _, f := range answer.Findings {
		found[f.Rule] = f
	}
	if f := found["auth-failures-address"]; f.Count != 21 || f.Tenant != "" || f.Actor != "unauthenticated" || f.What != "failed authentications from 127.0.0.1: 21 in all, 21 of them within 5m" {
		t.Errorf("failures: %+v", f)
	}
	if f := found["refused-operations"]; f.Count != 11 || f.Tenant != "default" || f.Actor != "client:checker" || len(f.Rows) != 10 || f.RowCount != 11 {
		t.Errorf("refusals: %+v", f)
	}
	if len(found) != 2 {
		t.Errorf("found %v", found)
	}
}

// Findings of many tenants are bounded together.
func TestSuspicionsAreBounded(t *testing.T) {
	s := auditSearch{more: map[string]int64{}}
	for range 3 {
		s.take(suspicious.Report{Findings: slices.Repeat([]suspicious.Finding{{Rule: suspicious.RoleDeleted}}, maxSuspicious/2)})
	}
	if len(s.found) != maxSuspicious || s.more[suspicious.RoleDeleted] != maxSuspicious/2 {
		t.Errorf("%d are kept and %v more counted", len(s.found), s.more)
	}
}
