package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"portcullis/internal/testkit"
)

const testSecret = "a secret of thirty-two bytes, no less"

// place is a directory in which processes of the program run on one SQLite file.
type place struct {
	t   *testing.T
	dir string
	env []string
}

// newPlace makes a place. Listeners are unix sockets in it; the admin API takes a
// free port.
func newPlace(t *testing.T, env ...string) *place {
	t.Helper()
	// Not t.TempDir: its path may be longer than a socket's may be.
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &place{t: t, dir: dir, env: []string{
		"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GORACE=" + noRaceSleep,
		"AUTH_EXTAUTHZ_LISTEN=unix://" + dir + "/authz.sock", "AUTH_METRICS_LISTEN=unix://" + dir + "/metrics.sock",
		"AUTH_SERVER_PORT=0", "AUTH_JWT_SECRET_KEY=" + testSecret, "AUTH_DRAIN_DELAY=0s",
	}}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		p.set(name, value)
	}
	return p
}

// set sets a variable, in the place of the one that is there.
func (p *place) set(name, value string) {
	p.unset(name)
	p.env = append(p.env, name+"="+value)
}

func (p *place) unset(name string) {
	p.env = slices.DeleteFunc(p.env, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
}

func (p *place) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// run runs a command line in this process and returns its standard output.
func (p *place) run(args ...string) string {
	p.t.Helper()
	code, stdout, stderr := p.try(args...)
	if code != 0 {
		p.t.Fatalf("portcullis %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

func (p *place) try(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(p.t.Context(), args, strings.NewReader(""), &out, &errs, p.env)
	return code, out.String(), errs.String()
}

// server is a process of the program that serves.
type server struct {
	t      *testing.T
	place  *place
	cmd    *exec.Cmd
	exited <-chan error
	stderr *lockedBuffer
	stdout *lockedBuffer
}

// start starts a process and waits until it is ready.
func (p *place) start(args ...string) *server {
	p.t.Helper()
	s := p.begin(args...)
	s.eventually("ready", func() bool { status, _ := s.get("/readyz"); return status == http.StatusOK })
	return s
}

// begin starts a process.
func (p *place) begin(args ...string) *server {
	p.t.Helper()
	program, err := exec.LookPath("portcullis")
	if err != nil {
		p.t.Fatal(err)
	}
	s := &server{t: p.t, place: p, stderr: &lockedBuffer{}, stdout: &lockedBuffer{}}
	s.cmd = exec.Command(program, args...)
	s.cmd.Dir, s.cmd.Env = p.dir, p.env
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	if s.exited, err = testkit.StartBound(s.cmd); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		s.cmd.Process.Kill()
		if p.t.Failed() {
			p.t.Logf("portcullis %s:\n%s", strings.Join(args, " "), s.stderr)
		}
	})
	return s
}

func (s *server) eventually(what string, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	s.t.Fatalf("never: %s\n%s", what, s.stderr)
}

// get asks the metrics listener; the status is 0 where it does not answer.
func (s *server) get(path string) (int, string) {
	status, body, _ := getUnix(filepath.Join(s.place.dir, "metrics.sock"), path, "")
	return status, body
}

// status sends a request to the admin API, with a client key unless that is "", and
// returns the status of the answer.
func (s *server) status(method, path, key string) int {
	s.t.Helper()
	request, err := http.NewRequest(method, "http://"+s.addr("admin")+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// ended waits for the process and returns how it ended.
func (s *server) ended() error {
	s.t.Helper()
	select {
	case err := <-s.exited:
		return err
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the process does not end\n%s", s.stderr)
		return nil
	}
}

// addr is a listener's address, as the log tells it.
func (s *server) addr(listener string) string {
	s.t.Helper()
	_, rest, ok := strings.Cut(s.stderr.String(), `"listener":"`+listener+`","addr":"`)
	if !ok {
		s.t.Fatalf("the log names no listener %s\n%s", listener, s.stderr)
	}
	addr, _, _ := strings.Cut(rest, `"`)
	return addr
}

// dial connects to the gate.
func (s *server) dial() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(s.place.dir, "authz.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends one check and returns the verdict.
func ask(ctx context.Context, conn *grpc.ClientConn, q question) (*verdict, error) {
	response, err := authv3.NewAuthorizationClient(conn).Check(ctx, q.request())
	if err != nil {
		return nil, err
	}
	return newVerdict(q, response), nil
}

// lockedBuffer is a bytes.Buffer that two goroutines may use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
