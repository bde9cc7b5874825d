package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
	"portcullis/internal/testkit/transcript"
	"portcullis/policy"
)

const killClients = 16

// killPlan is how often the server is killed, and how many writes are begun in all, or
// about: PORTCULLIS_KILLS and PORTCULLIS_KILL_WRITES, or some.
func killPlan(t *testing.T) (kills, writes int) {
	t.Helper()
	number := func(name string, unset, least int) int {
		text := os.Getenv(name)
		if text == "" {
			return unset
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			t.Fatalf("%s: %q is no number from %d on", name, text, least)
		}
		return n
	}
	kills = number("PORTCULLIS_KILLS", 4, 2)
	return kills, number("PORTCULLIS_KILL_WRITES", 1200, kills*killClients)
}

// TestAcknowledgedWritesSurviveKills writes from many clients while the server is
// killed and started again, each time with some writes more. In the end every write
// that was acknowledged is in the store with its one audit row, and every other one is
// wholly in or wholly out; and the audit's chain verifies, against the checkpoints that
// each server logged as it began. `make kills` makes 10,000 writes and 200 kills.
func TestAcknowledgedWritesSurviveKills(t *testing.T) {
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range []backend{{"sqlite", sqliteFor, false}, {"postgres-sealed", postgresFor, true}} {
		t.Run(backend.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "pc-") // the path of a unix socket has little room
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			env := []string{
				"AUTH_EXTAUTHZ_LISTEN=unix://" + filepath.Join(dir, "gate.sock"), "AUTH_SERVER_PORT=0",
				"AUTH_METRICS_LISTEN=127.0.0.1:0", "AUTH_DRAIN_DELAY=0s", "AUTH_RATE_LIMIT=off", "AUTH_RATE_LIMIT_WRITES=off", "GORACE=halt_on_error=1 atexit_sleep_ms=0",
			}
			master, masters := newMaster(t)
			if backend.sealed { // the chain's secret is under the master
				env = append(env, "AUTH_ENCRYPTION_KEY="+master, "AUTH_ENABLE_ENCRYPTION=true")
			} else {
				env = append(env, "AUTH_AUDIT_KEY="+master)
			}
			setting, st := backend.make(t, dir, masters)
			keys, _, err := transcript.Furnish(t.Context(), st)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			server := &killed{config: testkit.GateConfig{Binary: binary, Dir: dir, Env: append(env, setting)}}
			server.start(t)
			t.Cleanup(func() { server.gate.Kill() })

			writers := make([]*killWriter, killClients)
			var begun atomic.Int64
			stop := make(chan struct{})
			var running sync.WaitGroup
			for n := range writers {
				writers[n] = &killWriter{n: n, keys: keys, server: server, dice: rand.New(rand.NewPCG(uint64(n), 7))}
				running.Go(func() {
					for !t.Failed() {
						select {
						case <-stop:
							return
						default:
							begun.Add(1)
							writers[n].write(t)
						}
					}
				})
			}
			kills, writes := killPlan(t)
			for range kills {
				until := begun.Load() + int64(1+rand.IntN(2*writes/kills))
				for begun.Load() < until && !t.Failed() {
					time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				}
				server.restart(t)
			}
			close(stop)
			running.Wait()
			server.gate.Kill()
			verifyWrites(t, reopen(t, setting, masters), writers, kills)
			verifyChain(t, binary, dir, append(env, setting), server.log.String(), kills)
		})
	}
}

// killed is a server that is killed and started again.
type killed struct {
	config testkit.GateConfig
	gate   *testkit.Gate
	log    strings.Builder // of those that were killed
	addr   atomic.Pointer[string]
}

func (k *killed) start(t *testing.T) {
	t.Helper()
	gate, err := testkit.StartGate(t.Context(), k.config)
	if err != nil {
		t.Fatal(err)
	}
	k.gate = gate
	addr := gate.Admin()
	k.addr.Store(&addr)
}

func (k *killed) restart(t *testing.T) {
	t.Helper()
	k.gate.Kill()
	k.log.WriteString(k.gate.Log())
	k.start(t)
}

