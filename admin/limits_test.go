package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/admin"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// The heart of it: an address whose failures are used up cannot try more keys at the
// store's expense, and whoever has a valid key is served from there all the same.
func TestFailuresBlockNobodyWithAKey(t *testing.T) {
	clock := newStillClock()
	var visits *storeVisits
	h := newHouse(t, options{
		proxies: ours(t), clock: clock.read, limits: admin.Limits{Failures: perMinute(5)},
		wrap: func(s store.Store) store.Store { visits = &storeVisits{Store: s}; return visits },
	})
	bad := from("198.51.100.7")
	served := func(when string) {
		t.Helper()
		for target, want := range map[string]int{"GET /api/roles": 200, "GET /api/has_permission/amy/read": 200, "POST /api/role/editor": 200, "GET /api/none": 404, "PATCH /api/roles": 405} {
			method, path, _ := strings.Cut(target, " ")
			if got := h.ask("manager", method, path, bad); got.status != want {
				t.Errorf("%s, %s with a valid key: %d, want %d: %s", when, target, got.status, want, got.body)
			}
		}
		if got := h.ask("check", "GET", "/api/roles", bad); got.status != 403 {
			t.Errorf("%s, a key without the scope: %d", when, got.status)
		}
		if got, _ := h.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}}, h.as("check"), bad); got.status != 200 {
			t.Errorf("%s, a valid client: %d %s", when, got.status, got.body)
		}
	}
	served("before any failure")
	for i, got := range []answer{
		h.ask("nobody", "GET", "/api/roles", bad),
		h.ask("nobody", "GET", "/api/roles", bad, "Authorization: Token x"),
		h.ask("nobody", "GET", "/api/roles", bad, "Authorization: Bearer x"), // 400
		h.ask("unknown", "GET", "/api/roles", bad),
		h.ask("revoked", "GET", "/api/none", bad),
	} {
		if want := map[int]int{2: 400}[i]; got.status != want && (want != 0 || got.status != 401) {
			t.Fatalf("failure %d: %d %s", i+1, got.status, got.body)
		}
	}
	before := visits.n.Load()
	for _, caller := range []string{"nobody", "unknown", "revoked", "expired"} {
		for _, target := range []string{"GET /api/roles", "GET /api/none", "POST /api/keys/rotate", "PATCH /api/roles"} {
			method, path, _ := strings.Cut(target, " ")
			got := h.ask(caller, method, path, bad)
			if wait := is429(t, caller+" "+target, got, "failures"); wait != 12*time.Second {
				t.Errorf("Retry-After is %s", wait)
			}
			isErrorJ(t, got)
		}
	}
	if n := visits.n.Load() - before; n != 0 {
		t.Errorf("blocked requests went to the store %d times", n)
	}
	served("while its address is blocked")
	if got := h.ask("unknown", "GET", "/api/roles", from("198.51.100.8")); got.status != 401 {
		t.Errorf("the neighbour pays for it: %d", got.status)
	}
	if got := h.ask("nobody", "GET", "/ping", bad); got.status != 200 {
		t.Errorf("a public route of a blocked address: %d", got.status)
	}

	// Retry-After is the truth, to the second: the clock stands still in between.
	clock.pass(11 * time.Second)
	if wait := is429(t, "early", h.ask("unknown", "GET", "/api/roles", bad), "failures"); wait != time.Second {
		t.Errorf("a second early: wait %s", wait)
	}
	clock.pass(time.Second)
	if got := h.ask("unknown", "GET", "/api/roles", bad); got.status != 401 {
		t.Errorf("after the wait: %d", got.status)
	}
	is429(t, "the one after that", h.ask("unknown", "GET", "/api/roles", bad), "failures")
	served("at the end")

	if n := h.counter(t, "portcullis_admin_rate_limited_total", "failures"); n != 18 {
		t.Errorf("%v were counted as limited", n)
	}
	if n := h.counter(t, "portcullis_admin_auth_failures_total", "bad_key"); n < 8 {
		t.Errorf("%v bad keys were counted: blocked ones are failures too", n)
	}
}

