package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"portcullis/cache"
	"portcullis/extauthz"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/policy"
)

// The two versions of the policy ask for different permissions under different
// rule names, so that every verdict says which one it went by.
const (
	readVersion  = "version: 1\nrules:\n  - {name: needs-read, path: /doc, require: read}\n  - {name: open, path: /open, allow: anonymous}\n"
	writeVersion = "version: 1\nrules:\n  - {name: needs-write, path: /doc, require: write}\n  - {name: open, path: /open, allow: anonymous}\n"
)

var permissionOfRule = map[string]string{"needs-read": "read", "needs-write": "write"}

// historian keeps, for each revision, who held what, and for each decision, at
// which revision it was made.
type historian struct {
	mu     sync.Mutex                // guards everything below
	held   map[int64]map[string]bool // revision to "principal permission"
	chosen map[string]decisionlog.Record
}

func (h *historian) Wants(policy.Effect) bool { return true }

func (h *historian) Log(r *decisionlog.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chosen[string(r.DecisionID)] = decisionlog.Record{Principal: r.Principal, Rule: r.Rule, Reason: r.Reason, Revision: r.Revision}
}

// TestManyAtOnce has 64 callers check 500 times each while the policy and the roles
// change under them. Every verdict must be the one of exactly its revision and its
// policy, and every identity the caller's own.
func TestManyAtOnce(t *testing.T) {
	ctx := t.Context()
	st, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "auth.sqlite3")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	verifier, err := identity.NewVerifier(identity.VerifierConfig{Secret: []byte(jwtSecret)})
	if err != nil {
		t.Fatal(err)
	}
	versions := make([]*policy.Policy, 2)
	for i, text := range []string{readVersion, writeVersion} {
		if versions[i], err = policy.Compile([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := cache.New(cache.Config{Store: st, Feed: st, Verifier: verifier, Policy: versions[0], Budget: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := &historian{held: make(map[int64]map[string]bool), chosen: make(map[string]decisionlog.Record)}
	core, err := extauthz.New(extauthz.Config{Cache: c, Log: h})
	if err != nil {
		t.Fatal(err)
	}

	w := newRoleWriter(t, st, h)
	running, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() {
		if err := c.Run(running); err != nil {
			t.Error(err)
		}
	})
	defer background.Wait()
	defer stop()
	for c.Snapshot() == nil {
		time.Sleep(time.Millisecond)
	}
	background.Go(func() {
		for i := 0; running.Err() == nil; i++ {
			c.SetPolicy(versions[i%2])
			time.Sleep(time.Millisecond)
		}
	})
	background.Go(func() {
		for running.Err() == nil {
			w.change(running)
		}
	})

	var allowed, denied atomic.Int64
	var callers sync.WaitGroup
	for n := range 64 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range 500 {
				if w.askOne(t, core, n, r.IntN(6)) {
					allowed.Add(1)
				} else {
					denied.Add(1)
				}
			}
		})
	}
	callers.Wait()
	stop()
	background.Wait()
	h.verify(t)
	t.Logf("%d allowed, %d denied, %d revisions", allowed.Load(), denied.Load(), len(h.held))
	if allowed.Load() < 7000 || denied.Load() < 6000 || len(h.held) < 20 {
		t.Errorf("too tame: %d allowed, %d denied, %d revisions", allowed.Load(), denied.Load(), len(h.held))
	}
}

// roleWriter changes roles, and writes down what each revision holds before
// anybody can have seen it.
type roleWriter struct {
	st     store.Store
	h      *historian
	tenant store.TenantID
	held   map[string]bool // "member role" and "role permission"
	tokens []string
	keys   []string
	rand   *rand.Rand
}

const concurrentUsers = 16

func userName(n int) string   { return fmt.Sprintf("user-%d", n%concurrentUsers) }
func clientName(n int) string { return fmt.Sprintf("client-%d", n%4) }

