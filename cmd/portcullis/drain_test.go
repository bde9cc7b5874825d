package main

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/policy"
)

const drainPolicy = `version: 1
rules:
  - {name: health, path: /healthz, allow: anonymous}
  - {name: me, path: /me, allow: authenticated}
`

// TestADrainLosesNoCheck: clients send without pause while SIGTERM comes, and
// stop when the health service tells them to, as Envoy does. Every check that was
// begun is answered, and rightly.
func TestADrainLosesNoCheck(t *testing.T) {
	p := newPlace(t, "AUTH_DRAIN_DELAY=500ms")
	s := p.start("serve", "--policy-file", p.write("policy.yaml", drainPolicy))
	token := strings.TrimSpace(p.run("token", "issue", "amy"))
	allowed := question{method: "GET", path: "/me", host: "localhost", scheme: "http",
		headers: [][2]string{{policy.HeaderAuthorization, "Bearer " + token}}}
	denied := question{method: "GET", path: "/me", host: "localhost", scheme: "http"}

	var leave atomic.Bool // the health service said NOT_SERVING
	var answered, late atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		conn := s.dial()
		clients.Go(func() {
			for !leave.Load() {
				for q, want := range map[*question]string{&allowed: "ok", &denied: "missing_credential"} {
					draining := leave.Load()
					v, err := ask(t.Context(), conn, *q)
					if err != nil {
						t.Errorf("a check was lost: %v", err)
						return
					}
					if v.Reason != want {
						t.Errorf("reason %s, want %s", v.Reason, want)
					}
					answered.Add(1)
					if !draining && leave.Load() {
						late.Add(1)
					}
				}
			}
		})
	}
	health := grpc_health_v1.NewHealthClient(s.dial())
	s.eventually("traffic", func() bool { return answered.Load() > 500 })

	s.signal(syscall.SIGTERM)
	s.eventually("unready", func() bool {
		status, body := s.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready: draining ")
	})
	if status, _ := s.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz while draining: %d; the process lives", status)
	}
	s.eventually("NOT_SERVING", func() bool {
		r, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err == nil && r.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING
	})
	before := answered.Load()
	time.Sleep(50 * time.Millisecond) // it still answers: clients have not all noticed
	if answered.Load() == before {
		t.Error("no check was answered between NOT_SERVING and the end of the delay")
	}
	leave.Store(true)
	clients.Wait()
	if err := s.ended(); err != nil {
		t.Errorf("a drain ended with %v", err)
	}
	t.Logf("%d checks answered, %d of them begun before and answered after the clients left", answered.Load(), late.Load())
}

// TestChecksInFlightFinish: clients that never stop get answers, and then errors
// that say the gate is gone; nothing in between, and never a wrong verdict.
func TestChecksInFlightFinish(t *testing.T) {
	p := newPlace(t)
	s := p.start("serve", "--policy-file", p.write("policy.yaml", drainPolicy))
	denied := question{method: "GET", path: "/me", host: "localhost", scheme: "http"}
	var answered atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		conn := s.dial()
		clients.Go(func() {
			for {
				v, err := ask(t.Context(), conn, denied)
				switch {
				case err == nil && v.Reason == "missing_credential":
					answered.Add(1)
				case err == nil:
					t.Errorf("reason %s", v.Reason)
				case status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "dial"):
					return // nobody listens any more: this check was never begun
				default:
					t.Errorf("a check that was begun was lost: %v", err)
					return
				}
			}
		})
	}
	s.eventually("traffic", func() bool { return answered.Load() > 500 })
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Errorf("a drain ended with %v", err)
	}
	clients.Wait()
}

