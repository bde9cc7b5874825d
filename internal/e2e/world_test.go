package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"portcullis/envoy"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

const (
	jwtSecret = "an end-to-end secret of more than 32 bytes"
	adminKey  = "6f9d0b8e-3c1a-4f57-9d2e-8a7b6c5d4e3f" // key `env` of tenant default
)

// binDir holds the commands that the tests build; TestMain removes it.
var binDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "portcullis-e2e-") })

var (
	portcullis = sync.OnceValues(func() (string, error) { return build("portcullis") })
	// panicking panics where a request asks for it; see extauthz/plant_on.go.
	panicking = sync.OnceValues(func() (string, error) { return build("portcullis-panicking", "-tags=plant_panic") })
)

func build(name string, flags ...string) (string, error) {
	dir, err := binDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	return file, testkit.BuildPortcullis(context.Background(), file, append(flags, raceFlags...)...)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// worldConfig says what a world is made of.
type worldConfig struct {
	binary           func() (string, error) // nil: portcullis
	postgres         bool                   // else SQLite
	policy           string                 // file under testdata, or an absolute path; empty: policy.yaml
	failureModeAllow bool
	listenTLS        *envoy.ServerTLS             // of Envoy's ingress; nil: plain HTTP
	edit             func(*bootstrapv3.Bootstrap) // of Envoy's configuration; nil: as it is generated
	env              []string                     // settings of the gate, besides those of every world
}

// world is a client's view of the whole.
type world struct {
	*testkit.Gate
	envoy    *testkit.Envoy
	upstream *testkit.Upstream

	binary string
	config testkit.GateConfig
	socket string // of the gate
}

// newWorld starts everything. The store holds what the first migration puts there
// and the key of AUTH_CLIENT_KEY.
func newWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	envoyBin := testkit.RequireEnvoy(t)
	if cfg.binary == nil {
		cfg.binary = portcullis
	}
	if cfg.policy == "" {
		cfg.policy = "policy.yaml"
	}
	binary, err := cfg.binary()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(cfg.policy) {
		cfg.policy = filepath.Join("testdata", cfg.policy)
	}
	policyFile, err := filepath.Abs(cfg.policy)
	if err != nil {
		t.Fatal(err)
	}
	// The path of a unix socket has little room; t.TempDir's can be too long.
	dir, err := os.MkdirTemp("", "pc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{binary: binary, socket: "unix://" + filepath.Join(dir, "gate.sock")}
	w.config = testkit.GateConfig{Binary: binary, Dir: dir, Env: []string{
		"AUTH_EXTAUTHZ_LISTEN=" + w.socket,
		"AUTH_SERVER_PORT=0",
		"AUTH_METRICS_LISTEN=127.0.0.1:0",
		"AUTH_POLICY_FILE=" + policyFile,
		"AUTH_JWT_SECRET_KEY=" + jwtSecret,
		"AUTH_CLIENT_KEY=" + adminKey,
		"AUTH_DECISION_LOG=all",
		// One client makes what many would, and fails on purpose.
		"AUTH_RATE_LIMIT=off", "AUTH_RATE_LIMIT_WRITES=off", "AUTH_RATE_LIMIT_FAILURES=off",
		"AUTH_DRAIN_DELAY=0s",
		// With the race detector: a race ends the gate, which no test survives, and a
		// command does not sleep for a second before it exits.
		"GORACE=halt_on_error=1 atexit_sleep_ms=0",
	}}
	w.config.Env = append(w.config.Env, cfg.env...)
	if cfg.postgres {
		w.config.Env = append(w.config.Env, "AUTH_DATABASE_URL="+testkit.Postgres(t))
		w.cli(t, "migrate")
	} else {
		w.config.Env = append(w.config.Env, "AUTH_SQLITE_PATH="+filepath.Join(dir, "auth.sqlite3"))
	}
	w.startGate(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("portcullis's log:\n%s", w.Log())
		}
		w.Kill()
	})

	rules, err := policy.Load(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	w.upstream = testkit.RunUpstream(t)
	bootstrap, err := envoy.Bootstrap(envoy.Options{
		Listen: "127.0.0.1:0", Permissive: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Upstream: w.upstream.Addr(), UpstreamProtocol: envoy.UpstreamSame,
		Gate: w.socket, FailureModeAllow: cfg.failureModeAllow, ListenTLS: cfg.listenTLS, ConditionHeaders: rules.ConditionHeaders(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.edit != nil {
		cfg.edit(bootstrap)
	}
	text, err := envoy.YAML(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	w.envoy = testkit.RunEnvoy(t, testkit.EnvoyConfig{Binary: envoyBin, Bootstrap: text})
	return w
}

func (w *world) startGate(t *testing.T) {
	t.Helper()
	gate, err := testkit.StartGate(t.Context(), w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.Gate = gate
}

// cli runs a command of Portcullis in another process on the same store, and
// returns what it prints to standard output.
func (w *world) cli(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.binary, args...)
	cmd.Dir, cmd.Env = w.config.Dir, testkit.PortcullisEnv(w.config.Env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("portcullis %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// admin calls the admin API and fails the test on any status but 200.
func (w *world) admin(t *testing.T, method, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.Admin()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// people of the world that seed makes.
type people struct {
	amy, bob, eve, root string // tokens of users of tenant default
	zed                 string // token of a user of tenant acme
	ci                  string // client key of tenant default, role deployer
	idle                string // client key of tenant default, no role
	bobsKey, zedsKey    string // user API keys
}

// seed fills the store by the command line, as an operator would.
func (w *world) seed(t *testing.T) people {
	t.Helper()
	p := people{
		ci:   w.cli(t, "key", "new", "--name", "ci"),
		idle: w.cli(t, "key", "new", "--name", "idle"),
	}
	w.cli(t, "key", "new", "--tenant", "acme", "--name", "partner")
	for _, line := range []string{
		"role add viewer",
		"role add editor",
		"role add admin",
		"role add deployer",
		"role inherit editor viewer",
		"role inherit admin editor",
		"permission add viewer view_content",
		"permission add editor edit_content",
		"permission add admin administer",
		"permission add deployer deploy",
		"member add amy editor",
		"member add bob viewer",
		"member add root admin",
		"member add --kind client --id ci --role deployer",
		// acme gives its own people whatever it likes.
		"role add --tenant acme boss",
		"permission add --tenant acme boss partner_read",
		"permission add --tenant acme boss edit_content",
		"permission add --tenant acme boss administer",
		"member add --tenant acme zed boss --wait",
	} {
		w.cli(t, strings.Fields(line)...)
	}
	for token, who := range map[*string]string{&p.amy: "amy", &p.bob: "bob", &p.eve: "eve", &p.root: "root"} {
		*token = signed(t, claims{Subject: who})
	}
	p.bobsKey = w.cli(t, "user-key", "new", "bob")
	p.zedsKey = w.cli(t, "user-key", "new", "zed", "--tenant", "acme", "--wait")
	p.zed = w.cli(t, "token", "issue", "--tenant", "acme", "--subject", "zed", "--expires", "30m")
	return p
}

// claims of a token that the tests sign by themselves; zero fields are usual.
type claims struct {
	Subject string
	Tenant  string        // default: default
	Age     time.Duration // since it was issued
	Secret  string        // default: jwtSecret
	Method  jwt.SigningMethod
}

// signed makes a token that lives for half an hour after it was issued.
func signed(t *testing.T, c claims) string {
	t.Helper()
	text, err := signToken(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func signToken(c claims) (string, error) {
	if c.Tenant == "" {
		c.Tenant = "default"
	}
	var key any = []byte(jwtSecret)
	if c.Secret != "" {
		key = []byte(c.Secret)
	}
	if c.Method == nil {
		c.Method = jwt.SigningMethodHS256
	}
	if c.Method == jwt.SigningMethodNone {
		key = jwt.UnsafeAllowNoneSignatureType
	}
	issued := time.Now().Add(-c.Age)
	token := jwt.NewWithClaims(c.Method, jwt.MapClaims{
		"sub": c.Subject, "tenant": c.Tenant, "jti": uuid.NewString(),
		"iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(30 * time.Minute).Unix(),
	})
	token.Header["typ"] = "at+jwt"
	return token.SignedString(key)
}

// counters are Envoy's ext_authz counters of one listener.
type counters struct{ ok, denied, error, failureModeAllowed, invalid int64 }

func (w *world) counters(t *testing.T, listener string) counters {
	t.Helper()
	read := func(name string) int64 {
		n, err := w.envoy.Stat(t.Context(), envoy.AuthzStat(listener, name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return counters{read("ok"), read("denied"), read("error"), read("failure_mode_allowed"), read("invalid")}
}

func (c counters) minus(d counters) counters {
	return counters{c.ok - d.ok, c.denied - d.denied, c.error - d.error, c.failureModeAllowed - d.failureModeAllowed, c.invalid - d.invalid}
}

func (c counters) String() string {
	return fmt.Sprintf("ok %d, denied %d, error %d, failure_mode_allowed %d, invalid %d", c.ok, c.denied, c.error, c.failureModeAllowed, c.invalid)
}

// cliFails runs a command that must say no, and returns what it prints.
func (w *world) cliFails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.binary, args...)
	cmd.Dir, cmd.Env = w.config.Dir, testkit.PortcullisEnv(w.config.Env...)
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("portcullis %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
