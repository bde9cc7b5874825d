package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	gateReadyTimeout = 60 * time.Second
	gateStopTimeout  = 30 * time.Second
)

// BuildPortcullis builds the command into file, from the module that the working
// directory is in. Flags go to go build, such as -race or -tags=plant_panic.
func BuildPortcullis(ctx context.Context, file string, flags ...string) error {
	args := append(append([]string{"build"}, flags...), "-o", file, "portcullis/cmd/portcullis")
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// GateConfig says how StartGate runs Portcullis.
type GateConfig struct {
	Binary  string
	Command string   // serve, sidecar or admin; empty: serve
	Dir     string   // working folder; a .env file there is read
	Env     []string // AUTH_* settings; of this process's environment they see no AUTH_*
}

// Gate is a running Portcullis. Its methods are safe for concurrent use.
type Gate struct {
	cmd       *exec.Cmd
	exited    chan struct{}
	exitErr   error // written before exited is closed
	stdout    safeBuffer
	stderr    gateLog
	listeners chan map[string]string
	addrs     map[string]string
}

// StartGate starts Portcullis and returns once it is ready. Its listeners may be
// on port 0. The context bounds the start alone; Stop or Kill ends it.
func StartGate(ctx context.Context, cfg GateConfig) (*Gate, error) {
	if cfg.Command == "" {
		cfg.Command = "serve"
	}
	g := &Gate{cmd: exec.Command(cfg.Binary, cfg.Command), exited: make(chan struct{}), listeners: make(chan map[string]string, 1)}
	g.stderr.addrs, g.stderr.found = make(map[string]string), g.listeners
	g.cmd.Dir, g.cmd.Env = cfg.Dir, PortcullisEnv(cfg.Env...)
	g.cmd.Stdout, g.cmd.Stderr = &g.stdout, &g.stderr
	exited, err := StartBound(g.cmd)
	if err != nil {
		return nil, fmt.Errorf("start portcullis %s: %w", cfg.Command, err)
	}
	go func() {
		g.exitErr = <-exited
		close(g.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, gateReadyTimeout)
	defer cancel()
	if err := g.awaitReady(ctx); err != nil {
		g.Kill()
		return nil, fmt.Errorf("start portcullis %s: %w\n%s", cfg.Command, err, g.Log())
	}
	return g, nil
}

// PortcullisEnv is this process's environment without its AUTH_* settings, and
// with the given ones: what a Portcullis process of a test or the demo is to see.
func PortcullisEnv(settings ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AUTH_") {
			env = append(env, v)
		}
	}
	return append(env, settings...)
}

// gateLog keeps a process's log and picks its addresses from it: the process says
// all of them in a row, the metrics listener last.
type gateLog struct {
	safeBuffer
	line  []byte // the last one, until it is whole
	addrs map[string]string
	found chan<- map[string]string
}

// Write takes the next part of the log.
func (l *gateLog) Write(p []byte) (int, error) {
	l.line = append(l.line, p...)
	for {
		line, rest, whole := bytes.Cut(l.line, []byte("\n"))
		if !whole {
			return l.safeBuffer.Write(p)
		}
		l.read(line)
		l.line = rest
	}
}

func (l *gateLog) read(line []byte) {
	var entry struct{ Msg, Listener, Addr string }
	if l.addrs == nil || json.Unmarshal(line, &entry) != nil || entry.Msg != "listening" {
		return
	}
	if l.addrs[entry.Listener] == "" {
		l.addrs[entry.Listener] = entry.Addr
	}
	if entry.Listener == "metrics" {
		l.found <- l.addrs
		l.addrs = nil
	}
}

func (g *Gate) awaitReady(ctx context.Context) error {
	select {
	case g.addrs = <-g.listeners:
	case <-g.exited:
		return fmt.Errorf("it exited: %w", errOr(g.exitErr, "status 0"))
	case <-ctx.Done():
		return fmt.Errorf("it named no listeners: %w", ctx.Err())
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Metrics()+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-g.exited:
			return fmt.Errorf("it exited: %w", errOr(g.exitErr, "status 0"))
		case <-ctx.Done():
			return fmt.Errorf("it did not become ready: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ExtAuthz returns the first address of the ext_authz listener, as
// AUTH_EXTAUTHZ_LISTEN writes it; "" where the command has none.
func (g *Gate) ExtAuthz() string { return g.addrs["extauthz"] }

// Admin returns host:port of the admin API; "" where the command has none.
func (g *Gate) Admin() string { return g.addrs["admin"] }

// Metrics returns host:port of /metrics, /healthz and /readyz.
func (g *Gate) Metrics() string { return g.addrs["metrics"] }

// Log returns what the process has written to standard error so far.
func (g *Gate) Log() string { return g.stderr.String() }

// Decisions returns what it has written to standard output so far: the decision
// log, where it goes there.
func (g *Gate) Decisions() string { return g.stdout.String() }

// Pid returns the process id.
func (g *Gate) Pid() int { return g.cmd.Process.Pid }

// Stop asks the process to drain and end, and kills it after half a minute. A
// status other than 0 is an error.
func (g *Gate) Stop() error {
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-g.exited:
		return g.exitErr
	case <-time.After(gateStopTimeout):
		g.Kill()
		return errors.New("portcullis did not drain when asked and was killed")
	}
}

// Kill ends the process at once, as a crash would.
func (g *Gate) Kill() {
	_ = g.cmd.Process.Kill()
	<-g.exited
}

// safeBuffer is a bytes.Buffer that one goroutine writes while others read.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the buffer.
func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String copies what was written.
func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
