package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// trippedStore counts the calls to a store and lets a test trip some of them up.
type trippedStore struct {
	store.Store

	mu    sync.Mutex
	calls map[string]int
	trips map[string]func(context.Context) error
}

func newTrippedStore(s store.Store) *trippedStore {
	return &trippedStore{Store: s, calls: map[string]int{}, trips: map[string]func(context.Context) error{}}
}

// trip makes a call end as f does, before it reaches the store; nil mends it.
func (s *trippedStore) trip(call string, f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips[call] = f
}

func (s *trippedStore) count(calls ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range calls {
		n += s.calls[c]
	}
	return n
}

func (s *trippedStore) enter(ctx context.Context, call string) error {
	s.mu.Lock()
	s.calls[call]++
	f := s.trips[call]
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (s *trippedStore) Head(ctx context.Context) (store.Head, error) {
	if err := s.enter(ctx, "Head"); err != nil {
		return store.Head{}, err
	}
	return s.Store.Head(ctx)
}

func (s *trippedStore) Delta(ctx context.Context, after store.Revision, tenants []store.TenantID) (store.Delta, error) {
	if err := s.enter(ctx, "Delta"); err != nil {
		return store.Delta{}, err
	}
	return s.Store.Delta(ctx, after, tenants)
}

func (s *trippedStore) Key(ctx context.Context, d store.Digest) (store.KeyRow, error) {
	if err := s.enter(ctx, "Key"); err != nil {
		return store.KeyRow{}, err
	}
	return s.Store.Key(ctx, d)
}

func (s *trippedStore) Grant(ctx context.Context, t store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	if err := s.enter(ctx, "Grant"); err != nil {
		return store.GrantRow{}, err
	}
	return s.Store.Grant(ctx, t, kind, id)
}

func (s *trippedStore) PutRole(ctx context.Context, by store.Actor, t store.TenantID, role string, description *string) (store.Result, error) {
	if err := s.enter(ctx, "PutRole"); err != nil {
		return store.Result{}, err
	}
	return s.Store.PutRole(ctx, by, t, role, description)
}

func (s *trippedStore) RoleList(ctx context.Context, t store.TenantID) ([]store.Role, error) {
	if err := s.enter(ctx, "RoleList"); err != nil {
		return nil, err
	}
	return s.Store.RoleList(ctx, t)
}

func (s *trippedStore) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	if err := s.enter(ctx, "RecordAudit"); err != nil {
		return err
	}
	return s.Store.RecordAudit(ctx, entries)
}

// trippedHouse is a house on SQLite whose store can be tripped up.
func trippedHouse(t *testing.T, o options) (*house, *trippedStore) {
	t.Helper()
	var s *trippedStore
	o.wrap = func(inner store.Store) store.Store { s = newTrippedStore(inner); return s }
	return newHouse(t, o), s
}

func fails(err error) func(context.Context) error { return func(context.Context) error { return err } }

func TestJunkKeysCostNoQuery(t *testing.T) {
	h, s := trippedHouse(t, options{})
	h.ask("manager", "GET", "/api/has_permission/alice/edit") // warm
	before := s.count("Key", "Grant", "Head", "RoleList")
	for range 500 {
		junk := identity.NewClientKey()
		got := h.send("GET /api/has_permission/alice/edit HTTP/1.1", []string{"Authorization: Bearer " + string(junk[:])}, "")
		if got.status != 401 {
			t.Fatalf("a junk key: %d %s", got.status, got.body)
		}
	}
	if after := s.count("Key", "Grant", "Head", "RoleList"); after != before {
		t.Errorf("500 junk keys made %d queries", after-before)
	}
}

func TestWarmChecksCostNoQuery(t *testing.T) {
	h, s := trippedHouse(t, options{})
	h.ask("manager", "POST", "/api/role/editor")
	h.ask("manager", "POST", "/api/membership/alice/editor")
	for _, target := range []string{"/api/has_permission/alice/edit", "/api/membership/alice/editor", "/api/permission/editor/edit"} {
		// ristretto takes a value in some time after it was set.
		eventually(t, target+" is answered from memory", func() bool {
			before := s.count("Key", "Grant", "Head", "RoleList")
			h.ask("manager", "GET", target)
			return s.count("Key", "Grant", "Head", "RoleList") == before
		})
	}
}

