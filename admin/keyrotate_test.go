package admin_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// rotate calls the route with a key, and returns the new one.
func (h *house) rotate(key, query string, lines ...string) (answer, string) {
	h.t.Helper()
	got := h.send("POST /api/keys/rotate"+query+" HTTP/1.1", append(lines, "Authorization: Bearer "+key), "")
	var body struct {
		Data struct {
			NewKey   string         `json:"new_key"`
			Migrated map[string]int `json:"migrated"`
		} `json:"data"`
	}
	must(h.t, json.Unmarshal([]byte(got.body), &body))
	return got, body.Data.NewKey
}

func (h *house) opens(key string) bool {
	h.t.Helper()
	return h.send("GET /api/roles HTTP/1.1", []string{"Authorization: Bearer " + key}, "").status == 200
}

func TestARotationIsMadeOnce(t *testing.T) {
	for _, header := range [][]string{nil, {"Idempotency-Key: retry-1"}} {
		h := newHouse(t, options{})
		must2(t, h.ask("manager", "POST", "/api/role/editor"))
		old := h.keys["manager"]
		got, next := h.rotate(old, "", header...)
		if got.status != 200 || next == "" || next == old || !strings.Contains(got.body, `"roles":1`) {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if h.opens(old) || !h.opens(next) {
			t.Fatal("the old key opens, or the new one does not")
		}
		revision := h.revision()
		for range 3 {
			if got, again := h.rotate(old, "", header...); got.status != 200 || again != next {
				t.Errorf("a retry: %d %s", got.status, got.body)
			}
		}
		if h.revision() != revision {
			t.Error("a retry rotated once more")
		}
		// The old key opens that replay alone.
		for _, request := range []string{"GET /api/keys/rotate", "POST /api/role/x", "GET /api/nothing"} {
			if got := h.send(request+" HTTP/1.1", append(header, "Authorization: Bearer "+old), ""); got.status != 401 {
				t.Errorf("%s with the old key: %d %s", request, got.status, got.body)
			}
		}
		if got, _ := h.rotate(old, "", "Idempotency-Key: another"); got.status != 401 {
			t.Errorf("another Idempotency-Key with the old key: %d %s", got.status, got.body)
		}
		if got, _ := h.rotate(h.keys["unknown"], "", header...); got.status != 401 {
			t.Errorf("a key that never was: %d %s", got.status, got.body)
		}
		if got, _ := h.rotate(h.keys["revoked"], "", header...); got.status != 401 {
			t.Errorf("a revoked key: %d %s", got.status, got.body)
		}
		if got := h.send("GET /api/roles HTTP/1.1", []string{"Authorization: Bearer " + next}, ""); !strings.Contains(got.body, "editor") {
			t.Errorf("the tenant lost its roles: %s", got.body)
		}
		if entries, total, err := h.store.Audit(t.Context(), store.AuditQuery{Tenant: h.tenants["default"], Actions: []store.Action{store.ActionRotateKey}, Limit: 10}); err != nil || total != 4 {
			t.Errorf("audit: %d rows, %v: %+v", total, err, entries)
		}
	}
}

func must2(t *testing.T, got answer) {
	t.Helper()
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
}

func TestRotationsAtOnceMakeOneKey(t *testing.T) {
	h := newHouse(t, options{})
	var wait sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		wait.Go(func() { _, keys[i] = h.rotate(h.keys["manager"], "") })
	}
	wait.Wait()
	for _, k := range keys {
		if k == "" || k != keys[0] {
			t.Fatalf("different keys: %q", keys)
		}
	}
}

func TestRotationWithAnOverlap(t *testing.T) {
	h := newHouse(t, options{})
	old := h.keys["manager"]
	_, next := h.rotate(old, "?overlap=1h", "Idempotency-Key: a")
	if !h.opens(old) || !h.opens(next) {
		t.Error("within the overlap one of the two keys does not open")
	}
	if _, again := h.rotate(old, "?overlap=1h", "Idempotency-Key: a"); again != next {
		t.Error("a retry within the overlap made another key")
	}
	keys, err := h.store.KeyList(t.Context(), h.tenants["default"])
	must(t, err)
	for _, k := range keys {
		if k.Name == "manager" && k.Prefix == old[:8] && k.Expires.IsZero() {
			t.Error("the old key has no end")
		}
	}
	for _, query := range []string{"?overlap=x", "?overlap=-1s", "?overlap=721h", "?overlap=1h&overlap=2h"} {
		if got, _ := h.rotate(next, query); got.status != 400 {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	for _, header := range []string{"Idempotency-Key: ", "Idempotency-Key: " + strings.Repeat("x", 256)} {
		if got, _ := h.rotate(next, "", header); got.status != 400 {
			t.Errorf("%.30s: %d %s", header, got.status, got.body)
		}
	}
}

// No key makes an operator key by the API, not even an operator's.
func TestTheAPIMakesNoOperatorKey(t *testing.T) {
	h := newHouse(t, options{})
	secret := identity.NewClientKey()
	_, result, err := h.store.CreateKey(t.Context(), store.Actor{Name: "cli"}, store.NewKey{
		Tenant: h.tenants["default"], Name: "root", Digest: identity.KeyDigest(secret), Prefix: string(secret[:8]),
		Scopes: []store.Scope{store.ScopeKeys, store.ScopeOperator},
	})
	must(t, err)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	if got, _ := h.rotate(string(secret[:]), ""); got.status != 403 || h.revision() != result.Revision.Number {
		t.Errorf("%d %s", got.status, got.body)
	}
}