// TestADrainFinishesAdminRequests: a write that waits for a sidecar which will
// never report is under way when SIGTERM comes. It gets its answer.
func TestADrainFinishesAdminRequests(t *testing.T) {
	p := newPlace(t, "AUTH_MAX_STALENESS=1h")
	key := strings.TrimSpace(p.run("key", "new", "ops", "--scopes", "manage"))
	silent := p.start("sidecar")
	silent.signal(syscall.SIGKILL)
	silent.ended()
	s := p.start("serve")

	request, err := http.NewRequest(http.MethodPost, "http://"+s.addr("admin")+"/api/role/editor?wait=all&timeout=2s", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	type answer struct {
		response *http.Response
		body     string
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		a := answer{response: response, err: err}
		if err == nil {
			var body []byte
			body, a.err = io.ReadAll(response.Body)
			response.Body.Close()
			a.body = string(body)
		}
		answers <- a
	}()
	s.eventually("the role is there", func() bool { return strings.Contains(p.run("role", "list"), "editor") })
	s.signal(syscall.SIGTERM)
	a := <-answers
	if a.err != nil {
		t.Fatalf("the request was cut off: %v", a.err)
	}
	if a.response.StatusCode != http.StatusOK || a.response.Header.Get("X-Auth-Wait") != "timeout" {
		t.Errorf("status %d, X-Auth-Wait %q, body %s", a.response.StatusCode, a.response.Header.Get("X-Auth-Wait"), a.body)
	}
	if err := s.ended(); err != nil {
		t.Errorf("a drain ended with %v", err)
	}
}

// TestWhatADrainLeavesBehind: last-used times and the word that the sidecar
// stopped are in the store, the last decision is in the log, and the sockets are
// gone.
func TestWhatADrainLeavesBehind(t *testing.T) {
	p := newPlace(t)
	key := strings.TrimSpace(p.run("key", "new", "ci"))
	s := p.start("serve", "--policy-file", p.write("policy.yaml", drainPolicy), "--decision-log", "all")
	v, err := ask(t.Context(), s.dial(), question{method: "GET", path: "/me", host: "localhost", scheme: "http",
		headers: [][2]string{{policy.HeaderClientKey, key}}})
	if err != nil || v.Effect != "allow" {
		t.Fatalf("%+v, %v", v, err)
	}
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Fatalf("a drain ended with %v", err)
	}
	if !strings.Contains(s.stdout.String(), v.DecisionID) {
		t.Errorf("the decision log lacks %s:\n%s", v.DecisionID, s.stdout)
	}
	for _, text := range []string{s.stdout.String(), s.stderr.String()} {
		if strings.Contains(text, key) {
			t.Error("the key is in a log")
		}
	}
	left, err := filepath.Glob(filepath.Join(p.dir, "*.sock"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(p.dir, ".auth.sqlite3")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sidecars, err := db.Sidecars(t.Context())
	if err != nil || len(sidecars) != 1 || !sidecars[0].Stopped {
		t.Errorf("sidecars: %+v, %v; want one that stopped", sidecars, err)
	}
	if err := db.FoldReports(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant, err := db.TenantByName(t.Context(), store.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := db.KeyList(t.Context(), tenant.ID)
	if err != nil || len(keys) != 1 || time.Since(keys[0].LastUsed) > time.Minute {
		t.Errorf("keys: %+v, %v; want one used just now", keys, err)
	}
}

// TestASecondSignalEndsAtOnce: whoever asks twice does not want to wait.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	p := newPlace(t, "AUTH_DRAIN_DELAY=5m")
	s := p.start("serve")
	s.signal(syscall.SIGTERM)
	s.eventually("unready", func() bool { status, _ := s.get("/readyz"); return status == http.StatusServiceUnavailable })
	s.signal(syscall.SIGTERM)
	err := s.ended()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want signal: terminated", err)
	}
	// What was left open by force opens again.
	if out := p.run("tenant", "list"); !strings.Contains(out, "default") {
		t.Errorf("after it: %s", out)
	}
}

// TestRunEndsWithItsContext: the same drain without a process, so that whoever
// embeds run can end it.
func TestRunEndsWithItsContext(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	out := &lockedBuffer{}
	go func() { ended <- run(ctx, []string{"serve"}, strings.NewReader(""), io.Discard, out, p.env) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if status, _, err := getUnix(filepath.Join(p.dir, "metrics.sock"), "/readyz", ""); err == nil && status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("never ready\n%s", out)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