func TestFailedAuthenticationsAreCountedByReason(t *testing.T) {
	h, _ := trippedHouse(t, options{})
	h.ask("nobody", "GET", "/api/roles")
	h.ask("nobody", "GET", "/api/roles", "Authorization: Token x")
	h.ask("nobody", "GET", "/api/roles", "Authorization: Bearer x")
	h.ask("unknown", "GET", "/api/roles")
	h.ask("manager", "GET", "/api/roles", "Authorization: Bearer x")
	h.ask("manager", "GET", "/api/audit/none")
	h.ask("check", "GET", "/api/roles")
	h.metricsAre("portcullis_admin_auth_failures_total", `
# HELP portcullis_admin_auth_failures_total Requests to the admin API that brought no valid client key, by reason.
# TYPE portcullis_admin_auth_failures_total counter
portcullis_admin_auth_failures_total{reason="bad_key"} 2
portcullis_admin_auth_failures_total{reason="conflicting_credentials"} 1
portcullis_admin_auth_failures_total{reason="expired"} 0
portcullis_admin_auth_failures_total{reason="invalid_token"} 1
portcullis_admin_auth_failures_total{reason="missing_credential"} 1
portcullis_admin_auth_failures_total{reason="revoked"} 0
`)
}

// A key that runs out, or is revoked, while this process holds it is refused on
// the next request.
func TestAKeyIsRefusedTheMomentItEnds(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		ctx, by := t.Context(), store.Actor{Name: "cli"}
		secret := identity.NewClientKey()
		h.keys["brief"] = string(secret[:])
		expires := time.Now().Add(1500 * time.Millisecond)
		_, result, err := h.store.CreateKey(ctx, by, store.NewKey{
			Tenant: h.tenants[store.DefaultTenant], Name: "brief", Digest: identity.KeyDigest(secret),
			Scopes: store.DefaultScopes(), Expires: expires,
		})
		must(t, err)
		must(t, h.cache.CatchUp(ctx, result.Revision.Number))
		if got := h.ask("brief", "GET", "/api/roles"); got.status != 200 {
			t.Errorf("before it expires: %d %s", got.status, got.body)
		}
		time.Sleep(time.Until(expires) + time.Millisecond)
		if got := h.ask("brief", "GET", "/api/roles"); got.status != 401 {
			t.Errorf("after it expired: %d %s", got.status, got.body)
		}
		if n := h.authFailures("expired"); n != 1 {
			t.Errorf("%g failures counted as expired, want 1", n)
		}

		if got := h.ask("manager", "GET", "/api/roles"); got.status != 200 {
			t.Errorf("before it is revoked: %d %s", got.status, got.body)
		}
		_, result, err = h.store.RevokeKeys(ctx, by, h.tenants[store.DefaultTenant], "manager")
		must(t, err)
		must(t, h.cache.CatchUp(ctx, result.Revision.Number))
		if got := h.ask("manager", "GET", "/api/roles"); got.status != 401 {
			t.Errorf("after it was revoked: %d %s", got.status, got.body)
		}
	})
}

func TestRequestsAreCountedByPatternNeverByName(t *testing.T) {
	h, _ := trippedHouse(t, options{})
	h.ask("manager", "POST", "/api/role/editor")
	h.ask("manager", "POST", "/api/role/viewer")
	h.ask("manager", "POST", "/api/role/no%20name")
	h.ask("nobody", "POST", "/api/role/editor")
	h.ask("manager", "SHOUT", "/api/role/editor")
	h.ask("nobody", "GET", "/some/path")
	h.metricsAre("portcullis_admin_requests_total", `
# HELP portcullis_admin_requests_total Requests to the admin API by route pattern, method and status code.
# TYPE portcullis_admin_requests_total counter
portcullis_admin_requests_total{code="200",method="POST",route="/api/role/{role}"} 2
portcullis_admin_requests_total{code="400",method="POST",route="/api/role/{role}"} 1
portcullis_admin_requests_total{code="401",method="POST",route="/api/role/{role}"} 1
portcullis_admin_requests_total{code="404",method="GET",route="none"} 1
portcullis_admin_requests_total{code="405",method="other",route="/api/role/{role}"} 1
`)
	h.metricsAre("portcullis_audit_events_total", `
# HELP portcullis_audit_events_total Audit rows committed for requests to the admin API, by action.
# TYPE portcullis_audit_events_total counter
portcullis_audit_events_total{action="CREATE_ROLE"} 3
`)
}

