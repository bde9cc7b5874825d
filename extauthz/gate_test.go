package extauthz

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/policy"
)

// gatePolicy is what the tests below speak of.
const gatePolicy = `
version: 1
rules:
  - {name: health, path: /healthz, allow: anonymous}
  - {name: own-login, path: /legacy/login, allow: anonymous, forward_credentials: true}
  - {name: whoami, path: /me, allow: authenticated}
  - {name: read-post, hosts: [blog.example.com], methods: [GET, HEAD], path: "/posts/{id}", require: view_content}
  - {name: edit-post, hosts: [blog.example.com], methods: [PUT], path: "/posts/{id}", require: {all: [view_content, edit_content]}}
  - {name: partner, path: "/partner/{rest...}", tenants: [default, globex], require: {any: [view_content, partner_read]}}
  - {name: everyone, path: /everyone, tenants: any, allow: authenticated}
  - {name: files, path: "/files/{name}", require: view_content, allow_encoded_slash: true, forward_credentials: true}
  - {name: matrix, path: "/matrix/{name}", require: view_content, allow_semicolon: true}
  - {name: loose, path: "/loose/{rest...}", require: view_content, allow_double_slash: true}
  - {name: root, path: "/root/{rest...}", require: view_content}
  - {name: stock, path: "/stock/{item}", require: view_content, mtls: true}
  - {name: restock, methods: [PUT], path: "/stock/{item}", require: edit_content, mtls: true}
  - {name: who, path: /who, tenants: any, allow: authenticated, mtls: true}
workloads:
  - {spiffe: "spiffe://example.org/ns/shop/sa/cart", id: cart}
  - {spiffe: "spiffe://old.example.org/cart", id: cart}
  - {spiffe: "spiffe://example.org/ns/shop/sa/idle", id: idle}
  - {spiffe: "spiffe://example.org/ns/lab/sa/new", tenant: t-new, id: cart}
  - {spiffe: "spiffe://example.org/ns/lab/sa/gone", tenant: nosuch, id: cart}
  - {spiffe: "spiffe://example.org/ns/globex/sa/cart", tenant: globex, id: cart}
`

var secret = []byte("a secret of thirty-two bytes, at least")

// awayStore is a store that can go away.
type awayStore struct {
	*sqlite.Store
	away  atomic.Bool
	hangs atomic.Bool  // and answers nothing until the caller gives up
	mute  atomic.Bool  // and tells nobody what changed
	deaf  atomic.Bool  // and wakes nobody after a commit
	loads atomic.Int64 // of roles, grants and keys

	beforeGrant atomic.Pointer[func()] // is called before each grant is loaded
}

var errAway = errors.New("the store is away")

func (s *awayStore) gone(ctx context.Context) error {
	if s.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.away.Load() {
		return errAway
	}
	return nil
}

// Wait hears nothing while the store is deaf.
func (s *awayStore) Wait(ctx context.Context) error {
	if s.deaf.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Wait(ctx)
}

func (s *awayStore) Roles(ctx context.Context, t store.TenantID) (store.TenantRoles, error) {
	s.loads.Add(1)
	if err := s.gone(ctx); err != nil {
		return store.TenantRoles{}, err
	}
	return s.Store.Roles(ctx, t)
}

func (s *awayStore) Grant(ctx context.Context, t store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	s.loads.Add(1)
	if before := s.beforeGrant.Load(); before != nil {
		(*before)()
	}
	if err := s.gone(ctx); err != nil {
		return store.GrantRow{}, err
	}
	return s.Store.Grant(ctx, t, kind, id)
}

func (s *awayStore) Key(ctx context.Context, d store.Digest) (store.KeyRow, error) {
	s.loads.Add(1)
	if err := s.gone(ctx); err != nil {
		return store.KeyRow{}, err
	}
	return s.Store.Key(ctx, d)
}

