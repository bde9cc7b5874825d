package identity

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/policy"
)

// refreshed makes a refresh happen that is due, and waits for its end.
func refreshed(t *testing.T, v *Verifiers) {
	t.Helper()
	for _, s := range v.table.Load().sources {
		s.mu.Lock()
		s.due = time.Time{}
		s.mu.Unlock()
		s.upkeep()
		s.mu.Lock()
		flight := s.flight
		s.mu.Unlock()
		if flight != nil {
			<-flight.done
		}
	}
}

// 10,000 tokens of unknown kids, from many callers at once, cost the issuer two
// fetches at most, and known keys go on working.
func TestFloodOfUnknownKids(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, c, _ := newVerifiers(t, nil, p.entry())
	good := outsideToken()
	mustAccept(t, v, good)
	before := p.fetches.Load()
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for n := range 500 {
				v.Verify(outsideHeader(withKid("ES256", fmt.Sprintf("junk-%d-%d", worker, n))))
			}
		})
	}
	wg.Wait()
	if n := p.fetches.Load() - before; n > 2 {
		t.Errorf("%d fetches", n)
	}
	source := v.table.Load().sources[sourceOf(new(p.entry()))]
	if n := len(source.negative); n > maxNegative {
		t.Errorf("%d unknown kids remembered", n)
	}
	mustAccept(t, v, good)

	// Once its time has come, a key that is new is found all the same.
	p.publish(named("p256", "e"), named("ed", "new"))
	fresh := outsideSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", "new"), outsideObject())
	mustRefuse(t, v, fresh, policy.ReasonInvalidToken, "a fetch is not due")
	c.forward(10 * time.Second)
	mustAccept(t, v, fresh)
}

// Junk signatures under a known kid cause no fetch at all.
func TestJunkSignaturesFetchNothing(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, c, _ := newVerifiers(t, nil, p.entry())
	mustAccept(t, v, outsideToken())
	c.forward(time.Minute)
	before := p.fetches.Load()
	for range 200 {
		mustRefuse(t, v, outsideSigned(jwt.SigningMethodES256, "other256", withKid("ES256", "e"), outsideObject()), policy.ReasonInvalidToken, "")
	}
	if n := p.fetches.Load() - before; n != 0 {
		t.Errorf("%d fetches", n)
	}
}

// A kid that was not there is not asked for again at once; one that was never asked
// for is.
func TestNegativeCache(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, c, _ := newVerifiers(t, nil, p.entry())
	mustAccept(t, v, outsideToken())
	c.forward(10 * time.Second)
	absent := outsideHeader(withKid("ES256", "absent"))
	mustRefuse(t, v, absent, policy.ReasonInvalidToken, "")
	before := p.fetches.Load()
	c.forward(15 * time.Second)
	mustRefuse(t, v, absent, policy.ReasonInvalidToken, "a fetch is not due")
	if n := p.fetches.Load() - before; n != 0 {
		t.Errorf("%d fetches", n)
	}
	c.forward(15 * time.Second)
	mustRefuse(t, v, absent, policy.ReasonInvalidToken, "")
	if n := p.fetches.Load() - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// Everybody who waits for keys shares one fetch, and nobody waits past the bound.
func TestOneSharedFetch(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	hold := make(chan struct{})
	p.hold.Store(&hold)
	v, _, _ := newVerifiers(t, func(c *VerifiersConfig) { c.Wait = 50 * time.Millisecond }, p.entry())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, reason := v.Verify(outsideToken()); reason != policy.ReasonOverloaded {
				t.Errorf("while the keys are on their way: %v", reason)
			}
		})
	}
	wg.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	p.hold.Store(nil)
	close(hold)
	source := v.table.Load().sources[sourceOf(new(p.entry()))]
	source.mu.Lock()
	flight := source.flight
	source.mu.Unlock()
	if flight != nil {
		<-flight.done
	}
	mustAccept(t, v, outsideToken())
}

