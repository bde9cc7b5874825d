package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"portcullis/envoy"
)

// TestUserKeysBite makes and revokes API keys by the command line in another
// process, with --wait: the very next request is judged by it, that of the key and,
// in a tenant with strict users, that of the user's token.
func TestUserKeysBite(t *testing.T) {
	for _, store := range []string{"sqlite", "postgres"} {
		t.Run(store, func(t *testing.T) {
			w := newWorld(t, worldConfig{postgres: store == "postgres"})
			for _, path := range []string{"/api/role/viewer", "/api/permission/viewer/view_content", "/api/membership/amy/viewer"} {
				w.admin(t, http.MethodPost, path+"?wait=all&timeout=10s")
			}
			token := request{line: "GET /posts/1", headers: []string{bearer(signed(t, claims{Subject: "amy"}))}}
			expect := func(r request, status int, reason string) {
				t.Helper()
				resp := w.send(t, envoy.ListenerIngress, r)
				switch {
				case resp.status != status:
					t.Fatalf("%d %s, want %d %s", resp.status, resp.body, status, reason)
				case status != http.StatusOK:
					checkDenial(t, r, resp, reason)
				}
			}
			expect(token, http.StatusOK, "")
			w.cli(t, "tenant", "strict", "on", "--wait=10s")
			for range 5 {
				expect(token, http.StatusForbidden, "not_key_backed")
				secret := w.cli(t, "user-key", "new", "amy", "--wait=10s")
				key := request{line: "GET /posts/1", headers: []string{"X-Api-Key: " + secret}}
				expect(token, http.StatusOK, "")
				expect(key, http.StatusOK, "")
				w.cli(t, "user-key", "revoke", "amy", w.liveKey(t, "amy"), "--wait=10s")
				expect(key, http.StatusUnauthorized, "bad_key")
			}
			expect(token, http.StatusForbidden, "not_key_backed")
			w.cli(t, "tenant", "strict", "off", "--wait=10s")
			expect(token, http.StatusOK, "")
		})
	}
}

// liveKey is the id of the user's one live key.
func (w *world) liveKey(t *testing.T, user string) string {
	t.Helper()
	var keys []struct {
		ID    string `json:"key_id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(w.cli(t, "user-key", "list", user, "--json")), &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.State == "live" {
			return k.ID
		}
	}
	t.Fatalf("%s has no live key: %v", user, keys)
	return ""
}