// authFailures is how many failed authentications were counted for the reason.
func (h *house) authFailures(reason string) float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	must(h.t, err)
	for _, f := range families {
		if f.GetName() != "portcullis_admin_auth_failures_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func (h *house) metricsAre(name, want string) {
	h.t.Helper()
	if err := testutil.GatherAndCompare(h.metrics, strings.NewReader(want), name); err != nil {
		h.t.Error(err)
	}
}

func TestChecksAreAuditedWhereAskedFor(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			h := newHouse(t, options{open: b.open, auditChecks: true})
			h.ask("manager", "POST", "/api/role/editor")
			h.ask("manager", "POST", "/api/membership/alice/editor")
			for _, target := range []string{"/api/has_permission/alice/edit", "/api/membership/alice/editor", "/api/permission/editor/edit", "/api/roles", "/api/audit"} {
				if got := h.ask("manager", "GET", target, "X-Request-Id: read"); got.status != 200 {
					t.Fatalf("GET %s: %d %s", target, got.status, got.body)
				}
			}
			entries, _, err := h.store.Audit(t.Context(), store.AuditQuery{Tenant: h.tenants[store.DefaultTenant], Limit: 500})
			must(t, err)
			var got []string
			for _, e := range entries {
				if e.RequestID == "read" {
					got = append(got, fmt.Sprintf("%s %s %s %s %s success=%t", e.Actor, e.Action, e.Resource, e.User, e.Outcome, e.Success))
				}
			}
			want := []string{ // newest first
				"client:manager GET_AUDIT audit  done success=true",
				"client:manager LIST_ROLES roles  done success=true",
				"client:manager CHECK_PERMISSION permission/editor/edit  denied success=false",
				"client:manager CHECK_MEMBERSHIP membership/editor alice done success=true",
				"client:manager CHECK_PERMISSION permission/edit alice denied success=false",
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestChecksAreNotAuditedUnasked(t *testing.T) {
	h, s := trippedHouse(t, options{})
	h.ask("manager", "GET", "/api/has_permission/alice/edit")
	h.ask("manager", "GET", "/api/roles")
	h.ask("manager", "GET", "/api/audit")
	if n := s.count("RecordAudit"); n != 0 {
		t.Errorf("%d audit rows", n)
	}
}

// Who asked for a complete trail gets no answer that is not in it.
func TestAnAnswerWhoseAuditRowIsLostIsNotGiven(t *testing.T) {
	h, s := trippedHouse(t, options{auditChecks: true})
	s.trip("RecordAudit", fails(errors.New("disk full")))
	got := h.ask("manager", "GET", "/api/has_permission/alice/edit")
	if got.status != 500 || strings.Contains(got.body, "has_permission") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestFaultsOfTheStore(t *testing.T) {
	h, s := trippedHouse(t, options{})
	for _, c := range []struct {
		err     error
		status  int
		message string
	}{
		{errors.New("constraint violated in row 17 of alice"), 500, "An internal error occurred"},
		{fmt.Errorf("put role: %w", store.ErrNotFound), 404, "Not found."},
		{fmt.Errorf("put role: %w", store.ErrExists), 409, "It exists already."},
		{fmt.Errorf("put role: %w", store.ErrKeyCap), 400, "The user has 25 active API keys, the most there may be. Revoke one first."},
		{fmt.Errorf("put role: %w", store.ErrNotKeyBacked), 409, `{"result": false, "reason": "user_not_key_backed", "hint": "<any>"}`},
		{fmt.Errorf("put role: %w", store.ErrCycle), 409, "The role would inherit from itself."},
		{fmt.Errorf("put role: %w", store.ErrRevoked), 409, "It was revoked."},
		{fmt.Errorf("put role: %w", store.ErrSchema), 503, "The service cannot answer right now. Try again shortly."},
		{fmt.Errorf("put role: %w", context.DeadlineExceeded), 503, "The service cannot answer right now. Try again shortly."},
		{fmt.Errorf("put role: %w", store.ErrEncryption), 503, "The service cannot answer right now. Try again shortly."},
		{fmt.Errorf("put role: %w", store.ErrKeyGone), 503, "The service cannot answer right now. Try again shortly."},
		{fmt.Errorf("put role: roles.description of row 7 does not open: %w", store.ErrUnreadable), 500,
			"A stored value does not open: it was changed, or its key is missing. The log says which, under request id faulty."},
		{fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), 503, "The service cannot answer right now. Try again shortly."},
	} {
		s.trip("PutRole", fails(c.err))
		got := h.ask("manager", "POST", "/api/role/editor", "X-Request-Id: faulty")
		if err := got.match(c.status, c.message); err != nil {
			t.Errorf("%v: %v", c.err, err)
		}
		if got.header.Get("X-Auth-Revision") != "" {
			t.Errorf("%v: a revision for what was not written", c.err)
		}
		if c.status >= 500 && !strings.Contains(h.log.String(), "request_id=faulty") {
			t.Errorf("%v: not in the log", c.err)
		}
	}
	if !strings.Contains(h.log.String(), "row 17 of alice") {
		t.Error("the operator does not see the cause")
	}
	if !strings.Contains(h.log.String(), "roles.description of row 7") || !strings.Contains(h.log.String(), "route=/api/role/{role}") {
		t.Error("the operator does not see what does not open")
	}
}

// A check that needs a value which does not open is a 500: no proxy in between may
// take it for a store that is away.
func TestACheckThatNeedsAnUnreadableValueIsA500(t *testing.T) {
	h, s := trippedHouse(t, options{})
	s.trip("Grant", fails(fmt.Errorf("load a grant: memberships.principal_id of row 7 does not open: %w", store.ErrUnreadable)))
	for _, target := range []string{"/api/has_permission/alice/edit", "/api/membership/alice/editor"} {
		if got := h.ask("manager", "GET", target); got.status != 500 || strings.Contains(got.body, "has_permission\":") {
			t.Errorf("GET %s: %d %s", target, got.status, got.body)
		}
	}
	// Which row it is the store itself tells the log.
}

func TestAPanicIsA500AndTheServerGoesOn(t *testing.T) {
	h, s := trippedHouse(t, options{})
	s.trip("RoleList", func(context.Context) error { panic("planted") })
	got := h.ask("manager", "GET", "/api/roles")
	if err := got.match(500, "An internal error occurred"); err != nil || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %s: %v", got.status, got.body, err)
	}
	s.trip("RoleList", nil)
	if got := h.ask("manager", "GET", "/api/roles"); got.status != 200 {
		t.Errorf("after the panic: %d %s", got.status, got.body)
	}
	h.metricsAre("portcullis_admin_panics_total", `
# HELP portcullis_admin_panics_total Requests to the admin API that ended in a recovered panic.
# TYPE portcullis_admin_panics_total counter
portcullis_admin_panics_total 1
`)
	if !strings.Contains(h.log.String(), "planted") || !strings.Contains(h.log.String(), "fault_test.go") {
		t.Error("the log does not tell what panicked and where")
	}
}

// Past its staleness bound the API refuses as the gate does, and it comes back
// with the store.
func TestAStaleCacheAnswersNothing(t *testing.T) {
	h, s := trippedHouse(t, options{staleness: 300 * time.Millisecond})
	s.trip("Delta", fails(errors.New("the store is away")))
	eventually(t, "checks are refused", func() bool {
		got := h.ask("manager", "GET", "/api/has_permission/alice/edit")
		if got.status != 200 && (got.status != 503 || got.header.Get("Retry-After") == "") {
			t.Fatalf("%d %s", got.status, got.body)
		}
		return got.status == 503
	})
	if got := h.ask("manager", "POST", "/api/role/editor"); got.status != 503 {
		t.Errorf("a write with a key that cannot be judged: %d %s", got.status, got.body)
	}
	s.trip("Delta", nil)
	eventually(t, "checks are answered again", func() bool {
		return h.ask("manager", "GET", "/api/has_permission/alice/edit").status == 200
	})
}

func TestHealth(t *testing.T) {
	h, s := trippedHouse(t, options{})
	s.trip("Head", fails(errors.New("the store is away")))
	eventually(t, "it is unhealthy", func() bool {
		got := h.ask("nobody", "GET", "/health")
		return got.status == 503 && got.body == `{"status":"unhealthy"}`+"\n"
	})
	s.trip("Head", nil)
	eventually(t, "it is healthy again", func() bool {
		got := h.ask("nobody", "GET", "/health")
		return got.status == 200 && got.body == `{"status":"healthy"}`+"\n"
	})
	before, began := s.count("Head"), time.Now()
	for range 300 {
		h.ask("nobody", "GET", "/health")
	}
	most := 1 + int(time.Since(began)/(500*time.Millisecond))
	if asked := s.count("Head") - before; asked > most {
		t.Errorf("300 requests asked the database %d times, want %d at most", asked, most)
	}
}