// What is served costs the address nothing, so that its failures are its own.
func TestAValidKeyCostsItsAddressNothing(t *testing.T) {
	h := newHouse(t, options{
		proxies: ours(t), clock: newStillClock().read, limits: admin.Limits{Failures: perMinute(1), Unauthenticated: perMinute(2)},
	})
	for range 10 {
		if got := h.ask("manager", "GET", "/api/roles", from("192.0.2.1")); got.status != 200 {
			t.Fatalf("%d", got.status)
		}
	}
	if got := h.ask("nobody", "GET", "/ping", from("192.0.2.1")); got.status != 200 {
		t.Errorf("a public route: %d", got.status)
	}
	if got := h.ask("unknown", "GET", "/api/roles", from("192.0.2.1")); got.status != 401 {
		t.Errorf("its first failure: %d", got.status)
	}
	is429(t, "its second", h.ask("unknown", "GET", "/api/roles", from("192.0.2.1")), "failures")
}

func TestAddressesAreCountedAsTheyAreGivenOut(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second string
		shared        bool
	}{
		{"one IPv4 address", "192.0.2.1", "192.0.2.1", true},
		{"its neighbour", "192.0.2.1", "192.0.2.2", false},
		{"mapped into IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"one /64", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"the next /64", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"a client that names another before itself", "192.0.2.1", "203.0.113.5, 192.0.2.1", true},
		{"a proxy that is ours in between", "192.0.2.1", "192.0.2.1, 10.9.9.9", true},
		{"what no proxy of ours wrote", "192.0.2.1", "192.0.2.1, 203.0.113.5", false},
	} {
		h := newHouse(t, options{proxies: ours(t), clock: newStillClock().read, limits: admin.Limits{Failures: perMinute(1)}})
		if got := h.ask("unknown", "GET", "/api/roles", from(c.first)); got.status != 401 {
			t.Fatalf("%s: %d", c.name, got.status)
		}
		if got := h.ask("unknown", "GET", "/api/roles", from(c.second)); (got.status == 429) != c.shared {
			t.Errorf("%s: %d", c.name, got.status)
		}
	}
}

// Whom nobody vouches for does not choose its address.
func TestAForgedAddressGetsNobodyOn(t *testing.T) {
	h := newHouse(t, options{clock: newStillClock().read, limits: admin.Limits{Failures: perMinute(5)}})
	for i := range 5 {
		if got := h.ask("unknown", "GET", "/api/roles", from(fmt.Sprintf("192.0.2.%d", i))); got.status != 401 {
			t.Fatalf("%d: %d", i, got.status)
		}
	}
	for i := range 5 {
		is429(t, "forged", h.ask("unknown", "GET", "/api/roles", from(fmt.Sprintf("192.0.2.%d", 100+i)), "X-Real-Ip: 192.0.2.9", "Forwarded: for=192.0.2.8"), "failures")
	}
}