func (s *awayStore) UserKey(ctx context.Context, d store.Digest) (store.UserKeyRow, error) {
	s.loads.Add(1)
	if err := s.gone(ctx); err != nil {
		return store.UserKeyRow{}, err
	}
	return s.Store.UserKey(ctx, d)
}

func (s *awayStore) Delta(ctx context.Context, after store.Revision, held []store.TenantID) (store.Delta, error) {
	if err := s.gone(ctx); err != nil || s.mute.Load() {
		return store.Delta{}, errors.Join(err, errAway)
	}
	return s.Store.Delta(ctx, after, held)
}

// testClock can be moved ahead, both clocks together.
type testClock struct{ ahead atomic.Int64 }

func (c *testClock) clock() cache.Clock {
	system := cache.SystemClock()
	return func() cache.Instant {
		now := system()
		return cache.Instant{Wall: now.Wall + c.ahead.Load(), Mono: now.Mono + c.ahead.Load()}
	}
}

// gate is a core over a real SQLite file, with what a test needs around it.
type gate struct {
	testing.TB
	core  *Core
	cache *cache.Cache
	store *awayStore
	file  string // of the store, whose fields are in clear unless a test seals them

	masters *sealing.Masters
	clock   *testClock
	reg     *prometheus.Registry
	issuer  *identity.Issuer
	keys    map[string]string // client keys by "tenant/name"
	apiKey  map[string]string // user API keys by "tenant/user"
}

// newGate makes a gate whose tenant default knows ann (editor), bob (viewer) and
// eve (nothing), whose tenant globex knows gil (viewer), and whose tenant t-new is
// not admitted.
func newGate(tb testing.TB, change func(*Config)) *gate {
	tb.Helper()
	g := bareGate(tb, change, nil)
	g.run()
	return g
}

// patient gives checks time: what a test asks of verdicts does not depend on how busy
// the machine is.
func patient(cfg *cache.Config) { cfg.Budget = 5 * time.Second }

// patientGate is newGate with patient.
func patientGate(tb testing.TB, change func(*Config)) *gate {
	tb.Helper()
	g := bareGate(tb, change, patient)
	g.run()
	return g
}

// run runs the cache until the test ends, and returns once it has loaded.
func (g *gate) run() {
	g.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.cache.Run(ctx) }()
	g.Cleanup(func() {
		cancel()
		g.must(<-done)
	})
	g.await(func() bool { return g.cache.Snapshot() != nil })
}

// bareGate is newGate before its cache runs.
func bareGate(tb testing.TB, change func(*Config), tune func(*cache.Config)) *gate {
	tb.Helper()
	ctx := context.Background()
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "auth.sqlite3")
	s, err := sqlite.Open(ctx, sqlite.Config{Path: file, Masters: masters})
	g := &gate{TB: tb, store: &awayStore{Store: s}, file: file, masters: masters, clock: &testClock{}, reg: prometheus.NewRegistry(), keys: map[string]string{}, apiKey: map[string]string{}}
	g.must(err)
	tb.Cleanup(func() { g.must(s.Close()) })
	g.populate(ctx)

	rules, err := policy.Compile([]byte(gatePolicy))
	g.must(err)
	verifier, err := identity.NewVerifier(identity.VerifierConfig{Secret: secret})
	g.must(err)
	g.issuer, err = identity.NewIssuer(identity.IssuerConfig{Secret: secret})
	g.must(err)
	settings := cache.Config{Store: g.store, Feed: g.store, Verifier: verifier, Policy: rules, Clock: g.clock.clock(), Silent: true}
	if tune != nil {
		tune(&settings)
	}
	g.cache, err = cache.New(settings)
	g.must(err)
	tb.Cleanup(g.cache.Close)
	cfg := Config{Cache: g.cache, Registerer: g.reg}
	if change != nil {
		change(&cfg)
	}
	g.core, err = New(cfg)
	g.must(err)
	return g
}

