package admin_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/admin"
	"portcullis/cache"
	"portcullis/internal/clientaddr"
	"portcullis/internal/identity"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/internal/testkit/transcript"
)

// backends are the stores that every test of the API runs on.
var backends = []struct {
	name string
	open func(t testing.TB) store.Store
}{
	{"sqlite", openSQLite},
	{"postgres", openPostgres},
}

func openSQLite(t testing.TB) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "auth.sqlite3")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openPostgres(t testing.TB) store.Store {
	t.Helper()
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := postgres.Migrate(context.Background(), url)
		return err
	})
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// onEveryStore runs a test on a fresh house for each store.
func onEveryStore(t *testing.T, test func(t *testing.T, h *house)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) { test(t, newHouse(t, options{open: b.open})) })
	}
}

type options struct {
	open        func(testing.TB) store.Store
	auditChecks bool
	wrap        func(store.Store) store.Store
	staleness   time.Duration
	openTenancy bool
	strictInput bool
	issuer      identity.IssuerConfig // the zero one signs HS256
	lifetime    time.Duration         // of access tokens
	proxies     clientaddr.Proxies
	cors        admin.CORS
	limits      admin.Limits
	clock       cache.Clock
	records     bool // failed authentications, once their minute is over and at the end
}

// house is a served admin API over a real store and a running cache, with one
// key for every sort of caller.
type house struct {
	t       testing.TB
	addr    string
	store   store.Store
	cache   *cache.Cache
	api     *admin.API
	metrics *prometheus.Registry
	log     *lockedBuffer
	keys    map[string]string // by caller

	verifier *identity.Verifier
	issuer   *identity.Issuer
	tenants  map[string]store.TenantID
}

func newHouse(t testing.TB, o options) *house {
	t.Helper()
	ctx := t.Context()
	if o.open == nil {
		o.open = openSQLite
	}
	st := o.open(t)
	h := &house{t: t, store: st, log: &lockedBuffer{}}
	var err error
	h.keys, h.tenants, err = transcript.Furnish(ctx, st)
	must(t, err)
	if o.wrap != nil {
		h.store = o.wrap(st)
	}

	logger := slog.New(slog.NewTextHandler(h.log, nil))
	if o.issuer.Algorithm == "" {
		o.issuer.Secret = []byte("0123456789abcdef0123456789abcdef")
	}
	h.issuer, err = identity.NewIssuer(o.issuer)
	must(t, err)
	own := &identity.OwnKeys{}
	must(t, own.SetKeys(identity.PublicKeys(o.issuer.Keys)))
	verifier, err := identity.NewVerifier(identity.VerifierConfig{
		Secret: o.issuer.Secret, Algorithm: o.issuer.Algorithm, Keys: own, Issuer: o.issuer.Issuer, Audience: o.issuer.Audience,
	})
	must(t, err)
	h.verifier = verifier
	h.cache, err = cache.New(cache.Config{
		Store: h.store, Feed: h.store, Verifier: verifier, Logger: logger,
		Budget: 5 * time.Second, MaxStaleness: o.staleness, Clock: o.clock,
	})
	must(t, err)
	h.metrics = prometheus.NewRegistry()
	h.api, err = admin.New(admin.Config{
		Store: h.store, Cache: h.cache, Registerer: h.metrics, Logger: logger, AuditChecks: o.auditChecks,
		Tokens:    admin.Tokens{Issuer: h.issuer, Name: o.issuer.Issuer, Audience: o.issuer.Audience, Lifetime: o.lifetime},
		SealReply: sealing.SealReply, OpenReply: sealing.OpenReply,
		OpenTenancy: o.openTenancy, StrictInput: o.strictInput, Proxies: o.proxies, CORS: o.cors,
		Limits: o.limits,
	})
	must(t, err)
	server, err := admin.NewServer(admin.ServerConfig{Handler: h.api.Handler(), Addr: "127.0.0.1:0", Logger: logger, Grace: 5 * time.Second})
	must(t, err)
	h.addr = server.Addr().String()

	running, stop := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := h.cache.Run(running); err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	if o.records {
		ran.Go(func() { h.api.Run(running) })
	}
	ran.Go(func() {
		if err := server.Run(running); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		ran.Wait()
		h.cache.Close()
		if err := st.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", h.log.String())
		}
	})
	eventually(t, "the cache has loaded", func() bool { return h.cache.Snapshot() != nil })
	return h
}

// answer is one response as a test sees it.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) match(status int, body string) error {
	return transcript.Answer{Status: a.status, Header: a.header, Body: a.body}.Match(status, body)
}

// ask sends a request whose target is exactly the given bytes, as the caller of
// that name ("nobody" sends no key), with more header lines.
func (h *house) ask(caller, method, target string, lines ...string) answer {
	h.t.Helper()
	return h.askWith(caller, method, target, "", lines...)
}

// askWith is ask with a body.
func (h *house) askWith(caller, method, target, body string, lines ...string) answer {
	h.t.Helper()
	if caller != "nobody" {
		key, ok := h.keys[caller]
		if !ok {
			h.t.Fatalf("no caller %q", caller)
		}
		lines = append(lines, "Authorization: Bearer "+key)
	}
	return h.send(method+" "+target+" HTTP/1.1", lines, body)
}

// send writes a request as it stands and reads the response.
func (h *house) send(requestLine string, lines []string, body string) answer {
	h.t.Helper()
	got, err := transcript.Server{Addr: h.addr}.Send(requestLine, lines, body)
	must(h.t, err)
	return answer{got.Status, got.Header, got.Body}
}

// revision is the store's newest.
func (h *house) revision() int64 {
	h.t.Helper()
	head, err := h.store.Head(context.Background())
	must(h.t, err)
	return head.Revision.Number
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