func TestEachClassHasItsLimit(t *testing.T) {
	clock := newStillClock()
	h := newHouse(t, options{clock: clock.read, auditChecks: true, limits: admin.Limits{Reads: perMinute(6), Writes: perMinute(3), Failures: perMinute(5)}})
	reads := []string{"GET /api/roles", "GET /api/members/editor", "GET /api/none", "PATCH /api/roles", "HEAD /api/settings", "GET /api/audit/export"}
	for i, target := range reads {
		method, path, _ := strings.Cut(target, " ")
		got := h.ask("manager", method, path)
		left := strconv.Itoa(len(reads) - 1 - i)
		if got.status >= 429 || got.header.Get("RateLimit-Limit") != "6" || got.header.Get("RateLimit-Remaining") != left || got.header.Get("RateLimit-Reset") != strconv.Itoa(10*(i+1)) ||
			got.header.Get("RateLimit-Policy") != `"reads";q=6;w=60` || got.header.Get("RateLimit") != fmt.Sprintf(`"reads";r=%s;t=%d`, left, 10*(i+1)) {
			t.Errorf("%s: %d %v", target, got.status, got.header)
		}
	}
	got := h.ask("manager", "GET", "/api/roles")
	if wait := is429(t, "a read too many", got, "reads"); wait != 10*time.Second {
		t.Errorf("wait %s", wait)
	}
	isErrorJ(t, got)

	// Writes count by themselves, refused ones too: each has a row in the audit.
	for i, target := range []string{"POST /api/role/editor", "POST /api/role/no%20blank", "DELETE /api/membership/amy/editor"} {
		method, path, _ := strings.Cut(target, " ")
		if got := h.ask("manager", method, path); got.status == 429 || got.header.Get("RateLimit-Policy") != `"writes";q=3;w=60` || got.header.Get("RateLimit-Remaining") != strconv.Itoa(2-i) {
			t.Errorf("%s: %d %v", target, got.status, got.header)
		}
	}
	rows := h.auditRows(t, "default")
	if wait := is429(t, "a write too many", h.ask("manager", "POST", "/api/role/other"), "writes"); wait != 20*time.Second {
		t.Errorf("wait %s", wait)
	}
	if after := h.auditRows(t, "default"); after != rows {
		t.Errorf("limited writes leave %d rows in the audit", after-rows)
	}

	// Checks have none, whatever else is used up.
	for range 50 {
		for _, target := range []string{"/api/has_permission/amy/read", "/api/membership/amy/editor", "/api/permission/editor/read", "/api/user_permissions/amy", "/api/workflow/user/amy/can_run/deploy"} {
			if got := h.ask("manager", "GET", target); got.status != 200 || got.header.Get("RateLimit-Limit") != "" {
				t.Fatalf("%s: %d %v", target, got.status, got.header)
			}
		}
	}
	// Another key of another client has its own, and failing for want of a scope counts.
	for i, want := range []int{403, 403, 403, 429} {
		if got := h.ask("check", "POST", "/api/role/editor"); got.status != want {
			t.Errorf("write %d without the scope: %d", i+1, got.status)
		}
	}
	clock.pass(20 * time.Second)
	if got := h.ask("manager", "POST", "/api/role/other"); got.status != 200 {
		t.Errorf("after the wait: %d", got.status)
	}
	if got := h.ask("manager", "GET", "/api/roles"); got.status != 200 {
		t.Errorf("reads after the wait: %d", got.status)
	}
	if n := h.counter(t, "portcullis_admin_rate_limited_total", "writes"); n != 2 {
		t.Errorf("%v limited writes were counted", n)
	}
}

// Another secret of the same client is no other allowance.
func TestARotatedKeySharesItsLimit(t *testing.T) {
	h := newHouse(t, options{clock: newStillClock().read, limits: admin.Limits{Writes: perMinute(3)}})
	got, next := h.rotate(h.keys["manager"], "?overlap=1h")
	if got.status != 200 {
		t.Fatal(got)
	}
	bearer := func(key string) string { return "Authorization: Bearer " + key }
	for i, key := range []string{h.keys["manager"], next} {
		if got := h.ask("nobody", "POST", "/api/role/editor", bearer(key)); got.status != 200 || got.header.Get("RateLimit-Remaining") != strconv.Itoa(1-i) {
			t.Errorf("%d: %d %v", i, got.status, got.header)
		}
	}
	is429(t, "the new secret", h.ask("nobody", "POST", "/api/role/editor", bearer(next)), "writes")
	if got := h.ask("stranger", "POST", "/api/role/editor"); got.status != 200 {
		t.Errorf("another tenant's client: %d", got.status)
	}
}

