package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/envoy"
	"portcullis/internal/testkit"
)

// traffic sends two requests over and over, one that a viewer may make and one
// that a viewer may not, and counts what comes back.
type traffic struct {
	statuses sync.Map // "allowed 200" and the like, to *atomic.Int64
	stop     chan struct{}
	senders  sync.WaitGroup
}

func (w *world) startTraffic(token string) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	for _, r := range []struct {
		name string
		request
	}{
		{"allowed", request{line: "GET /posts/1", headers: []string{bearer(token), "X-Auth-Subject: root"}}},
		{"forbidden", request{line: "PUT /posts/1", headers: []string{bearer(token), "X-Auth-Subject: root"}}},
	} {
		for range 4 {
			tr.senders.Go(func() {
				for {
					select {
					case <-tr.stop:
						return
					default:
					}
					outcome := "broken"
					if resp, err := w.trySend(envoy.ListenerIngress, r.request); err == nil {
						outcome = fmt.Sprint(resp.status)
					}
					n, _ := tr.statuses.LoadOrStore(r.name+" "+outcome, new(atomic.Int64))
					n.(*atomic.Int64).Add(1)
				}
			})
		}
	}
	return tr
}

func (tr *traffic) count(outcome string) int64 {
	if n, ok := tr.statuses.Load(outcome); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// await waits until an outcome was seen so many times more.
func (tr *traffic) await(t *testing.T, outcome string, more int64) {
	t.Helper()
	want := tr.count(outcome) + more
	for deadline := time.Now().Add(30 * time.Second); tr.count(outcome) < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not seen %d times more in 30 s; seen: %v", outcome, more, tr.all())
		}
	}
}

func (tr *traffic) all() map[string]int64 {
	all := make(map[string]int64)
	tr.statuses.Range(func(outcome, n any) bool {
		all[outcome.(string)] = n.(*atomic.Int64).Load()
		return true
	})
	return all
}

func (tr *traffic) end() map[string]int64 {
	close(tr.stop)
	tr.senders.Wait()
	return tr.all()
}

// TestGateKilledInMidTraffic kills the gate while requests run, and starts it
// again. Its Envoy runs on what `portcullis envoy config` prints.
func TestGateKilledInMidTraffic(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		t.Run(fmt.Sprintf("failure_mode_allow=%v", failOpen), func(t *testing.T) {
			w := newWorld(t, worldConfig{})
			p := w.seed(t)
			w.useOwnConfig(t, failOpen)

			tr := w.startTraffic(p.bob)
			tr.await(t, "allowed 200", 20)
			tr.await(t, "forbidden 403", 20)
			before := w.counters(t, envoy.ListenerIngress)
			w.Kill()
			if failOpen {
				tr.await(t, "forbidden 200", 20)
			} else {
				tr.await(t, "allowed 503", 20)
				tr.await(t, "forbidden 503", 20)
			}
			w.checkOutage(t, p, failOpen)
			moved := w.counters(t, envoy.ListenerIngress).minus(before)
			if moved.error == 0 || (moved.failureModeAllowed > 0) != failOpen {
				t.Errorf("while the gate was away Envoy's counters moved by: %v", moved)
			}

			w.startGate(t)
			tr.await(t, "allowed 200", 20)
			tr.await(t, "forbidden 403", 20)
			seen := tr.end()
			t.Logf("seen: %v", seen)
			allowed := map[string]bool{"allowed 200": true, "forbidden 403": true}
			if failOpen {
				allowed["forbidden 200"] = true
			} else {
				allowed["allowed 503"], allowed["forbidden 503"] = true, true
			}
			for outcome := range seen {
				if !allowed[outcome] {
					t.Errorf("%q was seen %d times", outcome, seen[outcome])
				}
			}
		})
	}
}

// useOwnConfig replaces the world's Envoy by one that runs on the output of the
// command.
func (w *world) useOwnConfig(t *testing.T, failOpen bool) {
	t.Helper()
	args := []string{"envoy", "config", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", w.upstream.Addr()}
	if failOpen {
		args = append(args, "--failure-mode-allow")
	}
	w.envoy = testkit.RunEnvoy(t, testkit.EnvoyConfig{Bootstrap: []byte(w.cli(t, args...))})
}

// checkOutage holds single requests to what must come of them while the gate is
// away: nobody passes, or everybody without any identity.
func (w *world) checkOutage(t *testing.T, p people, failOpen bool) {
	t.Helper()
	if !failOpen {
		for _, line := range []string{"GET /healthz", "GET /posts/1"} {
			resp := w.send(t, envoy.ListenerIngress, request{line: line, headers: []string{bearer(p.root)}})
			if resp.status != http.StatusServiceUnavailable || resp.body != "" {
				t.Errorf("%s while the gate is away: status %d, body %q", line, resp.status, resp.body)
			}
		}
		return
	}
	resp := w.send(t, envoy.ListenerIngress, request{line: "GET /admin", headers: []string{"X-Auth-Subject: root", "X-Auth-Roles: admin"}})
	var echo testkit.Echo
	if err := json.Unmarshal([]byte(resp.body), &echo); err != nil {
		t.Fatalf("while the gate is away: status %d, %v", resp.status, err)
	}
	checkIdentity(t, echo.Headers, nil)
}

// TestOutageReachesNobody counts what reaches the upstream while the gate is away
// and Envoy fails closed.
func TestOutageReachesNobody(t *testing.T) {
	w := newWorld(t, worldConfig{})
	p := w.seed(t)
	w.Kill()
	reached := w.upstream.Requests()
	for range 20 {
		resp := w.send(t, envoy.ListenerIngress, request{line: "GET /posts/1", headers: []string{bearer(p.bob)}})
		if resp.status != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", resp.status)
		}
	}
	if n := w.upstream.Requests() - reached; n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

// TestDrainLosesNothing stops the gate as an operator would, while requests run.
// What it was asked before it went is answered; then Envoy answers 503.
func TestDrainLosesNothing(t *testing.T) {
	w := newWorld(t, worldConfig{})
	p := w.seed(t)
	tr := w.startTraffic(p.bob)
	tr.await(t, "allowed 200", 20)
	if err := w.Stop(); err != nil {
		t.Errorf("portcullis ended with %v", err)
	}
	tr.await(t, "allowed 503", 20)
	for outcome, n := range tr.end() {
		switch outcome {
		case "allowed 200", "allowed 503", "forbidden 403", "forbidden 503":
		default:
			t.Errorf("%q was seen %d times", outcome, n)
		}
	}
	if log := w.Log(); !strings.Contains(log, `"draining"`) || !strings.Contains(log, `"stopped"`) {
		t.Errorf("the log does not say that it drained:\n%s", log)
	}
}