func newRoleWriter(t *testing.T, st store.Store, h *historian) *roleWriter {
	t.Helper()
	tenant, err := st.TenantByName(t.Context(), store.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	w := &roleWriter{st: st, h: h, tenant: tenant.ID, held: map[string]bool{}, rand: rand.New(rand.NewPCG(7, 7))}
	for _, role := range []string{"reader", "writer"} {
		if _, err := st.PutRole(t.Context(), store.Actor{Name: "test"}, tenant.ID, role, nil); err != nil {
			t.Fatal(err)
		}
	}
	issuer, err := identity.NewIssuer(identity.IssuerConfig{Secret: []byte(jwtSecret)})
	if err != nil {
		t.Fatal(err)
	}
	for n := range concurrentUsers {
		token, err := issuer.Issue(policy.Principal{Tenant: store.DefaultTenant, Kind: policy.KindUser, ID: userName(n)}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		w.tokens = append(w.tokens, token)
	}
	for n := range 4 {
		text := fmt.Sprintf("0000000%d-0000-4000-8000-000000000000", n)
		canonical, ok := identity.ParseClientKey([]byte(text))
		if !ok {
			t.Fatal("not a client key")
		}
		key := store.NewKey{Tenant: tenant.ID, Name: clientName(n), Digest: identity.KeyDigest(canonical), Scopes: store.DefaultScopes()}
		if _, _, err := st.CreateKey(t.Context(), store.Actor{Name: "test"}, key); err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, text)
	}
	for n := range concurrentUsers {
		for _, role := range []string{"reader", "writer"} {
			if _, err := st.AddMember(t.Context(), store.Actor{Name: "test"}, tenant.ID, policy.KindUser, userName(n), role, time.Time{}); err != nil {
				t.Fatal(err)
			}
			w.held["user:"+userName(n)+" "+role] = true
		}
	}
	for role, permission := range map[string]string{"reader": "read", "writer": "write"} {
		if _, err := st.AddPermission(t.Context(), store.Actor{Name: "test"}, tenant.ID, role, permission); err != nil {
			t.Fatal(err)
		}
		w.held[role+" "+permission] = true
	}
	head, err := st.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.note(head.Revision.Number)
	return w
}

// note writes down who holds what at a revision.
func (w *roleWriter) note(revision int64) {
	holds := map[string]bool{}
	for fact := range w.held {
		var member, role string
		fmt.Sscanf(fact, "%s %s", &member, &role)
		for _, permission := range []string{"read", "write"} {
			if w.held[role+" "+permission] {
				holds[member+" "+permission] = true
			}
		}
	}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.h.held[revision] = maps.Clone(holds)
}

// change makes one write.
func (w *roleWriter) change(ctx context.Context) {
	by := store.Actor{Name: "test"}
	role := []string{"reader", "writer"}[w.rand.IntN(2)]
	has := w.rand.IntN(2) > 0
	var fact string
	var result store.Result
	var err error
	if w.rand.IntN(3) == 0 {
		permission := []string{"read", "write"}[w.rand.IntN(2)]
		fact = role + " " + permission
		if has {
			result, err = w.st.AddPermission(ctx, by, w.tenant, role, permission)
		} else {
			result, err = w.st.RemovePermission(ctx, by, w.tenant, role, permission)
		}
	} else {
		kind, id := policy.KindUser, userName(w.rand.IntN(concurrentUsers))
		if w.rand.IntN(4) == 0 {
			kind, id = policy.KindClient, clientName(w.rand.IntN(4))
		}
		fact = kind.String() + ":" + id + " " + role
		if has {
			result, err = w.st.AddMember(ctx, by, w.tenant, kind, id, role, time.Time{})
		} else {
			result, err = w.st.RemoveMember(ctx, by, w.tenant, kind, id, role)
		}
	}
	if err != nil {
		// Only the end of the test ends a write.
		return
	}
	if has {
		w.held[fact] = true
	} else {
		delete(w.held, fact)
	}
	w.note(result.Revision.Number)
}

// askOne sends one of the kinds of check and judges what needs no revision.
func (w *roleWriter) askOne(t *testing.T, core *extauthz.Core, n, kind int) bool {
	headers, path := map[string]string{}, "/doc"
	subject := ""
	switch kind {
	case 0:
		path = "/open"
		headers["x-auth-subject"] = "root"
	case 1:
		headers["x-client-key"] = w.keys[n%4]
		subject = clientName(n)
	case 2:
		headers["authorization"] = "Bearer " + w.tokens[n%concurrentUsers] + "x"
	default:
		headers["authorization"] = "Bearer " + w.tokens[n%concurrentUsers]
		subject = userName(n)
	}
	hm := &corev3.HeaderMap{}
	for k, v := range headers {
		hm.Headers = append(hm.Headers, &corev3.HeaderValue{Key: k, RawValue: []byte(v)})
	}
	req, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: path, Host: "example.com", HeaderMap: hm},
	}}})
	if err != nil {
		t.Error(err)
		return false
	}
	bytes, err := core.Check(nil, req)
	var resp authv3.CheckResponse
	if err != nil || proto.Unmarshal(bytes, &resp) != nil {
		t.Errorf("no response: %v", err)
		return false
	}
	fields := resp.GetDynamicMetadata().GetFields()
	reason := fields["reason"].GetStringValue()
	switch {
	case resp.GetErrorResponse() != nil:
		t.Errorf("a fault: %s", reason)
	case kind == 0 && reason != "ok", kind == 2 && reason != "invalid_token", kind != 0 && kind != 2 && reason != "ok" && reason != "missing_permission":
		t.Errorf("kind %d: reason %s", kind, reason)
	}
	for _, hv := range resp.GetOkResponse().GetHeaders() {
		value := hv.GetHeader().GetValue() + string(hv.GetHeader().GetRawValue())
		if hv.GetHeader().GetKey() == policy.HeaderSubject && value != subject {
			t.Errorf("the identity of %q on a request of %q", value, subject)
		}
	}
	if got := fields["subject"].GetStringValue(); got != subject && got != "" {
		t.Errorf("the metadata of %q on a request of %q", got, subject)
	}
	if reason == "ok" && kind != 0 && fields["subject"].GetStringValue() == "" {
		t.Errorf("an allow of nobody")
	}
	return resp.GetStatus().GetCode() == 0
}

// verify holds every decision to what its revision held.
func (h *historian) verify(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.chosen) != 64*500 {
		t.Errorf("%d decisions were logged, want %d", len(h.chosen), 64*500)
	}
	for id, d := range h.chosen {
		permission, ok := permissionOfRule[d.Rule]
		if !ok || d.Principal.ID == "" {
			continue
		}
		held, ok := h.held[d.Revision]
		if !ok {
			t.Fatalf("decision %s was made at revision %d, which nobody wrote", id, d.Revision)
		}
		want := held[d.Principal.Kind.String()+":"+d.Principal.ID+" "+permission]
		if got := d.Reason == policy.ReasonOK; got != want {
			t.Fatalf("decision %s: %v for %v at revision %d under %s, which says %v", id, d.Reason, d.Principal, d.Revision, d.Rule, want)
		}
	}
}
