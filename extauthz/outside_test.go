package extauthz

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/policy"
)

// idProvider is an outside issuer with one key, which it can withdraw.
type idProvider struct {
	*httptest.Server
	key       *ecdsa.PrivateKey
	withdrawn atomic.Bool
	slow      atomic.Bool // it takes 100 ms to answer
}

const outsideName = "https://id.example.com"

func newIDProvider(tb testing.TB) *idProvider {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	p := &idProvider{key: key}
	encode := base64.RawURLEncoding.EncodeToString
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if p.slow.Load() {
			time.Sleep(100 * time.Millisecond)
		}
		if p.withdrawn.Load() {
			fmt.Fprint(w, `{"keys":[]}`)
			return
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	}))
	tb.Cleanup(p.Close)
	return p
}

func (p *idProvider) entry() policy.Issuer {
	return policy.Issuer{Name: outsideName, JWKSURL: p.URL, Audiences: []string{"blog"}, Algorithms: []string{"ES256"}, Tenant: "default",
		SubjectClaim: "sub", RolesClaim: []string{"roles"}, MaxTokenAge: 24 * time.Hour}
}

func (p *idProvider) token(tb testing.TB, subject string, roles ...string) string {
	tb.Helper()
	claims := jwt.MapClaims{"iss": outsideName, "sub": subject, "aud": "blog", "exp": time.Now().Add(time.Hour).Unix()}
	if roles != nil {
		claims["roles"] = roles
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	t.Header["kid"] = "k"
	text, err := t.SignedString(p.key)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// outsideGate is a gate that knows an outside issuer.
func outsideGate(tb testing.TB, p *idProvider, change func(*identity.VerifiersConfig)) (*gate, *identity.Verifiers, *prometheus.Registry) {
	tb.Helper()
	reg := prometheus.NewRegistry()
	var verifiers *identity.Verifiers
	g := bareGate(tb, nil, func(cfg *cache.Config) {
		own, err := identity.NewVerifier(identity.VerifierConfig{Secret: secret})
		if err != nil {
			tb.Fatal(err)
		}
		settings := identity.VerifiersConfig{Own: own, Registerer: reg, Wait: 5 * time.Second}
		if change != nil {
			change(&settings)
		}
		if verifiers, err = identity.NewVerifiers(settings); err != nil {
			tb.Fatal(err)
		}
		verifiers.Apply([]policy.Issuer{p.entry()})
		cfg.Verifier = verifiers
	})
	g.run()
	return g, verifiers, reg
}

// Roles from a token join those of the store, and what they may do is the tenant's
// table to say.
func TestRolesOfTokens(t *testing.T) {
	p := newIDProvider(t)
	g, _, _ := outsideGate(t, p, nil)
	put := func(token string) request { return request{path: "/posts/17", method: "PUT", headers: bearer(token)} }
	g.expect("ok", put(p.token(t, "ann")))
	g.expect("missing_permission", put(p.token(t, "eve")))
	g.expect("ok", put(p.token(t, "eve", "editor")))
	g.expect("missing_permission", put(p.token(t, "eve", "viewer", "Editor", "root", "")))
	if got := asserted(g.ask(put(p.token(t, "bob", "editor", "nobody"))))["x-auth-roles"]; got != "editor,viewer" {
		t.Errorf("roles asserted: %q", got)
	}
	// The next caller of the pooled check has none of them.
	g.expect("missing_permission", put(p.token(t, "bob")))
	g.expect("missing_permission", put(g.token("bob")))

	if raceEnabled {
		return
	}
	for name, token := range map[string]string{"without roles": p.token(t, "ann"), "with roles": p.token(t, "eve", "editor")} {
		req := marshal(t, put(token).message())
		least := g.allocations(req)
		for i := 0; i < 50 && least > 0; i++ {
			least = min(least, g.allocations(req))
		}
		if least > 0 {
			t.Errorf("%s: %v allocations", name, least)
		}
	}
}

// Who waited long for keys leaves the store little of the check's time. That the store
// does not make do with it is a denial: a flood of tokens could bring it about.
func TestLateVerificationIsNoFault(t *testing.T) {
	p := newIDProvider(t)
	p.slow.Store(true)
	g, _, _ := outsideGate(t, p, nil)
	g.warm("ok", request{path: "/posts/17", headers: bearer(g.token("bob"))}) // the roles
	wait := func() { time.Sleep(80 * time.Millisecond) }
	g.store.beforeGrant.Store(&wait)
	late := request{path: "/posts/17", headers: bearer(p.token(t, "ann"))}
	g.expect("overloaded", late)
	g.await(func() bool { return g.verdict(late) == "ok" })
	// With time enough it is the store's fault, as ever.
	g.store.hangs.Store(true)
	defer g.store.hangs.Store(false)
	g.expect("fault: store_unavailable", request{path: "/posts/17", headers: bearer(p.token(t, "eve"))})
}

// A withdrawn key puts out the tokens that the cache holds, and those of our own
// go on.
func TestWithdrawnKeyAtTheGate(t *testing.T) {
	p := newIDProvider(t)
	g, verifiers, _ := outsideGate(t, p, func(cfg *identity.VerifiersConfig) { cfg.Refresh = 20 * time.Millisecond })
	outside := request{path: "/me", headers: bearer(p.token(t, "ann"))}
	own := request{path: "/me", headers: bearer(g.token("ann"))}
	g.warm("ok", outside)
	g.warm("ok", own)
	p.withdrawn.Store(true)
	g.expect("ok", outside)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- verifiers.Run(ctx) }()
	g.await(func() bool { return g.verdict(outside) == "invalid_token" })
	cancel()
	g.must(<-done)
	g.expect("ok", own)
}

// A flood of distinct junk signatures is shed where the pool is full, and what is
// answered from memory stays right. The times are printed, not judged.
func TestWarmUnderFlood(t *testing.T) {
	p := newIDProvider(t)
	g, _, reg := outsideGate(t, p, func(cfg *identity.VerifiersConfig) { cfg.Queue = 16 })
	warm := request{path: "/posts/17", headers: bearer(p.token(t, "ann"))}
	g.warm("ok", warm)
	req := marshal(t, warm.message())
	g.p99(req) // the first round warms everything up
	quiet := g.p99(req)

	parts := strings.Split(p.token(t, "mallory"), ".")
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var invalid, overloaded, other atomic.Int64
	const unsigned = "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHIIIIJJJJKKKKLLLLMMMMNNNNOOOOPPPPQQQQRRRRSSSSTTTTUUUUAA" // 64 bytes in base64url
	junk := marshal(t, request{path: "/me", headers: bearer(parts[0] + "." + parts[1] + "." + unsigned)}.message())
	at := bytes.Index(junk, []byte(unsigned))
	for range 64 {
		flood.Go(func() {
			req, dst, signature := slices.Clone(junk), make([]byte, 0, 8<<10), make([]byte, 64)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				rand.Read(signature)
				base64.RawURLEncoding.Encode(req[at:], signature)
				b, err := g.core.Check(dst, req)
				switch {
				case err != nil:
					other.Add(1)
				case bytes.Contains(b, []byte("invalid_token")):
					invalid.Add(1)
				case bytes.Contains(b, []byte("overloaded")):
					overloaded.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	busy := g.p99(req)
	g.await(func() bool { return overloaded.Load() > 0 })
	running := gauge(t, reg, "portcullis_token_verifications_running")
	close(stop)
	flood.Wait()
	t.Logf("a warm check, p99: %v quiet, %v under a flood of junk signatures; %d of them refused, %d shed", quiet, busy, invalid.Load(), overloaded.Load())
	if invalid.Load() == 0 || other.Load() > 0 {
		t.Errorf("%d junk tokens were invalid, %d something else", invalid.Load(), other.Load())
	}
	if shed := gauge(t, reg, "portcullis_token_verifications_shed_total"); int64(shed) != overloaded.Load() {
		t.Errorf("%v counted as shed, %d were", shed, overloaded.Load())
	}
	if running > float64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%v ran at once on %d processors", running, runtime.GOMAXPROCS(0))
	}
	g.expect("ok", warm)
}

// p99 of warm checks, each of which must be allowed. Each comes by itself and on a
// goroutine of its own, as over a connection, and its wait for a processor counts.
func (g *gate) p99(req []byte) time.Duration {
	g.Helper()
	const rounds = 1500
	took := make([]time.Duration, 0, rounds)
	dst := make([]byte, 0, 8<<10)
	type answer struct {
		bytes []byte
		err   error
		took  time.Duration
	}
	answers := make(chan answer, 1)
	for n := range rounds {
		time.Sleep(200 * time.Microsecond)
		began := time.Now()
		go func() {
			b, err := g.core.Check(dst, req)
			answers <- answer{b, err, time.Since(began)}
		}()
		got := <-answers
		took = append(took, got.took)
		g.must(got.err)
		if n%50 == 0 {
			if got := g.verdictOf(read(g, got.bytes)); got != "ok" {
				g.Fatalf("a warm check under load: %s", got)
			}
		}
	}
	slices.Sort(took)
	return took[rounds*99/100]
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