// fate is what a client knows of a write that it made.
type fate uint8

const (
	notSent fate = iota
	unknown      // no answer, or one that promises nothing
	acknowledged
)

// killItem is a thing that one client makes, and may take away.
type killItem struct {
	kind       string // role, permission, membership, api_key or denial
	role, name string
	made, gone fate
}

// killWriter is one client. Nobody else touches its things.
type killWriter struct {
	n      int
	keys   map[string]string
	server *killed
	dice   *rand.Rand
	items  []*killItem
	next   int
}

// write makes one random write.
func (w *killWriter) write(t *testing.T) {
	var roles, removable []*killItem
	for _, it := range w.items {
		if it.made != acknowledged || it.gone != notSent {
			continue
		}
		switch it.kind {
		case "role":
			roles = append(roles, it)
		case "permission", "membership":
			removable = append(removable, it)
		}
	}
	choice := w.dice.IntN(10)
	switch {
	case choice < 3 && len(removable) > 0:
		it := removable[w.dice.IntN(len(removable))]
		it.gone = w.send(t, http.MethodDelete, it.path(), "manager", "")
		return
	case choice < 6 && len(roles) > 0:
		role := roles[w.dice.IntN(len(roles))].name
		kind := []string{"permission", "membership"}[w.dice.IntN(2)]
		w.make(t, &killItem{kind: kind, role: role, name: w.newName()}, "manager", "")
	case choice < 7:
		w.make(t, &killItem{kind: "api_key", name: w.newName()}, "manager", "{}")
	case choice < 8:
		name := w.newName()
		w.make(t, &killItem{kind: "denial", name: name}, "tokens", `{"jti":"`+name+`"}`)
	default:
		w.make(t, &killItem{kind: "role", name: w.newName()}, "manager", "")
	}
}

func (w *killWriter) newName() string {
	w.next++
	return fmt.Sprintf("c%d-%d", w.n, w.next)
}

func (w *killWriter) make(t *testing.T, it *killItem, caller, body string) {
	w.items = append(w.items, it)
	it.made = w.send(t, http.MethodPost, it.path(), caller, body)
}

func (it *killItem) path() string {
	switch it.kind {
	case "role":
		return "/api/role/" + it.name
	case "permission":
		return "/api/permission/" + it.role + "/" + it.name
	case "membership":
		return "/api/membership/" + it.name + "/" + it.role
	case "api_key":
		return "/api/apikeys/user/" + it.name
	}
	return "/api/deny/token"
}

// send makes a request once. Only a 200 that came whole acknowledges it.
func (w *killWriter) send(t *testing.T, method, path, caller, body string) fate {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	addr := w.server.addr.Load()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+*addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Error(err)
		return unknown
	}
	req.GetBody = nil // the client must not send it again by itself
	req.Header.Set("Authorization", "Bearer "+w.keys[caller])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		for i := 0; i < 500 && w.server.addr.Load() == addr; i++ { // the server is away
			time.Sleep(10 * time.Millisecond)
		}
		return unknown
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil || resp.StatusCode == http.StatusServiceUnavailable:
		return unknown
	case resp.StatusCode != http.StatusOK:
		t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
		return unknown
	}
	return acknowledged
}

// trailKey names what an audit row says was done to what.
func trailKey(action store.Action, what string) string { return string(action) + " " + what }

// actions are those of making and of taking away.
func (it *killItem) actions() (made, gone string) {
	switch it.kind {
	case "role":
		return trailKey(store.ActionCreateRole, "role/"+it.name), ""
	case "permission":
		link := "permission/" + it.role + "/" + it.name
		return trailKey(store.ActionAddPermission, link), trailKey(store.ActionRemovePermission, link)
	case "membership":
		link := "membership/" + it.role + " " + it.name
		return trailKey(store.ActionAddMembership, link), trailKey(store.ActionRemoveMembership, link)
	case "api_key":
		return trailKey(store.ActionCreateUserKey, it.name), ""
	}
	return trailKey(store.ActionDeny, it.name), ""
}

