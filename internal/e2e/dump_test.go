package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"portcullis/envoy"
	"portcullis/internal/sealing"
	"portcullis/internal/testkit"
)

// TestNothingIsReadableAtRest fills a sealed database by every way there is, and
// looks for what it must not tell in a dump of it, in its raw files and in the
// service's log.
func TestNothingIsReadableAtRest(t *testing.T) {
	for _, kind := range []string{"sqlite", "postgres"} {
		for _, from := range []string{"sealed from the start", "sealed later"} {
			t.Run(kind+"/"+strings.ReplaceAll(from, " ", "-"), func(t *testing.T) {
				master := sealing.NewMaster()
				env := []string{"AUTH_ENCRYPTION_KEY=" + master, "AUTH_AUDIT_CHECKS=true", "AUTH_LOG_LEVEL=debug"}
				if from == "sealed from the start" {
					env = append(env, "AUTH_ENABLE_ENCRYPTION=true")
				}
				w := newWorld(t, worldConfig{postgres: kind == "postgres", env: env})
				s := w.secrets(t, "before")
				s = append(s, master, adminKey, jwtSecret)
				if from == "sealed later" {
					w.cli(t, "rotate", "encryption", "--enable")
				}
				s = append(s, w.secrets(t, "after")...)
				w.cli(t, "rotate", "encryption", "--deep")
				s = append(s, w.secrets(t, "anew")...)
				s.wantNone(t, "the service's log", []byte(w.Log()))
				if w.databaseURL() != "" {
					dump := testkit.PostgresDump(t, w.databaseURL())
					if !bytes.Contains(dump, []byte("COPY portcullis.memberships")) {
						t.Fatalf("this is no dump: %.200s", dump)
					}
					s.wantNone(t, "the dump", dump)
					return
				}
				for _, suffix := range []string{"", "-wal", "-shm"} {
					content, err := os.ReadFile(w.setting("AUTH_SQLITE_PATH") + suffix)
					if err != nil {
						t.Fatal(err)
					}
					s.wantNone(t, "the file"+suffix, content)
				}
			})
		}
	}
}

// texts are what must not be found.
type texts []string

func (s texts) wantNone(t *testing.T, where string, content []byte) {
	t.Helper()
	for _, text := range s {
		for form, needle := range map[string]string{
			"as it is": text,
			"in hex":   hex.EncodeToString([]byte(text)),
			"base64":   strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "="),
		} {
			if at := bytes.Index(content, []byte(needle)); at >= 0 {
				t.Errorf("%s holds %q, %s: %.160q", where, text, form, content[max(0, at-60):])
			}
		}
	}
}

// secrets does everything that writes names, and returns all of them. The word
// makes them of their own.
func (w *world) secrets(t *testing.T, word string) texts {
	t.Helper()
	user := func(n int) string { return fmt.Sprintf("%s-person-%d@example.com", word, n) }
	permission := func(n int) string { return fmt.Sprintf("%s_may_act_%d", word, n) }
	var s texts
	for n := range 4 {
		s = append(s, user(n), permission(n))
	}
	description, second, label := word+" describes this role", word+" describes it anew", word+" laptop"
	s = append(s, description, second, label)

	role := word + "-crew"
	w.cli(t, "role", "add", role, "--description", description)
	w.cli(t, "role", "add", role, "--description", second)
	w.admin(t, http.MethodPost, "/api/role/"+role)
	w.cli(t, "permission", "add", role, permission(0))
	w.cli(t, "permission", "add", role, "view_content")
	w.admin(t, http.MethodPost, "/api/permission/"+role+"/"+permission(1))
	w.admin(t, http.MethodGet, "/api/permission/"+role+"/"+permission(1))
	w.admin(t, http.MethodPost, "/api/permission/"+role+"/"+permission(2))
	w.admin(t, http.MethodDelete, "/api/permission/"+role+"/"+permission(2))
	for n := range 3 {
		w.admin(t, http.MethodPost, "/api/membership/"+user(n)+"/"+role)
		w.admin(t, http.MethodGet, "/api/membership/"+user(n)+"/"+role)
		w.admin(t, http.MethodGet, "/api/has_permission/"+user(n)+"/"+permission(0))
	}
	w.cli(t, "member", "add", user(3), role, "--expires", "90d")
	w.admin(t, http.MethodDelete, "/api/membership/"+user(2)+"/"+role)
	w.admin(t, http.MethodPost, "/api/membership/"+user(2)+"/no-such-role")

	client := w.cli(t, "key", "new", "--name", word+"-client")
	s = append(s, client)
	userKey := w.cli(t, "user-key", "new", user(0), "--label", label, "--wait")
	token := signed(t, claims{Subject: user(1)})
	s = append(s, userKey, token)
	for _, r := range []request{
		{line: "GET /posts/1", headers: []string{"X-Api-Key: " + userKey}},
		{line: "GET /posts/1", headers: []string{bearer(token)}},
	} {
		if resp := w.send(t, envoy.ListenerIngress, r); resp.status != http.StatusOK {
			t.Fatalf("%s: %d %s", r.line, resp.status, resp.body)
		}
	}
	for _, r := range []request{
		{line: "POST /deploy", headers: []string{bearer(token)}},
		{line: "GET /posts/1", headers: []string{bearer(token + "x")}},
		{line: "GET /posts/1", headers: []string{clientKey(client)}},
	} {
		if resp := w.send(t, envoy.ListenerIngress, r); resp.status < 400 {
			t.Fatalf("%s: %d", r.line, resp.status)
		}
	}
	w.cli(t, "key", "revoke", word+"-client")

	// A role that goes, with all that is in it.
	gone := word + "-gone"
	w.cli(t, "role", "add", gone, "--description", description+" too")
	w.cli(t, "permission", "add", gone, permission(3))
	w.cli(t, "member", "add", user(3), gone)
	w.cli(t, "role", "remove", gone, "--wait")
	if list := w.cli(t, "audit", "list", "--json"); !strings.Contains(list, user(3)) || !strings.Contains(list, permission(3)) {
		t.Errorf("the audit does not name what was deleted: %.500s", list)
	}
	return s
}