func TestOAuthClientsAreLimited(t *testing.T) {
	clock := newStillClock()
	var visits *storeVisits
	h := newHouse(t, options{
		proxies: ours(t), clock: clock.read, limits: admin.Limits{Reads: perMinute(4), Writes: perMinute(4), Failures: perMinute(3)},
		wrap: func(s store.Store) store.Store { visits = &storeVisits{Store: s}; return visits },
	})
	token := url.Values{"grant_type": {"client_credentials"}, "token": {"x"}}
	oauth429 := func(what string, got answer, body map[string]any, limit string) {
		t.Helper()
		is429(t, what, got, limit)
		if len(body) != 2 || body["error"] != "temporarily_unavailable" || body["error_description"] == "" {
			t.Errorf("%s: %v", what, body)
		}
	}
	bad := from("198.51.100.7")
	if got := h.ask("check", "GET", "/api/has_permission/amy/read"); got.status != 200 { // its key is in memory from now on
		t.Fatal(got)
	}
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		if got, body := h.post(path, token, basic("default/check", h.keys["unknown"]), bad); got.status != 401 || body["error"] != "invalid_client" {
			t.Fatalf("%s: %d %v", path, got.status, body)
		}
	}
	before := visits.n.Load()
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		got, body := h.post(path, token, basic("default/check", h.keys["unknown"]), bad)
		oauth429(path, got, body, "failures")
		got, body = h.post(path, token, basic("default/manage", h.keys["check"]), bad) // a live secret under another name
		oauth429(path, got, body, "failures")
		got, body = h.post(path, token, bad)
		oauth429(path, got, body, "failures")
	}
	if n := visits.n.Load() - before; n != 0 {
		t.Errorf("blocked clients went to the store %d times", n)
	}
	if got := h.ask("unknown", "GET", "/api/roles", bad); got.status != 429 {
		t.Errorf("/api and /oauth have one limit an address: %d", got.status)
	}

	// A valid client is served from there, and has its own limits.
	for range 4 {
		if got, _ := h.post("/oauth/token", token, h.as("check"), bad); got.status != 200 || !strings.HasPrefix(got.header.Get("RateLimit-Policy"), `"writes"`) {
			t.Fatalf("a valid client: %d %s", got.status, got.body)
		}
		if got, _ := h.post("/oauth/introspect", token, h.as("check"), bad); got.status != 200 || !strings.HasPrefix(got.header.Get("RateLimit-Policy"), `"reads"`) {
			t.Fatalf("a valid client: %d %s", got.status, got.body)
		}
	}
	rows := h.auditRows(t, "default")
	got, body := h.post("/oauth/revoke", token, h.as("check"), bad)
	oauth429("a write too many", got, body, "writes")
	got, body = h.post("/oauth/introspect", token, h.as("check"), bad)
	oauth429("a read too many", got, body, "reads")
	if after := h.auditRows(t, "default"); after != rows {
		t.Errorf("limited requests leave %d rows in the audit", after-rows)
	}
}

// Guesses at a refresh token are failures of the address; the client is served.
func TestGuessedGrantsCount(t *testing.T) {
	h := newHouse(t, options{proxies: ours(t), clock: newStillClock().read, limits: admin.Limits{Failures: perMinute(2)}})
	for range 4 {
		guess := identity.NewRefreshToken()
		if got, body := h.post("/oauth/token", refreshForm(string(guess[:])), h.as("tokens"), from("192.0.2.1")); got.status != 400 || body["error"] != "invalid_grant" {
			t.Fatalf("%d %v", got.status, body)
		}
	}
	is429(t, "a failure after that", h.ask("unknown", "GET", "/api/roles", from("192.0.2.1")), "failures")
	h.api.WriteFailures(t.Context())
	if got := h.failedRows(t); len(got) != 2 || got[0].Reason+got[1].Reason != "bad_keyinvalid_grant" && got[0].Reason+got[1].Reason != "invalid_grantbad_key" {
		t.Errorf("rows %+v", got)
	}
}

func TestRequestsWithoutAKeyAreLimitedInAll(t *testing.T) {
	h := newHouse(t, options{proxies: ours(t), clock: newStillClock().read, limits: admin.Limits{Unauthenticated: perMinute(6), Failures: perMinute(2)}})
	a := from("192.0.2.1")
	for _, c := range []struct {
		caller, method, path string
		status               int
	}{
		{"nobody", "GET", "/ping", 200}, {"nobody", "GET", "/health", 200}, {"nobody", "HEAD", "/ping", 200},
		{"nobody", "GET", "/none", 404}, {"unknown", "GET", "/api/roles", 401}, {"nobody", "DELETE", "/ping", 405},
	} {
		if got := h.ask(c.caller, c.method, c.path, a); got.status != c.status {
			t.Fatalf("%+v: %d %s", c, got.status, got.body)
		}
	}
	for _, path := range []string{"/ping", "/health", "/none"} {
		got := h.ask("nobody", "GET", path, a)
		is429(t, path, got, "unauthenticated")
		isErrorJ(t, got)
	}
	is429(t, "without a key", h.ask("nobody", "GET", "/api/roles", a), "unauthenticated")
	got, body := h.post("/oauth/token", url.Values{}, a)
	if is429(t, "/oauth", got, "failures"); body["error"] != "temporarily_unavailable" {
		t.Errorf("%v", body)
	}
	if got := h.ask("manager", "GET", "/api/roles", a); got.status != 200 {
		t.Errorf("a valid key: %d", got.status)
	}
	// A page of an allowed origin asks before each request; that must not depend on
	// what others at its address do.
	if got := h.ask("nobody", "OPTIONS", "/api/roles", a); got.status != 200 {
		t.Errorf("OPTIONS: %d", got.status)
	}
	if got := h.ask("nobody", "GET", "/ping", from("192.0.2.2")); got.status != 200 {
		t.Errorf("the neighbour: %d", got.status)
	}
}

