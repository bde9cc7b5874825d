package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// testKeys are made once: an RSA key takes a while.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	keep := func(name string, key crypto.Signer, err error) {
		if err != nil {
			panic(err)
		}
		keys[name] = key
	}
	for _, name := range []string{"rsa", "rsa2"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		keep(name, key, err)
	}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521(), "other256": elliptic.P256()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		keep(name, key, err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	keep("ed", ed, err)
	return keys
})

// jwk writes the public half of a key, with members changed.
func jwk(key crypto.Signer, changes map[string]any) map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	var m map[string]any
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		m = map[string]any{"kty": "RSA", "n": b64(public.N.Bytes()), "e": b64(big.NewInt(int64(public.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		m = map[string]any{"kty": "EC", "crv": public.Curve.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		m = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}
	}
	maps.Copy(m, changes)
	return m
}

func named(key, kid string) map[string]any {
	return jwk(testKeys()[key], map[string]any{"kid": kid})
}

func keySetText(keys ...map[string]any) string {
	if keys == nil {
		keys = []map[string]any{}
	}
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// provider is an outside issuer's server.
type provider struct {
	*httptest.Server
	body    atomic.Pointer[string]
	status  atomic.Int64
	fetches atomic.Int64
	hold    atomic.Pointer[chan struct{}] // where set, an answer waits for its end
}

func newProvider(tb testing.TB, keys ...map[string]any) *provider {
	tb.Helper()
	p := &provider{}
	p.publish(keys...)
	p.status.Store(http.StatusOK)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := *p.body.Load()
		p.fetches.Add(1)
		if hold := p.hold.Load(); hold != nil {
			<-*hold
		}
		w.WriteHeader(int(p.status.Load()))
		fmt.Fprint(w, body)
	}))
	tb.Cleanup(p.Close)
	return p
}

func (p *provider) publish(keys ...map[string]any) {
	text := keySetText(keys...)
	p.body.Store(&text)
}

// clock is set by tests.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(noon.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) forward(d time.Duration) { c.at.Add(int64(d)) }
func everyAlgorithm() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}
func outsideToken(claims ...any) string {
	return outsideSigned(jwt.SigningMethodES256, "p256", `{"alg":"ES256","kid":"e"}`, outsideObject(claims...))
}
func withKid(alg, kid string) string { return `{"alg":"` + alg + `","kid":"` + kid + `"}` }
func outsideHeader(header string) string {
	return outsideSigned(jwt.SigningMethodES256, "p256", header, outsideObject())
}
func outsidePayload(payload string) string {
	return outsideSigned(jwt.SigningMethodES256, "p256", `{"alg":"ES256","kid":"e"}`, payload)
}

// outsideObject is a good payload with claims changed: name, value, name, value.
func outsideObject(claims ...any) string {
	changes := map[string]any{"iss": "https://id.example.com"}
	for n := 0; n < len(claims); n += 2 {
		changes[claims[n].(string)] = claims[n+1]
	}
	return object(changes)
}

// outsideSigned signs a header and a payload with one of the test's keys.
func outsideSigned(method jwt.SigningMethod, key, header, payload string) string {
	text := b64(header) + "." + b64(payload)
	signature, err := method.Sign(text, testKeys()[key])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// allKeys are what the test's issuer publishes.
func allKeys() []map[string]any {
	return []map[string]any{
		named("rsa", "r"), named("p256", "e"), named("p384", "e384"), named("p521", "e521"), named("ed", "d"),
		jwk(testKeys()["rsa2"], map[string]any{"kid": "enc", "use": "enc"}),
		jwk(testKeys()["rsa2"], map[string]any{"kid": "narrow", "alg": "RS256", "use": "sig"}),
		jwk(testKeys()["other256"], map[string]any{"kid": "pinned", "alg": "ES256"}),
	}
}

// entry is the policy's entry for a provider.
func (p *provider) entry(change ...func(*policy.Issuer)) policy.Issuer {
	e := policy.Issuer{
		Name: "https://id.example.com", JWKSURL: p.URL + "/keys", Audiences: []string{"blog", "shop"}, Algorithms: everyAlgorithm(),
		Tenant: "default", SubjectClaim: "sub", MaxTokenAge: 24 * time.Hour,
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

// newVerifiers makes Verifiers whose own tokens are the test's, without Run.
func newVerifiers(tb testing.TB, change func(*VerifiersConfig), entries ...policy.Issuer) (*Verifiers, *clock, *prometheus.Registry) {
	tb.Helper()
	c := newClock()
	own := newVerifier(tb, VerifierConfig{Issuer: "gate", Audience: "blog", Now: c.now})
	reg := prometheus.NewRegistry()
	cfg := VerifiersConfig{Own: own, Now: c.now, Registerer: reg, Wait: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	v, err := NewVerifiers(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.Check(entries); err != nil {
		tb.Fatal(err)
	}
	v.Apply(entries)
	return v, c, reg
}

// detail is why a token is refused, or "".
func detail(v *Verifiers, token string) string {
	steps, t, _ := v.Inspect(token)
	if t != nil {
		return ""
	}
	last := steps[len(steps)-1]
	return last.Name + ": " + last.Detail
}

func mustAccept(tb testing.TB, v *Verifiers, token string) *Token {
	tb.Helper()
	t, reason := v.Verify(token)
	if reason != policy.ReasonOK {
		tb.Fatalf("refused as %v, %s", reason, detail(v, token))
	}
	return t
}

func mustRefuse(tb testing.TB, v *Verifiers, token string, want policy.Reason, part string) {
	tb.Helper()
	t, reason := v.Verify(token)
	if t != nil || reason != want {
		tb.Fatalf("got %v with %v, want %v", reason, t, want)
	}
	if part != "" {
		if got := detail(v, token); !strings.Contains(got, part) {
			tb.Fatalf("got %q, want %q in it", got, part)
		}
	}
}
