package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"portcullis/envoy"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

// who answers a request.
type who int

const (
	upstream who = iota // the gate allowed it, and the upstream answered
	gate                // the gate was asked and denied it
	envoyOwn            // Envoy refused it and asked nobody
)

// scenario is one request and everything that must come of it.
type scenario struct {
	name     string
	listener string // default: ingress
	request  request
	before   func(t *testing.T, w *world, r *request)

	answers who
	status  int    // default: 200
	reason  string // of the gate

	// Of an allowed request: what the upstream must receive.
	identity map[string]string // the identity headers, all of them but decision id and revision; nil: none at all
	path     string            // default: as sent
	host     string            // default: as sent
	forwards []string          // credential headers that must arrive; all others must not
}

// user is the identity of a user of tenant default.
func user(subject, roles string) map[string]string {
	return principal("default", "user", subject, roles)
}

func principal(tenant, kind, subject, roles string) map[string]string {
	id := map[string]string{policy.HeaderTenant: tenant, policy.HeaderKind: kind, policy.HeaderSubject: subject}
	if roles != "" {
		id[policy.HeaderRoles] = roles
	}
	return id
}

func (w *world) run(t *testing.T, scenarios []scenario) {
	for _, s := range scenarios {
		if s.listener == "" {
			s.listener = envoy.ListenerIngress
		}
		if s.status == 0 {
			s.status = http.StatusOK
		}
		t.Run(s.name, func(t *testing.T) { w.play(t, s) })
	}
}

func (w *world) play(t *testing.T, s scenario) {
	if s.before != nil {
		s.before(t, w, &s.request)
	}
	asked, reached := w.counters(t, s.listener), w.upstream.Requests()
	resp := w.send(t, s.listener, s.request)
	moved := w.counters(t, s.listener).minus(asked)
	reached = w.upstream.Requests() - reached

	if resp.status != s.status {
		t.Errorf("status %d, want %d; body %.300q", resp.status, s.status, resp.body)
	}
	want := map[who]counters{upstream: {ok: 1}, gate: {denied: 1}, envoyOwn: {}}[s.answers]
	if moved != want {
		t.Errorf("Envoy's counters moved by: %v; want: %v", moved, want)
	}
	if s.answers != upstream {
		if reached != 0 {
			t.Errorf("the upstream was reached")
		}
		if s.answers == gate {
			checkDenial(t, s.request, resp, s.reason)
		}
		return
	}
	if reached != 1 {
		t.Errorf("%d requests reached the upstream, want 1", reached)
	}
	if s.request.method() == http.MethodHead || resp.status != http.StatusOK {
		return
	}
	var echo testkit.Echo
	if err := json.Unmarshal([]byte(resp.body), &echo); err != nil {
		t.Fatalf("the upstream's echo %.300q: %v", resp.body, err)
	}
	checkReceived(t, s, echo)
}

// checkDenial holds a denial to its form: JSON, one decision id, and a challenge
// with every 401.
func checkDenial(t *testing.T, r request, resp response, reason string) {
	t.Helper()
	id := resp.header.Get(policy.HeaderDecisionID)
	if id == "" {
		t.Error("the denial has no decision id")
	}
	if challenge := resp.header.Get("WWW-Authenticate"); (resp.status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Bearer ") {
		t.Errorf("status %d with WWW-Authenticate %q", resp.status, challenge)
	} else if reason == "missing_credential" && strings.Contains(challenge, "error=") {
		t.Errorf("RFC 6750 has no error code for a request without a credential, got %q", challenge)
	}
	if r.method() == http.MethodHead {
		return
	}
	var body struct {
		Error, Reason string
		DecisionID    string `json:"decision_id"`
	}
	if err := json.Unmarshal([]byte(resp.body), &body); err != nil {
		t.Fatalf("the denial's body %.300q: %v", resp.body, err)
	}
	if body.Reason != reason || body.Error == "" || body.DecisionID != id {
		t.Errorf("the denial says %+v; want reason %s and decision id %s", body, reason, id)
	}
	if got := resp.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the denial's content type is %q", got)
	}
}

// checkReceived holds what the upstream received to the scenario.
func checkReceived(t *testing.T, s scenario, echo testkit.Echo) {
	t.Helper()
	path, host := s.path, s.host
	if path == "" {
		path = s.request.path()
	}
	if host == "" {
		host = s.request.host
	}
	if host == "" {
		host = blog
	}
	if echo.Method != s.request.method() || echo.Path != path || echo.Host != host || echo.Body != s.request.body {
		t.Errorf("the upstream received %s %s of %s with %q; want %s %s of %s with %q",
			echo.Method, echo.Path, echo.Host, echo.Body, s.request.method(), path, host, s.request.body)
	}
	checkIdentity(t, echo.Headers, s.identity)
	for _, name := range policy.CredentialHeaders() {
		got, want := echo.Headers.Values(name), slices.Contains(s.forwards, name)
		if (len(got) > 0) != want {
			t.Errorf("the upstream received %s %q; wanted: %v", name, got, want)
		}
	}
}

// checkIdentity holds the identity headers, in every spelling, to the wanted ones.
func checkIdentity(t *testing.T, received http.Header, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	for name, values := range received {
		for _, managed := range policy.ManagedHeaders() {
			if policy.IsHeaderTwin([]byte(name), managed) {
				got[strings.ToLower(name)] = strings.Join(values, " and ")
			}
		}
	}
	if want != nil {
		if got[policy.HeaderDecisionID] == "" {
			t.Error("no decision id reached the upstream")
		}
		if n, err := strconv.ParseInt(got[policy.HeaderRevision], 10, 64); err != nil || n < 1 {
			t.Errorf("the revision that reached the upstream is %q", got[policy.HeaderRevision])
		}
		delete(got, policy.HeaderDecisionID)
		delete(got, policy.HeaderRevision)
	}
	if !maps.Equal(got, want) {
		t.Errorf("the upstream received the identity %v, want %v", got, want)
	}
}
