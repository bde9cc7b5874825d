package e2e

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"portcullis/envoy"
	"portcullis/internal/testkit"
)

// Clients that know OAuth and nothing of Portcullis get their tokens, refresh,
// introspect and revoke them, with a secret that signs and with a private key; the
// gate admits what they got.
func TestOAuthClients(t *testing.T) {
	for _, store := range []string{"sqlite", "postgres"} {
		for _, algorithm := range []string{"HS256", "ES256"} {
			t.Run(store+"/"+algorithm, func(t *testing.T) {
				cfg := worldConfig{postgres: store == "postgres"}
				issuer := ""
				if algorithm == "ES256" {
					issuer = "https://auth.example.com"
					file := filepath.Join(t.TempDir(), "signing.pem")
					der, err := x509.MarshalPKCS8PrivateKey(newPrivateKey(t))
					if err != nil {
						t.Fatal(err)
					}
					writePEM(t, file, "PRIVATE KEY", der)
					cfg.env = []string{
						"AUTH_JWT_SECRET_KEY=", "AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY_FILE=" + file,
						"AUTH_JWT_ISSUER=" + issuer, "AUTH_JWT_AUDIENCE=blog",
					}
				}
				w := newWorld(t, cfg)
				c := oauthClient{"default/shop", w.cli(t, "key", "new", "--name", "shop", "--scopes", "tokens")}
				for _, path := range []string{
					"/api/role/viewer", "/api/permission/viewer/view_content", "/api/membership/amy/viewer?wait=all",
				} {
					w.admin(t, http.MethodPost, path)
				}
				w.cli(t, "member", "add", "--kind", "client", "--id", "shop", "--role", "viewer", "--wait")
				t.Run("golang.org/x/oauth2", func(t *testing.T) { w.goClient(t, c) })
				t.Run("Authlib", func(t *testing.T) {
					out := testkit.RunAuthlib(t, "testdata/authlib_client.py", "BASE=http://"+w.Admin(),
						"CLIENT_ID="+c.id, "CLIENT_SECRET="+c.secret, "ALGORITHM="+algorithm, "ISSUER="+issuer)
					t.Log(strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
				})
			})
		}
	}
}

func (w *world) goClient(t *testing.T, c oauthClient) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	endpoint := oauth2.Endpoint{TokenURL: "http://" + w.Admin() + "/oauth/token"}
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		client := clientcredentials.Config{ClientID: c.id, ClientSecret: c.secret, TokenURL: endpoint.TokenURL, AuthStyle: style}
		token, err := client.Token(ctx)
		if err != nil {
			t.Fatalf("client credentials, style %d: %v", style, err)
		}
		if token.RefreshToken != "" || !token.Valid() {
			t.Errorf("client credentials, style %d: refresh token %q, valid %v", style, token.RefreshToken, token.Valid())
		}
		w.wantAdmitted(t, token.AccessToken)
	}

	access, refresh := w.exchange(t, c, "amy")
	w.wantAdmitted(t, access)
	config := oauth2.Config{ClientID: c.id, ClientSecret: c.secret, Endpoint: endpoint}
	source := config.TokenSource(ctx, &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(-time.Minute)})
	token, err := source.Token()
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	if token.AccessToken == access || token.RefreshToken == refresh || !strings.HasPrefix(token.RefreshToken, "prt_") {
		t.Error("it refreshed nothing")
	}
	w.wantAdmitted(t, token.AccessToken)
	again := config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken, Expiry: time.Now().Add(-time.Minute)})
	if _, err := again.Token(); err != nil {
		t.Errorf("refresh once more: %v", err)
	}
	if status, body := w.oauth(t, c, "/oauth/revoke", url.Values{"token": {token.AccessToken}}); status != http.StatusOK {
		t.Errorf("revoke: %d %v", status, body)
	}
}

func (w *world) wantAdmitted(t *testing.T, token string) {
	t.Helper()
	if resp := w.send(t, envoy.ListenerIngress, request{line: "GET /posts/1", headers: []string{bearer(token)}}); resp.status != http.StatusOK {
		t.Errorf("the gate answers %d: %s", resp.status, resp.body)
	}
}
