package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
)

const limitedKey = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

// The settings reach the API, and a process that ends has written the failures that
// it was told of.
func TestSettingsLimitTheAdminAPI(t *testing.T) {
	p := newPlace(t, "AUTH_CLIENT_KEY="+limitedKey, "AUTH_RATE_LIMIT=3/h", "AUTH_RATE_LIMIT_WRITES=2/h", "AUTH_RATE_LIMIT_FAILURES=1/h")
	s := p.start("serve")
	for i, c := range []struct {
		method, path, key string
		want              int
	}{
		{"GET", "/api/roles", "", 401}, {"GET", "/api/roles", "", 429}, {"GET", "/api/roles", strings.Replace(limitedKey, "6", "7", 1), 429},
		{"GET", "/api/roles", limitedKey, 200}, {"GET", "/api/roles", limitedKey, 200}, {"GET", "/api/roles", limitedKey, 200}, {"GET", "/api/roles", limitedKey, 429},
		{"POST", "/api/role/a", limitedKey, 200}, {"POST", "/api/role/b", limitedKey, 200}, {"POST", "/api/role/c", limitedKey, 429},
		{"GET", "/api/has_permission/amy/read", limitedKey, 200},
	} {
		if got := s.status(c.method, c.path, c.key); got != c.want {
			t.Errorf("%d: %s %s: %d, want %d", i, c.method, c.path, got, c.want)
		}
	}
	// The bucket fills by ten a second meanwhile.
	let := 0
	for let < 10*maxUnauthenticated && s.status("GET", "/ping", "") == 200 {
		let++
	}
	if let < maxUnauthenticated-3 || let == 10*maxUnauthenticated {
		t.Errorf("%d requests without a key were let through", let)
	}
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Fatal(err)
	}
	if code, _ := s.get("/readyz"); code != 0 {
		t.Errorf("it still answers: %d", code)
	}

	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(p.dir, ".auth.sqlite3")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	rows, _, err := st.Audit(t.Context(), store.AuditQuery{Actions: []store.Action{store.ActionAuthFailed}, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	// Two reasons; a minute that ended in between makes two rows of one.
	text := ""
	for _, r := range rows {
		text += r.Address + " " + r.Details + "\n"
	}
	if len(rows) < 2 || len(rows) > 3 || !strings.Contains(text, `127.0.0.1 {"reason":"missing_credential"`) || !strings.Contains(text, `127.0.0.1 {"reason":"bad_key"`) {
		t.Errorf("rows of the failures:\n%s", text)
	}
}

// Who turns the limit of failures off has none by address.
func TestNoLimitByAddress(t *testing.T) {
	p := newPlace(t, "AUTH_RATE_LIMIT_FAILURES=off")
	s := p.start("serve")
	for i := range maxUnauthenticated + 10 {
		response, err := http.Get("http://" + s.addr("admin") + "/api/roles")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 401 {
			t.Fatalf("failure %d: %d", i+1, response.StatusCode)
		}
	}
}