// readTrail counts the audit's rows of the tenant.
func readTrail(t *testing.T, st store.Store, tenant store.TenantID) map[string]int {
	t.Helper()
	trail := make(map[string]int)
	for before := int64(0); ; {
		page, _, err := st.Audit(t.Context(), store.AuditQuery{Tenant: tenant, Limit: store.MaxAuditPage, Before: before, NoTotal: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Outcome != store.OutcomeDone.String() {
				continue
			}
			what := e.Resource
			switch e.Action {
			case store.ActionAddMembership, store.ActionRemoveMembership:
				what += " " + e.User
			case store.ActionCreateUserKey:
				what = e.User
			case store.ActionDeny:
				var after store.DenialState
				if err := json.Unmarshal([]byte(e.After), &after); err != nil {
					t.Fatal(err)
				}
				what = after.Value
			}
			trail[trailKey(e.Action, what)]++
		}
		if len(page) < store.MaxAuditPage {
			return trail
		}
		before = page[len(page)-1].ID
	}
}

// readState is what the tenant has.
func readState(t *testing.T, st store.Store, tenant store.TenantID, writers []*killWriter) map[string]bool {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	there := make(map[string]bool)
	roles, err := st.RoleList(t.Context(), tenant)
	must(err)
	for _, r := range roles {
		there["role "+r.Name] = true
		permissions, err := st.PermissionList(t.Context(), tenant, r.Name)
		must(err)
		for _, name := range permissions {
			there["permission "+r.Name+" "+name] = true
		}
		members, err := st.MemberList(t.Context(), tenant, r.Name)
		must(err)
		for _, m := range members {
			if m.Kind == policy.KindUser {
				there["membership "+r.Name+" "+m.ID] = true
			}
		}
	}
	for after := int64(0); ; {
		denials, err := st.DenialList(t.Context(), tenant, after, 500)
		must(err)
		for _, d := range denials {
			there["denial  "+d.Value], after = true, d.ID
		}
		if len(denials) < 500 {
			break
		}
	}
	for _, w := range writers {
		for _, it := range w.items {
			if it.kind == "api_key" {
				keys, err := st.UserKeyList(t.Context(), tenant, it.name)
				must(err)
				there[it.key()] = len(keys) == 1
			}
		}
	}
	return there
}

func (it *killItem) key() string { return it.kind + " " + it.role + " " + it.name }

func verifyWrites(t *testing.T, st store.Store, writers []*killWriter, kills int) {
	tenant, err := st.TenantByName(t.Context(), store.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	trail, there := readTrail(t, st, tenant.ID), readState(t, st, tenant.ID, writers)
	var writes, acked, in, out int
	judge := func(it *killItem, what string, f fate, has bool, rows int) {
		if f == notSent {
			return
		}
		writes++
		switch {
		case f == acknowledged && (!has || rows != 1):
			t.Errorf("%s %s was acknowledged: in the store %v, %d audit rows", it.key(), what, has, rows)
		case f == acknowledged:
			acked++
		case rows > 1 || has != (rows == 1):
			t.Errorf("%s %s was not acknowledged: in the store %v, %d audit rows", it.key(), what, has, rows)
		case has:
			in++
		default:
			out++
		}
	}
	for _, w := range writers {
		for _, it := range w.items {
			key := it.key()
			if it.kind == "role" {
				key = "role " + it.name
			}
			made, gone := it.actions()
			removed := it.gone == acknowledged || it.gone == unknown && trail[gone] == 1
			judge(it, "made", it.made, there[key] || removed, trail[made])
			judge(it, "taken away", it.gone, !there[key], trail[gone])
		}
	}
	t.Logf("%d writes by %d clients, %d kills: %d acknowledged, all there with one audit row; of the others %d wholly in, %d wholly out",
		writes, len(writers), kills, acked, in, out)
	if acked == 0 || in+out == 0 {
		t.Error("that tells nothing: no write was acknowledged, or none was cut off")
	}
}