func (g *gate) populate(ctx context.Context) {
	g.Helper()
	by := store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	globex, _, err := g.store.CreateTenant(ctx, by, store.NewTenant{Name: "globex", Admitted: true})
	g.must(err)
	fresh, _, err := g.store.CreateTenant(ctx, by, store.NewTenant{Name: "t-new"})
	g.must(err)
	for _, grant := range []struct {
		tenant     store.TenantID
		role, perm string
	}{
		{def.ID, "editor", "view_content"}, {def.ID, "editor", "edit_content"}, {def.ID, "viewer", "view_content"},
		{globex.ID, "viewer", "view_content"}, {fresh.ID, "viewer", "view_content"},
	} {
		_, err = g.store.PutRole(ctx, by, grant.tenant, grant.role, nil)
		g.must(err)
		_, err = g.store.AddPermission(ctx, by, grant.tenant, grant.role, grant.perm)
		g.must(err)
	}
	for _, m := range []struct {
		tenant   store.TenantID
		kind     policy.Kind
		id, role string
	}{
		{def.ID, policy.KindUser, "ann", "editor"}, {def.ID, policy.KindUser, "ann", "viewer"}, {def.ID, policy.KindUser, "bob", "viewer"},
		{def.ID, policy.KindClient, "ci", "viewer"}, {def.ID, policy.KindWorkload, "cart", "viewer"}, {globex.ID, policy.KindUser, "gil", "viewer"}, {fresh.ID, policy.KindUser, "ned", "viewer"},
	} {
		_, err = g.store.AddMember(ctx, by, m.tenant, m.kind, m.id, m.role, time.Time{})
		g.must(err)
	}
	for _, k := range []struct {
		tenant store.Tenant
		name   string
	}{{def, "ci"}, {def, "idle"}, {globex, "ci"}, {fresh, "ci"}} {
		text := identity.NewClientKey()
		_, _, err = g.store.CreateKey(ctx, by, store.NewKey{Tenant: k.tenant.ID, Name: k.name, Digest: identity.KeyDigest(text),
			Prefix: string(text[:8]), Scopes: store.DefaultScopes()})
		g.must(err)
		g.keys[k.tenant.Name+"/"+k.name] = string(text[:])
	}
	for _, k := range []struct {
		tenant store.Tenant
		user   string
	}{{def, "ann"}, {def, "bob"}, {def, "ci"}, {globex, "ann"}, {globex, "gil"}, {fresh, "ned"}} {
		g.apiKey[k.tenant.Name+"/"+k.user], _ = g.newAPIKey(k.tenant.ID, k.user, time.Time{})
	}
}

// newAPIKey makes a user API key; zero expires is never.
func (g *gate) newAPIKey(tenant store.TenantID, user string, expires time.Time) (text string, made store.UserKey) {
	g.Helper()
	key := identity.NewUserKey()
	made, r, err := g.store.CreateUserKey(context.Background(), store.Actor{Name: "test"}, store.NewUserKey{
		Tenant: tenant, User: user, Digest: identity.UserKeyDigest(key[:]), Prefix: string(key[:identity.UserKeyShown]), Expires: expires})
	g.must(err)
	g.applied(r)
	return string(key[:]), made
}

// applied waits until the running gate has applied a write.
func (g *gate) applied(r store.Result) {
	g.Helper()
	if g.cache != nil {
		g.await(func() bool { return g.cache.Applied() >= r.Revision.Number })
	}
}

func (g *gate) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

func (g *gate) await(ok func() bool) {
	g.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.Fatal("it did not come to that within 20 s")
		}
	}
}

// token makes a token for a user of tenant default, or for "tenant/user".
func (g *gate) token(who string) string {
	g.Helper()
	tenant, id, ok := strings.Cut(who, "/")
	if !ok {
		tenant, id = store.DefaultTenant, who
	}
	return g.tokenOf(policy.Principal{Tenant: tenant, Kind: policy.KindUser, ID: id}, time.Hour)
}

