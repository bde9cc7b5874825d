package identity

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"portcullis/policy"
)

// noon is the clock of these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

var testSecret = []byte("0123456789abcdef0123456789abcdef")

func newVerifier(t testing.TB, cfg VerifierConfig) *Verifier {
	t.Helper()
	if cfg.Secret == nil {
		cfg.Secret = testSecret
	}
	if cfg.Now == nil {
		cfg.Now = atNoon
	}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newIssuer(t testing.TB, cfg IssuerConfig) *Issuer {
	t.Helper()
	if cfg.Secret == nil {
		cfg.Secret = testSecret
	}
	if cfg.Now == nil {
		cfg.Now = atNoon
	}
	i, err := NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWhatIsIssuedVerifies(t *testing.T) {
	for _, algorithm := range []string{"", "HS256", "HS384", "HS512"} {
		for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload} {
			p := policy.Principal{Tenant: "acme", Kind: kind, ID: "alice@example.com"}
			issuer := newIssuer(t, IssuerConfig{Algorithm: algorithm, Issuer: "gate", Audience: "blog"})
			token, err := issuer.Issue(p, 15*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			v := newVerifier(t, VerifierConfig{Algorithm: algorithm, Issuer: "gate", Audience: "blog"})
			got, reason := v.Verify(token)
			if reason != policy.ReasonOK {
				t.Fatalf("%s %v: %v", algorithm, kind, v.Explain(token))
			}
			if got.Principal != p || got.Issuer != "gate" || got.KeyID != "" || got.Generation != 1 {
				t.Errorf("%s: got %+v", algorithm, got)
			}
			if want := noon.Add(15 * time.Minute).UnixNano(); got.Expires != want || got.IssuedAt != noon.UnixNano() || got.NotBefore != noon.UnixNano() {
				t.Errorf("times: got %+v", got)
			}
			var header map[string]any
			if err := json.Unmarshal([]byte(decode(t, strings.Split(token, ".")[0])), &header); err != nil || header["typ"] != "at+jwt" || len(header) != 2 {
				t.Errorf("header %v", header)
			}
			if len(got.ID) != 22 {
				t.Errorf("jti %q: want 128 bits in base64url", got.ID)
			}
			again, err := issuer.Issue(p, 15*time.Minute)
			if err != nil || again == token {
				t.Errorf("two tokens of one moment are equal (%v)", err)
			}
		}
	}
}

func TestIssueRefusesWhatVerifyWould(t *testing.T) {
	issuer := newIssuer(t, IssuerConfig{})
	good := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}
	for name, try := range map[string]struct {
		change func(*policy.Principal)
		ttl    time.Duration
		want   string
	}{
		"no tenant":       {func(p *policy.Principal) { p.Tenant = "" }, time.Hour, "tenant"},
		"a tenant's path": {func(p *policy.Principal) { p.Tenant = "a/b" }, time.Hour, "tenant"},
		"no kind":         {func(p *policy.Principal) { p.Kind = 0 }, time.Hour, "kind"},
		"no subject":      {func(p *policy.Principal) { p.ID = "" }, time.Hour, "subject"},
		"a space":         {func(p *policy.Principal) { p.ID = "a b" }, time.Hour, "subject"},
		"a newline":       {func(p *policy.Principal) { p.ID = "a\nb" }, time.Hour, "subject"},
		"256 bytes":       {func(p *policy.Principal) { p.ID = strings.Repeat("a", 256) }, time.Hour, "subject"},
		"no lifetime":     {func(*policy.Principal) {}, 0, "lifetime"},
		"past lifetime":   {func(*policy.Principal) {}, -time.Hour, "lifetime"},
		"endless":         {func(*policy.Principal) {}, MaxTokenLifetime + time.Second, "lifetime"},
	} {
		p := good
		try.change(&p)
		if token, err := issuer.Issue(p, try.ttl); err == nil || token != "" || !strings.HasPrefix(err.Error(), try.want) {
			t.Errorf("%s: got %q, %v; want an error about the %s", name, token, err, try.want)
		}
	}
}

func TestNoTokenWithoutASecret(t *testing.T) {
	if _, err := NewIssuer(IssuerConfig{}); !errors.Is(err, ErrNoSecret) {
		t.Errorf("NewIssuer without a secret: %v", err)
	}
	for _, n := range []int{1, 31} {
		if _, err := NewIssuer(IssuerConfig{Secret: make([]byte, n)}); err == nil {
			t.Errorf("NewIssuer took a secret of %d bytes", n)
		}
		if _, err := NewVerifier(VerifierConfig{Secret: make([]byte, n)}); err == nil {
			t.Errorf("NewVerifier took a secret of %d bytes", n)
		}
	}
	token, err := newIssuer(t, IssuerConfig{}).Issue(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{Now: atNoon})
	if err != nil {
		t.Fatal(err)
	}
	// An empty secret is a key like any other to HMAC, and everybody knows it.
	for _, token := range []string{token, sign(goodHeader, object(nil), sha256.New, nil)} {
		if got, reason := v.Verify(token); got != nil || reason != policy.ReasonInvalidToken {
			t.Errorf("a verifier without a secret: %v, %v", got, reason)
		}
	}
}