// A fetch that began before a key was published is not the last word on it, and
// neither is one that failed.
func TestFetchThatCouldNotKnow(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, c, _ := newVerifiers(t, nil, p.entry())
	mustAccept(t, v, outsideToken())
	c.forward(10 * time.Second)
	hold := make(chan struct{})
	p.hold.Store(&hold)
	source := v.table.Load().sources[sourceOf(new(p.entry()))]
	source.mu.Lock()
	source.due = time.Time{}
	source.mu.Unlock()
	source.upkeep()
	for p.fetches.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	p.publish(named("p256", "e"), named("ed", "new"))
	verdict := make(chan policy.Reason)
	go func() {
		_, reason := v.Verify(outsideSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", "new"), outsideObject()))
		verdict <- reason
	}()
	time.Sleep(50 * time.Millisecond) // it joins the fetch that is held
	p.hold.Store(nil)
	close(hold)
	if reason := <-verdict; reason != policy.ReasonOK {
		t.Errorf("got %v", reason)
	}

	c.forward(10 * time.Second)
	newer := outsideHeader(withKid("ES256", "newer"))
	p.status.Store(http.StatusInternalServerError)
	mustRefuse(t, v, newer, policy.ReasonInvalidToken, "")
	p.status.Store(http.StatusOK)
	p.publish(named("p256", "newer"))
	c.forward(10 * time.Second)
	mustAccept(t, v, newer)
}

// A key that the issuer withdraws stops verifying at the next refresh, for tokens
// that a cache holds too. Adding a key disturbs nothing.
func TestWithdrawnKey(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, _, _ := newVerifiers(t, nil, p.entry())
	token := outsideToken()
	kept := mustAccept(t, v, token)
	p.publish(named("p256", "e"), named("ed", "d"))
	refreshed(t, v)
	if !v.Current(kept) {
		t.Error("a new key put out a token of the old one")
	}
	p.publish(named("ed", "d"))
	if !v.Current(kept) {
		t.Error("not current before the refresh")
	}
	refreshed(t, v)
	if v.Current(kept) {
		t.Error("a token of a withdrawn key is current")
	}
	mustRefuse(t, v, token, policy.ReasonInvalidToken, "`kid` names no key")
	// The same kid with another key is another key.
	p.publish(named("other256", "d"))
	refreshed(t, v)
	kept = mustAccept(t, v, outsideSigned(jwt.SigningMethodES256, "other256", withKid("ES256", "d"), outsideObject()))
	p.publish(named("p256", "d"))
	refreshed(t, v)
	if v.Current(kept) {
		t.Error("a token of a replaced key is current")
	}
	// An issuer that withdraws everything has said so.
	p.publish()
	refreshed(t, v)
	mustRefuse(t, v, outsideHeader(withKid("ES256", "d")), policy.ReasonInvalidToken, "")
}

// The last good keys hold through an outage, whatever the server answers, and not
// past the bound.
func TestOutage(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	v, c, reg := newVerifiers(t, nil, p.entry())
	// A token that lives as long as the outage.
	token := outsideToken("exp", noon.Add(24*time.Hour).Unix())
	kept := mustAccept(t, v, token)
	for _, body := range []string{"", "{}", `{"keys":null}`, `{"keys":{}}`, "<html>", `{"keys":[],"keys":[]}`, `{"keys":[]}` + strings.Repeat(" ", maxKeySetSize)} {
		p.body.Store(&body)
		refreshed(t, v)
		if !v.Current(kept) {
			t.Fatalf("%.20q took the keys away", body)
		}
	}
	p.status.Store(http.StatusInternalServerError)
	p.publish()
	refreshed(t, v)
	p.Close()
	c.forward(24*time.Hour - time.Second)
	refreshed(t, v)
	mustAccept(t, v, token)
	if !v.Current(kept) {
		t.Error("the keys did not hold through the outage")
	}
	expect := `
# HELP portcullis_jwks_age_seconds Seconds since an outside issuer's keys were last fetched; -1 before the first time.
# TYPE portcullis_jwks_age_seconds gauge
portcullis_jwks_age_seconds{issuer="https://id.example.com"} 86399
# HELP portcullis_jwks_fetches_total Fetches of an outside issuer's keys, by issuer and result: ok or error.
# TYPE portcullis_jwks_fetches_total counter
portcullis_jwks_fetches_total{issuer="https://id.example.com",result="error"} 9
portcullis_jwks_fetches_total{issuer="https://id.example.com",result="ok"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(expect), "portcullis_jwks_age_seconds", "portcullis_jwks_fetches_total"); err != nil {
		t.Error(err)
	}
	lint(t, reg)
	c.forward(2 * time.Second)
	refreshed(t, v)
	if v.Current(kept) {
		t.Error("a cached token outlived the bound")
	}
	mustRefuse(t, v, token, policy.ReasonInvalidToken, "")
}

func lint(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestDiscovery(t *testing.T) {
	var document, keys string
	mux := http.NewServeMux()
	mux.HandleFunc("/tenant/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, document) })
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, keys) })
	server := httptest.NewServer(mux)
	defer server.Close()
	keys = keySetText(named("p256", "e"))
	name := server.URL + "/tenant"
	for what, try := range map[string]struct{ document, want string }{
		"good":                 {`{"issuer":"` + name + `","jwks_uri":"` + server.URL + `/keys"}`, ""},
		"another issuer":       {`{"issuer":"https://evil.example","jwks_uri":"` + server.URL + `/keys"}`, "no key"},
		"a slash more":         {`{"issuer":"` + name + `/","jwks_uri":"` + server.URL + `/keys"}`, "no key"},
		"no issuer":            {`{"jwks_uri":"` + server.URL + `/keys"}`, "no key"},
		"issuer twice":         {`{"issuer":"x","issuer":"` + name + `","jwks_uri":"` + server.URL + `/keys"}`, "no key"},
		"keys over plain http": {`{"issuer":"` + name + `","jwks_uri":"http://id.example.com/keys"}`, "no key"},
		"keys in a file":       {`{"issuer":"` + name + `","jwks_uri":"file:///etc/passwd"}`, "no key"},
		"no keys":              {`{"issuer":"` + name + `"}`, "no key"},
		"no JSON":              {`<html>`, "no key"},
	} {
		t.Run(what, func(t *testing.T) {
			document = try.document
			v, _, _ := newVerifiers(t, nil, policy.Issuer{Name: name, Discovery: true, Audiences: []string{"blog"}, Algorithms: []string{"ES256"},
				Tenant: "default", SubjectClaim: "sub", MaxTokenAge: time.Hour * 24})
			token := outsideToken("iss", name)
			if try.want == "" {
				mustAccept(t, v, token)
				return
			}
			mustRefuse(t, v, token, policy.ReasonInvalidToken, "")
		})
	}
}

// A redirection leads nowhere: the policy says whom the gate trusts.
func TestRedirection(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	other := httptest.NewServer(http.RedirectHandler(p.URL, http.StatusFound))
	defer other.Close()
	v, _, _ := newVerifiers(t, nil, p.entry(func(i *policy.Issuer) { i.JWKSURL = other.URL }))
	mustRefuse(t, v, outsideToken(), policy.ReasonInvalidToken, "")
	if p.fetches.Load() != 0 {
		t.Error("the redirection was followed")
	}
}

// The CA file holds the only authorities, and is read again.
func TestAuthorities(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, keySetText(named("p256", "e"))) }))
	defer secure.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	entry := newProvider(t).entry(func(i *policy.Issuer) { i.JWKSURL, i.CAFile = secure.URL, file })
	v, _, _ := newVerifiers(t, nil, entry)
	mustAccept(t, v, outsideToken())

	v, _, _ = newVerifiers(t, nil, newProvider(t).entry(func(i *policy.Issuer) { i.JWKSURL = secure.URL }))
	mustRefuse(t, v, outsideToken(), policy.ReasonInvalidToken, "")
	write([]byte("no certificate"))
	if err := v.Check([]policy.Issuer{entry}); err == nil {
		t.Error("a CA file without a certificate was taken")
	}
}

// A new policy keeps the keys of issuers whose source is the same, and the tokens
// of those that are the same altogether.
func TestReloadedPolicy(t *testing.T) {
	p := newProvider(t, named("p256", "e"))
	entry := p.entry()
	v, _, reg := newVerifiers(t, nil, entry)
	token := outsideToken()
	kept := mustAccept(t, v, token)

	moved := entry
	moved.Line = 99
	v.Apply([]policy.Issuer{{Name: "https://other.example", JWKSURL: p.URL + "/other", Tenant: "acme"}, moved})
	if !v.Current(kept) {
		t.Error("an entry that only moved put its tokens out")
	}
	p.status.Store(http.StatusInternalServerError) // from here on the keys that are held must do
	changed := entry
	changed.Tenant = "acme"
	v.Apply([]policy.Issuer{changed})
	if v.Current(kept) {
		t.Error("a token of the former entry is current")
	}
	if got := mustAccept(t, v, token); got.Principal.Tenant != "acme" {
		t.Errorf("%v", got.Principal)
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	v.Apply(nil)
	mustRefuse(t, v, token, policy.ReasonInvalidToken, "`alg`")
	if n, err := testutil.GatherAndCount(reg, "portcullis_jwks_age_seconds", "portcullis_jwks_fetches_total"); err != nil || n != 0 {
		t.Errorf("%d metrics of issuers that are gone, %v", n, err)
	}
}

func TestKeySet(t *testing.T) {
	small := map[string]any{"kty": "RSA", "kid": "small", "e": "AQAB", "n": strings.Repeat("_", 170)}
	rsaKey := testKeys()["rsa"]
	for name, try := range map[string]struct {
		keys []map[string]any
		want int
	}{
		"one":                             {[]map[string]any{named("p256", "a")}, 1},
		"use sig":                         {[]map[string]any{jwk(rsaKey, map[string]any{"use": "sig"})}, 1},
		"use enc":                         {[]map[string]any{jwk(rsaKey, map[string]any{"use": "enc"})}, 0},
		"key_ops verify":                  {[]map[string]any{jwk(rsaKey, map[string]any{"key_ops": []string{"verify"}})}, 1},
		"key_ops encrypt":                 {[]map[string]any{jwk(rsaKey, map[string]any{"key_ops": []string{"encrypt"}})}, 0},
		"RSA of 1020 bits":                {[]map[string]any{small}, 0},
		"RSA with an exponent of 1":       {[]map[string]any{jwk(rsaKey, map[string]any{"e": "AQ"})}, 0},
		"RSA with an even exponent":       {[]map[string]any{jwk(rsaKey, map[string]any{"e": "BA"})}, 0},
		"RSA with an exponent that wraps": {[]map[string]any{jwk(rsaKey, map[string]any{"e": "AQAAAAAAAAAAAAAD"})}, 0},
		"a secret":                        {[]map[string]any{{"kty": "oct", "k": "AAAA", "kid": "s"}}, 0},
		"X25519":                          {[]map[string]any{jwk(testKeys()["ed"], map[string]any{"crv": "X25519"})}, 0},
		"a point off its curve":           {[]map[string]any{jwk(testKeys()["p256"], map[string]any{"y": named("other256", "")["y"]})}, 0},
		"another curve's name":            {[]map[string]any{jwk(testKeys()["p256"], map[string]any{"crv": "P-384"})}, 0},
		"secp256k1":                       {[]map[string]any{jwk(testKeys()["p256"], map[string]any{"crv": "secp256k1"})}, 0},
		"a kid that is a number":          {[]map[string]any{jwk(rsaKey, map[string]any{"kid": 1})}, 0},
		"a kid of 257 bytes":              {[]map[string]any{jwk(rsaKey, map[string]any{"kid": strings.Repeat("k", 257)})}, 0},
		"a certificate that is none":      {[]map[string]any{jwk(rsaKey, map[string]any{"x5c": []string{"AAAA"}, "x5u": "https://evil.example"})}, 1},
		"junk beside a good one":          {[]map[string]any{{"kty": "new"}, {}, named("p256", "a")}, 1},
		"one twice":                       {[]map[string]any{named("p256", "a"), named("p256", "a")}, 1},
		"two of one kid":                  {[]map[string]any{named("p256", "a"), named("other256", "a"), named("ed", "b")}, 1},
		"two of one kid, other families":  {[]map[string]any{named("p256", "a"), named("rsa", "a")}, 2},
	} {
		set, err := parseKeySet([]byte(keySetText(try.keys...)))
		if err != nil || len(set.keys) != try.want {
			t.Errorf("%s: %d keys, want %d: %v %v", name, len(set.keys), try.want, err, set.ignored)
		}
	}
}

// Without a kid exactly one key must fit.
func TestNoKid(t *testing.T) {
	p := newProvider(t, named("p256", "e"), named("rsa", "r"))
	v, _, _ := newVerifiers(t, nil, p.entry())
	token := outsideHeader(`{"alg":"ES256"}`)
	mustAccept(t, v, token)
	p.publish(named("p256", "e"), named("other256", "e2"))
	refreshed(t, v)
	mustRefuse(t, v, token, policy.ReasonInvalidToken, "not exactly one key")
}