// A key that was rotated away opens nothing but its own reply, and asking for that is
// no failure; from a blocked address it has to wait.
func TestARetriedRotationIsNoFailure(t *testing.T) {
	clock := newStillClock()
	h := newHouse(t, options{proxies: ours(t), clock: clock.read, limits: admin.Limits{Failures: perMinute(2), Unauthenticated: perMinute(4)}})
	a, old := from("192.0.2.1"), h.keys["manager"]
	_, next := h.rotate(old, "", a)
	for range 5 {
		if got, again := h.rotate(old, "", a); got.status != 200 || again != next {
			t.Fatalf("a retry: %d %s", got.status, got.body)
		}
	}
	for range 2 {
		if got := h.ask("unknown", "POST", "/api/keys/rotate", a); got.status != 401 {
			t.Fatalf("a failure: %d", got.status)
		}
	}
	got, _ := h.rotate(old, "", a)
	clock.pass(is429(t, "a retry from a blocked address", got, "failures"))
	if got, again := h.rotate(old, "", a); got.status != 200 || again != next {
		t.Errorf("a retry after the wait: %d %s", got.status, got.body)
	}
}

// With open tenancy a key that nobody knows is a valid one, at its own pace.
func TestOpenTenancyIsNoFailure(t *testing.T) {
	h := newHouse(t, options{proxies: ours(t), openTenancy: true, clock: newStillClock().read, limits: admin.Limits{Failures: perMinute(1), Unauthenticated: perMinute(2)}})
	a := from("192.0.2.1")
	for range 2 {
		h.ask("nobody", "GET", "/api/roles", a)
	}
	is429(t, "blocked", h.ask("nobody", "GET", "/api/roles", a), "failures")
	for range 5 {
		key := identity.NewClientKey()
		if got := h.ask("nobody", "GET", "/api/roles", a, "Authorization: Bearer "+string(key[:])); got.status != 200 {
			t.Fatalf("a first use: %d %s", got.status, got.body)
		}
	}
	is429(t, "a revoked key", h.ask("revoked", "GET", "/api/roles", a), "failures")
}

// A fault of ours is not the caller's failure.
func TestAFaultIsNoFailure(t *testing.T) {
	clock := newStillClock()
	var tripped *trippedStore
	h := newHouse(t, options{
		proxies: ours(t), clock: clock.read, staleness: 10 * time.Second, limits: admin.Limits{Failures: perMinute(1), Unauthenticated: perMinute(1)},
		wrap: func(s store.Store) store.Store { tripped = newTrippedStore(s); return tripped },
	})
	away := func(context.Context) error { return errors.New("away") }
	tripped.trip("Head", away)
	tripped.trip("Delta", away)
	clock.pass(time.Minute)
	for range 5 {
		for _, caller := range []string{"manager", "unknown"} {
			if got := h.ask(caller, "GET", "/api/roles", from("192.0.2.1")); got.status != 503 {
				t.Fatalf("%s: %d", caller, got.status)
			}
		}
	}
	tripped.trip("Head", nil)
	tripped.trip("Delta", nil)
	eventually(t, "the cache has heard from the store", func() bool { return h.ask("manager", "GET", "/api/roles").status == 200 })
	if got := h.ask("unknown", "GET", "/api/roles", from("192.0.2.1")); got.status != 401 {
		t.Errorf("the first failure: %d", got.status)
	}
}

func TestLimitMetricsAreThereFromTheStart(t *testing.T) {
	h := newHouse(t, options{})
	for _, limit := range []string{"reads", "writes", "failures", "unauthenticated"} {
		if n := h.counter(t, "portcullis_admin_rate_limited_total", limit); n != 0 {
			t.Errorf("%s: %v", limit, n)
		}
	}
	if problems, err := testutil.GatherAndLint(h.metrics); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if got := h.ask("manager", "GET", "/api/roles"); got.header.Get("RateLimit-Limit") != "" || got.header.Get("RateLimit") != "" || got.header.Get("RateLimit-Policy") != "" {
		t.Errorf("headers of limits that are off: %v", got.header)
	}
}
