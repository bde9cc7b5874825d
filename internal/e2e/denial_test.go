package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/envoy"
)

const denialRounds = 100

// oauthClient is a client key as an OAuth client of the world.
type oauthClient struct {
	id, secret string
}

// oauth posts a form to an endpoint of the admin API and decodes the answer.
func (w *world) oauth(t *testing.T, c oauthClient, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.Admin()+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(c.id), c.secret)
	return w.answer(t, req)
}

// answer sends a request and decodes the JSON that comes back, if any does.
func (w *world) answer(t *testing.T, req *http.Request) (int, map[string]any) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			t.Fatalf("%s: %d %q: %v", req.URL.Path, resp.StatusCode, text, err)
		}
	}
	return resp.StatusCode, body
}

// exchange gets a user's tokens.
func (w *world) exchange(t *testing.T, c oauthClient, user string) (access, refresh string) {
	t.Helper()
	status, body := w.oauth(t, c, "/oauth/token", url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token_type": {"urn:portcullis:params:oauth:token-type:user"}, "subject_token": {user},
	})
	if status != http.StatusOK {
		t.Fatalf("exchange for %s: %d %v", user, status, body)
	}
	return body["access_token"].(string), body["refresh_token"].(string)
}

func (w *world) refresh(t *testing.T, c oauthClient, token string) (int, map[string]any) {
	t.Helper()
	return w.oauth(t, c, "/oauth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// deny posts to the deny-list.
func (w *world) deny(t *testing.T, c oauthClient, what, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Admin()+"/api/deny/"+what, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	if status, answer := w.answer(t, req); status != http.StatusOK {
		t.Fatalf("deny %s %s: %d %v", what, body, status, answer)
	}
}

// TestDenialsBite denies tokens that the gate has in memory, in each way there is,
// and measures from the moment that the write returned until a request with the token
// is refused through Envoy. `make latency` prints the figures.
func TestDenialsBite(t *testing.T) {
	for _, store := range []string{"sqlite", "postgres"} {
		t.Run(store, func(t *testing.T) {
			w := newWorld(t, worldConfig{postgres: store == "postgres"})
			c := oauthClient{"default/tokens", w.cli(t, "key", "new", "--name", "tokens", "--scopes", "tokens")}
			for _, path := range []string{"/api/role/viewer", "/api/permission/viewer/view_content", "/api/membership/amy/viewer"} {
				w.admin(t, http.MethodPost, path)
			}
			for _, way := range []struct {
				name string
				// begin gives a token that the gate admits, and what denies it.
				begin func(t *testing.T, round int) (token string, deny func())
			}{
				{"a refresh token used twice", func(t *testing.T, _ int) (string, func()) {
					_, first := w.exchange(t, c, "amy")
					status, body := w.refresh(t, c, first)
					if status != http.StatusOK {
						t.Fatalf("refresh: %d %v", status, body)
					}
					return body["access_token"].(string), func() {
						if status, body := w.refresh(t, c, first); status != http.StatusBadRequest || body["error"] != "invalid_grant" {
							t.Fatalf("the second use: %d %v", status, body)
						}
						if status, body := w.refresh(t, c, body["refresh_token"].(string)); status != http.StatusBadRequest {
							t.Fatalf("the family's last token after it: %d %v", status, body)
						}
					}
				}},
				{"a jti on the deny-list", func(t *testing.T, _ int) (string, func()) {
					access, _ := w.exchange(t, c, "amy")
					return access, func() { w.deny(t, c, "token", `{"jti":"`+claim(t, access, "jti")+`"}`) }
				}},
				{"an access token revoked", func(t *testing.T, _ int) (string, func()) {
					access, _ := w.exchange(t, c, "amy")
					return access, func() {
						if status, body := w.oauth(t, c, "/oauth/revoke", url.Values{"token": {access}}); status != http.StatusOK {
							t.Fatalf("revoke: %d %v", status, body)
						}
					}
				}},
				{"a subject on the deny-list", func(t *testing.T, round int) (string, func()) {
					user := fmt.Sprintf("user-%d", round)
					w.admin(t, http.MethodPost, "/api/membership/"+user+"/viewer?wait=all&timeout=10s")
					access, _ := w.exchange(t, c, user)
					return access, func() { w.deny(t, c, "subject", `{"id":"`+user+`"}`) }
				}},
			} {
				t.Run(way.name, func(t *testing.T) { w.measureDenials(t, way.begin) })
			}
		})
	}
}

// claim is a claim of a token that nobody verifies here.
func claim(t *testing.T, token, name string) string {
	t.Helper()
	var claims jwt.MapClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		t.Fatal(err)
	}
	return claims[name].(string)
}

func (w *world) measureDenials(t *testing.T, begin func(*testing.T, int) (string, func())) {
	var took []time.Duration
	var denied []request
	late := 0 // requests that were still allowed after the write had returned
	for round := range denialRounds {
		token, deny := begin(t, round)
		r := request{line: "GET /posts/1", headers: []string{bearer(token)}}
		for range 2 { // so that the token is surely in memory
			if resp := w.send(t, envoy.ListenerIngress, r); resp.status != http.StatusOK {
				t.Fatalf("round %d: the token is not admitted: %d %s", round, resp.status, resp.body)
			}
		}
		deny()
		for returned := time.Now(); ; late++ {
			resp := w.send(t, envoy.ListenerIngress, r)
			since := time.Since(returned)
			if resp.status != http.StatusOK {
				checkDenial(t, r, resp, "revoked")
				took = append(took, since)
				break
			}
			if since > revocationLimit {
				t.Fatalf("round %d: the denial does not bite within %v", round, revocationLimit)
			}
			// Without a pause this loop takes the CPU from what it waits for.
			time.Sleep(time.Millisecond)
		}
		denied = append(denied, r)
	}
	for i, r := range denied { // and stays
		if resp := w.send(t, envoy.ListenerIngress, r); resp.status != http.StatusUnauthorized {
			t.Errorf("round %d: the denied token is answered %d at the end", i, resp.status)
		}
	}
	logLatencies(t, "denials", took, late)
}
