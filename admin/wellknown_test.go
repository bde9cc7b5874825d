package admin_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

func signingKeys(t *testing.T) (ec, ed *identity.PrivateKey) {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ec, err = identity.NewPrivateKey(p256)
	must(t, err)
	ed, err = identity.NewPrivateKey(edwards)
	must(t, err)
	return ec, ed
}

func publish(t *testing.T, h *house, key *identity.PrivateKey) store.Result {
	t.Helper()
	public := key.Public()
	r, err := h.store.PublishSigningKey(t.Context(), store.Actor{Name: "cli"}, store.SigningKey{KeyID: public.KeyID, Algorithm: public.Algorithm, JWK: string(public.JWK)})
	must(t, err)
	return r
}

// What the store says signs, signs; what it publishes, jwks.json shows, and no part
// of a private key.
func TestSigningFollowsTheStore(t *testing.T) {
	ec, ed := signingKeys(t)
	h := newHouse(t, options{issuer: identity.IssuerConfig{
		Algorithm: "ES256", Keys: []*identity.PrivateKey{ec, ed}, Issuer: "https://auth.example.com/", Audience: "shop",
	}})
	kid := func() string {
		t.Helper()
		_, body := h.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}}, h.as("check"))
		token := body["access_token"].(string)
		held, reason := h.verifier.Verify(token)
		if reason != policy.ReasonOK || !h.active("manage", token) {
			t.Fatalf("%v", reason)
		}
		return held.KeyID
	}
	publish(t, h, ec)
	result, err := h.store.SignWith(t.Context(), store.Actor{Name: "cli"}, ec.KeyID(), time.Now())
	must(t, err)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	if got := kid(); got != ec.KeyID() {
		t.Errorf("%s signs, want the ES256 key", got)
	}
	result = publish(t, h, ed)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	got := h.ask("nobody", http.MethodGet, "/.well-known/jwks.json")
	if got.status != 200 || !strings.Contains(got.body, ec.KeyID()) || !strings.Contains(got.body, ed.KeyID()) || strings.Contains(got.body, `"d"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := kid(); got != ec.KeyID() {
		t.Errorf("%s signs before it was made to", got)
	}
	result, err = h.store.SignWith(t.Context(), store.Actor{Name: "cli"}, ed.KeyID(), time.Now().Add(time.Hour))
	must(t, err)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	if got := kid(); got != ed.KeyID() {
		t.Errorf("%s signs, want the EdDSA key", got)
	}

	got = h.ask("nobody", http.MethodGet, "/.well-known/oauth-authorization-server")
	var m map[string]any
	must(t, json.Unmarshal([]byte(got.body), &m))
	if got.status != 200 || m["issuer"] != "https://auth.example.com/" || m["token_endpoint"] != "https://auth.example.com/oauth/token" || len(m["grant_types_supported"].([]any)) != 3 {
		t.Errorf("%d %s", got.status, got.body)
	}
	before := h.revision()
	if got := h.sendJSON("operator", "POST", "/api/deny/key", `{"kid":"`+ed.KeyID()+`"}`); got.status != 200 || h.revision() == before {
		t.Fatalf("%d %s", got.status, got.body)
	}
	_, body := h.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}}, h.as("check"))
	if h.active("check", body["access_token"].(string)) {
		t.Error("a token of a denied key is active")
	}
}