func (g *gate) tokenOf(p policy.Principal, ttl time.Duration) string {
	g.Helper()
	text, err := g.issuer.Issue(p, ttl)
	g.must(err)
	return text
}

// request is one proxied request as a test writes it.
type request struct {
	method, host, path string            // "" is GET, blog.example.com and /
	headers            map[string]string // added to the pseudo-headers
	extensions         map[string]string
	peer               string                // source.principal
	raw                []*corev3.HeaderValue // header_map; headers are left out where it is set
	both               bool                  // send headers all the same
}

func bearer(token string) map[string]string {
	return map[string]string{"authorization": "Bearer " + token}
}

func clientKey(key string) map[string]string { return map[string]string{"x-client-key": key} }

func with(a map[string]string, key, value string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

func (r request) message() *authv3.CheckRequest {
	defaultTo(&r.method, "GET")
	defaultTo(&r.host, "blog.example.com")
	if r.method != "CONNECT" {
		defaultTo(&r.path, "/")
	}
	headers := map[string]string{":method": r.method, ":authority": r.host, ":path": r.path, "user-agent": "test"}
	maps.Copy(headers, r.headers)
	http := &authv3.AttributeContext_HttpRequest{Id: "1", Method: r.method, Host: r.host, Path: r.path, Scheme: "https", Protocol: "HTTP/2"}
	if r.raw == nil || r.both {
		http.Headers = headers
	}
	if r.raw != nil {
		http.HeaderMap = &corev3.HeaderMap{Headers: r.raw}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{ContextExtensions: r.extensions,
		Source:  &authv3.AttributeContext_Peer{Principal: r.peer},
		Request: &authv3.AttributeContext_Request{Http: http}}}
}

func defaultTo(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// ask sends a request and returns the whole response, held to the contract.
func (g *gate) ask(r request) *authv3.CheckResponse {
	g.Helper()
	return g.askBytes(marshal(g, r.message()))
}

func (g *gate) askBytes(req []byte) *authv3.CheckResponse {
	g.Helper()
	b, err := g.core.Check(nil, req)
	g.must(err)
	response := read(g, b)
	word := response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	reason, ok := policy.ParseReason(word)
	if !ok {
		g.Fatalf("reason %q is not on the list", word)
	}
	holdsTheContract(g, response, reason)
	return response
}

// verdict is "ok", or the reason of a denial, or "fault: " and its reason; each
// has been seen with its own status.
func (g *gate) verdict(r request) string {
	g.Helper()
	return g.verdictOf(g.ask(r))
}

func (g *gate) verdictOf(response *authv3.CheckResponse) string {
	g.Helper()
	word := response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	reason, _ := policy.ParseReason(word)
	status := outcomeOf(reason).status
	switch {
	case response.GetOkResponse() != nil:
		return word
	case response.GetErrorResponse() != nil:
		if got := int(response.GetErrorResponse().GetStatus().GetCode()); got != status {
			g.Errorf("fault %s has the status %d", word, got)
		}
		return "fault: " + word
	}
	if got := int(response.GetDeniedResponse().GetStatus().GetCode()); got != status {
		g.Errorf("denial %s has the status %d", word, got)
	}
	return word
}

// expect asks and compares the verdict.
func (g *gate) expect(want string, r request) {
	g.Helper()
	if got := g.verdict(r); got != want {
		g.Errorf("%s %s%s (extensions %v): got %s, want %s", r.method, r.host, r.path, r.extensions, got, want)
	}
}

// warm asks until the answer comes from memory, which the caches need a moment for.
func (g *gate) warm(want string, r request) {
	g.Helper()
	g.await(func() bool {
		before := g.store.loads.Load()
		g.expect(want, r)
		return g.store.loads.Load() == before || g.Failed()
	})
}

// asserted are the headers that an allow sets.
func asserted(response *authv3.CheckResponse) map[string]string {
	out := map[string]string{}
	for _, h := range response.GetOkResponse().GetHeaders() {
		out[h.Header.Key] = h.Header.Value
	}
	return out
}
