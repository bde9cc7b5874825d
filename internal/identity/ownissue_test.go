package identity

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"portcullis/policy"
)

func TestWhatAKeySignsVerifies(t *testing.T) {
	for alg, name := range map[string]string{"RS256": "rsa", "ES256": "p256", "EdDSA": "ed"} {
		for _, kind := range []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload} {
			s := newOwnSetup(t, nil, name, "other256")
			if kid, signs := s.issuer.Signer(); signs != alg || kid != ownKeyOf(t, name).KeyID() {
				t.Errorf("%s signs with %s", signs, kid)
			}
			want := policy.Principal{Tenant: "acme", Kind: kind, ID: "alice@example.com"}
			issued, err := s.issuer.IssueToken(TokenRequest{Principal: want, Lifetime: 15 * time.Minute, ClientID: "acme/web"})
			if err != nil {
				t.Fatal(err)
			}
			got := mustAccept(t, s.verifiers, issued.Text)
			if got.Principal != want || got.Issuer != "gate" || got.KeyID != issued.KeyID || got.ID != issued.ID || len(got.ID) != 22 || !got.HasIssuedAt ||
				got.IssuedAt != issued.IssuedAt || got.Expires != issued.Expires || got.Expires-got.IssuedAt != int64(15*time.Minute) {
				t.Errorf("%s: %+v of %+v", alg, got, issued)
			}
			var header, claims map[string]any
			parts := strings.Split(issued.Text, ".")
			if err := json.Unmarshal([]byte(decode(t, parts[0])), &header); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(decode(t, parts[1])), &claims); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(header) != fmt.Sprint(map[string]any{"alg": alg, "kid": issued.KeyID, "typ": "at+jwt"}) {
				t.Errorf("header %v", header)
			}
			for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "tenant", "kind"} { // RFC 9068, 2.2, and ours
				if claims[name] == nil {
					t.Errorf("%s: no %s in %v", alg, name, claims)
				}
			}
			if claims["client_id"] != "acme/web" {
				t.Errorf("client_id %v", claims["client_id"])
			}
		}
	}
}

func TestIssueTokenJudgesTheClient(t *testing.T) {
	s := newOwnSetup(t, nil, "ed")
	p := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}
	for name, client := range map[string]string{"a space": "a b", "a newline": "a\n", "too long": strings.Repeat("a", MaxClientIDSize+1), "beyond ASCII": "é"} {
		if issued, err := s.issuer.IssueToken(TokenRequest{Principal: p, Lifetime: time.Hour, ClientID: client}); err == nil || issued.Text != "" || !strings.HasPrefix(err.Error(), "client id") {
			t.Errorf("%s: %v", name, err)
		}
	}
	issued, err := s.issuer.IssueToken(TokenRequest{Principal: p, Lifetime: time.Hour})
	if err != nil || strings.Contains(decode(t, strings.Split(issued.Text, ".")[1]), "client_id") {
		t.Errorf("%+v, %v", issued, err)
	}
}

func TestIssuersThatCannotSign(t *testing.T) {
	rsa, ed := ownKeyOf(t, "rsa"), ownKeyOf(t, "ed")
	for name, try := range map[string]struct {
		cfg  IssuerConfig
		want string
	}{
		"no key":             {IssuerConfig{Algorithm: "ES256"}, ErrNoPrivateKey.Error()},
		"no key, a secret":   {IssuerConfig{Algorithm: "ES256", Secret: testSecret}, ErrNoPrivateKey.Error()},
		"no secret, a key":   {IssuerConfig{Keys: []*PrivateKey{ed}}, ErrNoSecret.Error()},
		"keys for others":    {IssuerConfig{Algorithm: "ES256", Keys: []*PrivateKey{rsa, ed}}, "it holds no key for ES256, but the RS256 key " + rsa.KeyID() + " and the EdDSA key " + ed.KeyID()},
		"RS512":              {IssuerConfig{Algorithm: "RS512", Keys: []*PrivateKey{rsa}}, `algorithm "RS512"`},
		"none":               {IssuerConfig{Algorithm: "none", Keys: []*PrivateKey{rsa}}, `algorithm "none"`},
		"the newer name":     {IssuerConfig{Algorithm: "Ed25519", Keys: []*PrivateKey{ed}}, `algorithm "Ed25519"`},
		"the name in small":  {IssuerConfig{Algorithm: "eddsa", Keys: []*PrivateKey{ed}}, `algorithm "eddsa"`},
		"a secret too short": {IssuerConfig{Secret: testSecret[:31], Keys: []*PrivateKey{ed}}, "token secret has 31 bytes"},
	} {
		if issuer, err := NewIssuer(try.cfg); err == nil || issuer != nil || !strings.HasPrefix(err.Error(), try.want) {
			t.Errorf("%s: %v, want %q", name, err, try.want)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	for alg, name := range map[string]string{"RS256": "rsa", "ES256": "p256", "EdDSA": "ed"} {
		b.Run(alg, func(b *testing.B) {
			s := newOwnSetup(b, nil, name)
			b.ReportAllocs()
			for b.Loop() {
				s.issue(b)
			}
		})
	}
}
