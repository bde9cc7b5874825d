package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"portcullis/internal/decisionlog"
	"portcullis/internal/ratelimit"
	"portcullis/internal/sealing"
)

const (
	aSecret    = "Zm9yIHRoZSB0ZXN0cyBvbmx5LCAzMiBieXRlcyBhbmQgbW9yZQ=="
	aMaster    = "d_eCPS8P8qnEAMiejGaylwrN01mnj-UBAnUKOT2g7ks="
	aClientKey = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
)

// load is Load with the given flags and environment in an empty directory, or
// with the .env file of dir.
func load(t *testing.T, dir string, environ []string, args ...string) (*Config, []Warning, error) {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	s := NewSettings()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s.Load(Input{Dir: dir, Environ: append([]string{"HOME=/home/gate"}, environ...)})
}

func mustLoad(t *testing.T, dir string, environ []string, args ...string) *Config {
	t.Helper()
	cfg, _, err := load(t, dir, environ, args...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// write makes a file in a new directory and returns the directory.
func write(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDefaults(t *testing.T) {
	cfg, warnings, err := load(t, "", nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("the defaults: %v, %v", warnings, err)
	}
	cfg.dump = nil
	want := Config{
		ExtAuthzListen:         []Listen{{"tcp", "127.0.0.1:9191"}},
		ExtAuthzFaults:         FaultsErrorResponse,
		ContextExtensions:      ContextNarrow,
		ServerHost:             "127.0.0.1",
		ServerPort:             5000,
		RateLimit:              ratelimit.Rate{Count: 6000, Period: time.Minute},
		RateLimitWrites:        ratelimit.Rate{Count: 3000, Period: time.Minute},
		RateLimitFailures:      ratelimit.Rate{Count: 5, Period: time.Minute},
		MetricsListen:          []Listen{{"tcp", "127.0.0.1:9190"}},
		AuditLogging:           true,
		SQLitePath:             "/home/gate/.auth.sqlite3",
		ClientKeyOverlap:       time.Hour,
		JWTAlgorithm:           "HS256",
		JWTAccessTokenLifetime: 15 * time.Minute, JWTRefreshTokenLifetime: 7 * 24 * time.Hour,
		DecisionLog:  decisionlog.Denied,
		MaxStaleness: 2 * time.Minute,
		CacheMemory:  64 << 20,
		DrainDelay:   time.Second,
		LogLevel:     slog.LevelInfo,
		LogFormat:    LogJSON,
	}
	if got, want := fmt.Sprintf("%+v", *cfg), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEachSourceWinsOverTheOneBefore(t *testing.T) {
	dir := write(t, ".env", "AUTH_SERVER_PORT=1001\nAUTH_JWT_ISSUER=from-file\nAUTH_JWT_AUDIENCE=from-file\nAUTH_LOG_LEVEL=warn\n")
	environ := []string{"AUTH_SERVER_PORT=1002", "AUTH_JWT_ISSUER=from-env"}
	cfg := mustLoad(t, dir, environ, "--server-port=1003")
	if cfg.ServerPort != 1003 || cfg.JWTIssuer != "from-env" || cfg.JWTAudience != "from-file" || cfg.LogLevel != slog.LevelWarn {
		t.Errorf("got %d, %q, %q, %v", cfg.ServerPort, cfg.JWTIssuer, cfg.JWTAudience, cfg.LogLevel)
	}
	sources := map[string]string{}
	for _, entry := range cfg.Dump() {
		sources[entry.Name] = entry.Source
	}
	for name, want := range map[string]string{
		"AUTH_SERVER_PORT":  "flag --server-port",
		"AUTH_JWT_ISSUER":   "the environment",
		"AUTH_JWT_AUDIENCE": filepath.Join(dir, ".env"),
		"AUTH_SERVER_HOST":  "default",
	} {
		if sources[name] != want {
			t.Errorf("%s came from %q, want %q", name, sources[name], want)
		}
	}
}

func TestAnEmptyValueReplacesOnlyAnEmptyDefault(t *testing.T) {
	dir := write(t, ".env", "AUTH_POLICY_FILE=/etc/policy.yaml\n")
	if cfg := mustLoad(t, dir, []string{"AUTH_POLICY_FILE="}); cfg.PolicyFile != "" {
		t.Errorf("policy file %q: the environment said none", cfg.PolicyFile)
	}
	for _, name := range []string{"AUTH_TENANTS", "AUTH_EXTAUTHZ_LISTEN", "AUTH_DECISION_LOG"} {
		_, _, err := load(t, "", []string{name + "="})
		wantProblem(t, err, name+": is set to nothing in the environment")
	}
}

// wantProblem fails unless some problem begins with the text.
func wantProblem(t *testing.T, err error, text string) {
	t.Helper()
	var problems Problems
	if !errors.As(err, &problems) {
		t.Errorf("got %v, want a problem %q", err, text)
		return
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Error(), text) {
			return
		}
	}
	t.Errorf("got\n%v\nwant a problem that begins with %q", err, text)
}

func wantWarning(t *testing.T, warnings []Warning, text string) {
	t.Helper()
	for _, w := range warnings {
		if strings.HasPrefix(w.String(), text) {
			return
		}
	}
	t.Errorf("got %v, want a warning that begins with %q", warnings, text)
}

func TestValues(t *testing.T) {
	for _, try := range []struct {
		name   string
		accept []string
		refuse []string
	}{
		{"AUTH_EXTAUTHZ_LISTEN",
			[]string{"127.0.0.1:0", "localhost:9191", "[::1]:9191", "127.9.9.9:1", "unix:///run/gate.sock", "unix:///run/a.sock, 127.0.0.1:9191", "127.0.0.1:0,127.0.0.1:0"},
			[]string{"9191", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "unix://run/a", "unix:/a", "unix:///", "unix:///" + strings.Repeat("a", 103),
				"127.0.0.1:1,", ",", "127.0.0.1:1,127.0.0.1:1", "http://127.0.0.1:1", "a b:1", "256.0.0.1:1", "127.0.1:1", "[::1:1", "0.0.0.0:9191", ":9191", "[::]:9191", "10.0.0.1:9191", "gate.example.com:9191"}},
		{"AUTH_EXTAUTHZ_INSECURE", []string{"true", "FALSE", "1", "0", "yes", "off"}, []string{"maybe", "2", "truee", " true"}},
		{"AUTH_EXTAUTHZ_FAULTS", []string{"unavailable"}, []string{"Unavailable", "allow"}},
		{"AUTH_CONTEXT_EXTENSIONS", []string{"narrow", "replace", "ignore"}, []string{"widen", "NARROW"}},
		{"AUTH_STRICT_USERS_DEFAULT", []string{"true", "no"}, []string{"maybe", "strict"}},
		{"AUTH_POLICY_FILE", []string{"policy.yaml", "/etc/p.yaml"}, []string{"-----BEGIN", "a\nb"}},
		{"AUTH_TENANTS", []string{"all", "default", "acme, globex"}, []string{"all,acme", "acme,acme", "acme,", "a/b", strings.Repeat("a", 65), "é"}},
		{"AUTH_SERVER_HOST", []string{"::1", "[::1]", "localhost", "127.0.0.1"}, []string{"127.0.0.1:5000", "a/b", "http://x", "1.2.3", "a b"}},
		{"AUTH_SERVER_PORT", []string{"0", "65535"}, []string{"65536", "-1", "+1", "5000/tcp", "x", "1.0"}},
		{"AUTH_TRUSTED_PROXIES", []string{"10.0.0.0/8", "10.0.0.1, 2001:db8::/32"}, []string{"0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy.example.com", "10.0.0.0/8,", "*"}},
		{"AUTH_METRICS_LISTEN", []string{"0.0.0.0:9190", ":9190", "unix:///run/m.sock"}, []string{"off", "9190"}},
		{"AUTH_DATABASE_URL", []string{"postgres://u:p@h/db", "postgresql://a:1,b:2/db?target_session_attrs=read-write"},
			[]string{"mysql://h/db", "postgres://", "host=h", "postgresql+psycopg2://h/db", "sqlite:///x.db", "postgres://h\n"}},
		{"AUTH_CLIENT_KEY", []string{aClientKey, strings.ToUpper(aClientKey)}, []string{"my-app-key", "6f9619ff-8b86-1011-b42d-00c04fc964ff", "6f9619ff-8b86-4011-742d-00c04fc964ff"}},
		{"AUTH_CLIENT_KEY_OVERLAP", []string{"0s", "90m", "30d"}, []string{"31d", "-1h", "1", "1w", "d", "-1d", "1.5d"}},
		{"AUTH_JWT_SECRET_KEY", []string{strings.Repeat("k", 32)}, []string{strings.Repeat("k", 31), "k"}},
		{"AUTH_JWT_ALGORITHM", []string{"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"}, []string{"none", "RS512", "hs256", "ES384", "eddsa"}},
		{"AUTH_JWT_ISSUER", []string{"https://gate.example.com"}, []string{"a\nb", strings.Repeat("a", 1025)}},
		{"AUTH_ENABLE_ENCRYPTION", []string{"false", "no"}, []string{"maybe", "fernet"}},
		{"AUTH_ENCRYPTION_KEY", []string{aMaster, aMaster + ", " + sealing.NewMaster()},
			[]string{"x", aMaster[1:], aMaster + ",", aMaster + "," + aMaster, strings.Repeat("A", 43) + "="}},
		{"AUTH_JWT_ACCESS_TOKEN_EXPIRE_MINUTES", []string{"1", "1440"}, []string{"0", "-1", "15m", "1441"}},
		{"AUTH_JWT_REFRESH_TOKEN_EXPIRE_DAYS", []string{"1", "366"}, []string{"0", "-1", "7d", "367"}},
		{"AUTH_RATE_LIMIT", []string{"6000/m", "1/s", "off"}, []string{"", "0/m", "5/day", "many"}},
		{"AUTH_RATE_LIMIT_WRITES", []string{"100/h", "off"}, []string{"", "-1/m", "false"}},
		{"AUTH_RATE_LIMIT_FAILURES", []string{"5/m", "off"}, []string{"", "5", "1000001/m"}},
		{"AUTH_OPEN_TENANCY", []string{"true", "no"}, []string{"perhaps"}},
		{"AUTH_DECISION_LOG", []string{"off", "denied", "all", "0", "1", "0.25", "1e-3"}, []string{"on", "1.1", "-0.1", "NaN", "ALL", "10%"}},
		{"AUTH_MAX_STALENESS", []string{"1s", "1d"}, []string{"0s", "999ms", "25h", "120"}},
		{"AUTH_CACHE_MEMORY", []string{"1MiB", "64 MiB", "1048576", "1073741824B", "2GB", "1TiB"}, []string{"1KiB", "2TiB", "64M", "-64MiB", "9999999999TiB", "MiB", "1.5GiB", "64mib"}},
		{"AUTH_LOG_LEVEL", []string{"debug", "error"}, []string{"verbose", "INFO"}},
		{"AUTH_LOG_FORMAT", []string{"text"}, []string{"yaml"}},
	} {
		for _, value := range try.accept {
			if _, _, err := load(t, "", []string{try.name + "=" + value}); err != nil {
				t.Errorf("%s=%s: %v", try.name, value, err)
			}
		}
		for _, value := range try.refuse {
			_, _, err := load(t, "", []string{try.name + "=" + value})
			wantProblem(t, err, try.name+": ")
		}
	}
}

func TestEveryProblemAtOnceWithItsSource(t *testing.T) {
	dir := write(t, ".env", "AUTH_LOG_LEVEL=loud\nAUTH_CASH_MEMORY=1GiB\n")
	_, _, err := load(t, dir, []string{"AUTH_CACHE_MEMORY=64 MBytes", "AUTH_JWT_SECRET_KEY=short", "AUTH_RATE_LIMIT=1/day"}, "--server-port=http")
	want := `AUTH_CASH_MEMORY: is no setting, in DIR/.env; did you mean AUTH_CACHE_MEMORY?
AUTH_SERVER_PORT: "http", from flag --server-port, is not valid: want a port from 0 to 65535
AUTH_RATE_LIMIT: "1/day", from the environment, is not valid: want a count and a period such as 10/s, 6000/m or 100/h, at most 1000000, or off
AUTH_JWT_SECRET_KEY: the value from the environment is not valid (it has 5 bytes): want 32 bytes or more, such as ` + "`openssl rand -base64 32`" + ` prints
AUTH_CACHE_MEMORY: "64 MBytes", from the environment, is not valid: want a size such as 64MiB, from 1MiB to 1TiB
AUTH_LOG_LEVEL: "loud", from DIR/.env, is not valid: want debug, info, warn or error`
	if got := strings.ReplaceAll(fmt.Sprint(err), dir, "DIR"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnknownNames(t *testing.T) {
	for name, want := range map[string]string{
		"AUTH_JWT_SECRET":                  "AUTH_JWT_SECRET: is no setting and is ignored",
		"AUTH_SQLITEPATH":                  "AUTH_SQLITEPATH: is no setting and is ignored; did you mean AUTH_SQLITE_PATH?",
		"AUTH_JWT_SECRET_KEYS":             "AUTH_JWT_SECRET_KEYS: is no setting and is ignored; did you mean AUTH_JWT_SECRET_KEY?",
		"auth_log_level":                   "auth_log_level: is no setting and is ignored; did you mean AUTH_LOG_LEVEL?",
		"AUTH_SERVICE_HOST":                "AUTH_SERVICE_HOST: is no setting and is ignored; Kubernetes injects such names for a Service called auth",
		"AUTH_PORT":                        "AUTH_PORT: is no setting and is ignored; Kubernetes injects such names for a Service called auth",
		"AUTH_PORT_5000_TCP_ADDR":          "AUTH_PORT_5000_TCP_ADDR: is no setting and is ignored; Kubernetes",
		"AUTH_SERVER_SERVICE_PORT_METRICS": "AUTH_SERVER_SERVICE_PORT_METRICS: is no setting and is ignored; Kubernetes injects such names for a Service called auth-server",
	} {
		cfg, warnings, err := load(t, "", []string{name + "=x"})
		if cfg == nil {
			t.Errorf("%s stopped the start: %v", name, err)
		}
		wantWarning(t, warnings, want)
		_, _, err = load(t, write(t, ".env", name+"=x\n"), nil)
		wantProblem(t, err, name+": is no setting, in ")
	}
	if _, warnings, _ := load(t, "", []string{"SSH_AUTH_SOCK=/x", "PATH=/bin"}); len(warnings) > 0 {
		t.Errorf("names of others: %v", warnings)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	NewSettings().AddFlags(fs)
	if err := fs.Parse([]string{"--no-such-setting=1"}); err == nil {
		t.Error("an unknown flag was taken")
	}
}

// A Kubernetes Service called auth-server writes to a name that is ours.
func TestPortFromKubernetesIsExplained(t *testing.T) {
	_, _, err := load(t, "", []string{"AUTH_SERVER_PORT=tcp://10.0.0.1:5000"})
	wantProblem(t, err, "AUTH_SERVER_PORT: ")
	if !strings.Contains(err.Error(), "enableServiceLinks: false") {
		t.Errorf("got %v", err)
	}
}

func TestStoreNames(t *testing.T) {
	one, other := "AUTH_DATABASE_URL=postgres://u:hunter2@a/db", "AUTH_POSTGRESQL_URL=postgres://u:hunter3@b/db"
	_, _, err := load(t, "", []string{one, other})
	wantProblem(t, err, "AUTH_DATABASE_URL: and AUTH_POSTGRESQL_URL name different stores")
	if strings.Contains(err.Error(), "hunter") {
		t.Errorf("a password is shown: %v", err)
	}
	for _, environ := range [][]string{{one}, {one, "AUTH_POSTGRESQL_URL=postgres://u:hunter2@a/db"}, {"AUTH_POSTGRESQL_URL=postgres://u:hunter2@a/db"}, {one, "AUTH_POSTGRESQL_URL="}} {
		if cfg := mustLoad(t, "", environ); cfg.DatabaseURL.Reveal() != "postgres://u:hunter2@a/db" {
			t.Errorf("%v: got %q", environ, cfg.DatabaseURL.Reveal())
		}
	}
	if cfg := mustLoad(t, "", []string{"AUTH_SQLITE_PATH=rel/db"}); cfg.SQLitePath != "rel/db" {
		t.Errorf("got %q", cfg.SQLitePath)
	}
	if _, _, err := Load(Input{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("~ without HOME: %v", err)
	}
	if _, _, err := Load(Input{Dir: t.TempDir(), Environ: []string{one}}); err != nil {
		t.Errorf("~ without HOME on Postgres: %v", err)
	}
}

func TestPlainTextBeyondLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:9191", ":9191", "[::]:9191", "10.0.0.1:9191", "gate:9191", "127.0.0.1:9191,10.0.0.1:9191"} {
		listen := "AUTH_EXTAUTHZ_LISTEN=" + address
		_, _, err := load(t, "", []string{listen})
		wantProblem(t, err, "AUTH_EXTAUTHZ_LISTEN: ")
		for _, also := range [][]string{{"AUTH_EXTAUTHZ_INSECURE=true"}, {"AUTH_EXTAUTHZ_TLS_CERT=c", "AUTH_EXTAUTHZ_TLS_KEY=k"}} {
			if _, warnings, err := load(t, "", append(also, listen)); err != nil || len(warnings) > 0 {
				t.Errorf("%s with %v: %v, %v", listen, also, warnings, err)
			}
		}
	}
	_, warnings, err := load(t, "", []string{"AUTH_SERVER_HOST=0.0.0.0"})
	if err != nil {
		t.Error(err)
	}
	wantWarning(t, warnings, "AUTH_SERVER_HOST: the admin API on 0.0.0.0:5000 can be reached")
	if _, warnings, _ := load(t, "", []string{"AUTH_SERVER_HOST=::", "AUTH_SERVER_TLS_CERT=c", "AUTH_SERVER_TLS_KEY=k"}); len(warnings) > 0 {
		t.Errorf("with TLS: %v", warnings)
	}
}

func TestHalfATLSConfiguration(t *testing.T) {
	for setting, want := range map[string]string{
		"AUTH_EXTAUTHZ_TLS_CERT=c":      "AUTH_EXTAUTHZ_TLS_KEY: is missing",
		"AUTH_EXTAUTHZ_TLS_KEY=k":       "AUTH_EXTAUTHZ_TLS_CERT: is missing",
		"AUTH_EXTAUTHZ_TLS_CLIENT_CA=a": "AUTH_EXTAUTHZ_TLS_CLIENT_CA: client certificates need TLS",
		"AUTH_SERVER_TLS_CERT=c":        "AUTH_SERVER_TLS_KEY: is missing",
		"AUTH_SERVER_TLS_KEY=k":         "AUTH_SERVER_TLS_CERT: is missing",
	} {
		_, _, err := load(t, "", []string{setting})
		wantProblem(t, err, want)
	}
}

func TestDebugModeLowersTheLogLevel(t *testing.T) {
	if cfg := mustLoad(t, "", nil, "--debug-mode"); cfg.LogLevel != slog.LevelDebug || !cfg.DebugMode {
		t.Errorf("got %v", cfg.LogLevel)
	}
	if cfg := mustLoad(t, "", []string{"AUTH_LOG_LEVEL=error"}, "--debug-mode"); cfg.LogLevel != slog.LevelError {
		t.Errorf("got %v", cfg.LogLevel)
	}
}

// Encryption needs a key, and a key may be there before encryption is.
func TestEncryptionNeedsAKey(t *testing.T) {
	_, _, err := load(t, "", []string{"AUTH_ENABLE_ENCRYPTION=true"})
	wantProblem(t, err, "AUTH_ENCRYPTION_KEY: is missing, and AUTH_ENABLE_ENCRYPTION is true: make a key with `portcullis key encryption`")
	other := sealing.NewMaster()
	dir := write(t, "keys", aMaster+","+other+"\n")
	for _, environ := range [][]string{
		{"AUTH_ENABLE_ENCRYPTION=true", "AUTH_ENCRYPTION_KEY=" + aMaster + "," + other},
		{"AUTH_ENABLE_ENCRYPTION=true", "AUTH_ENCRYPTION_KEY_FILE=" + filepath.Join(dir, "keys")},
		{"AUTH_ENCRYPTION_KEY=" + aMaster + " , " + other},
	} {
		cfg := mustLoad(t, "", environ)
		if ids := cfg.Masters.IDs(); len(ids) != 2 || cfg.Masters.First() != ids[0] {
			t.Errorf("%d masters of two, the first is %s", len(ids), cfg.Masters.First())
		}
	}
	// What is wrong with a key is told by its place in the list, once.
	_, _, err = load(t, "", []string{"AUTH_ENABLE_ENCRYPTION=true", "AUTH_ENCRYPTION_KEY=" + aMaster + "," + other[2:]})
	if want := "AUTH_ENCRYPTION_KEY: the value from the environment is not valid (key 2: it has 42 characters, and a Fernet key has 44: make one with `portcullis key encryption`): want Fernet keys with commas between, such as `portcullis key encryption` prints"; fmt.Sprint(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestShortKeyForALongHash(t *testing.T) {
	_, warnings, err := load(t, "", []string{"AUTH_JWT_ALGORITHM=HS512", "AUTH_JWT_SECRET_KEY=" + strings.Repeat("k", 63)})
	if err != nil {
		t.Fatal(err)
	}
	wantWarning(t, warnings, "AUTH_JWT_SECRET_KEY: has 63 bytes, and HS512")
	if _, warnings, _ := load(t, "", []string{"AUTH_JWT_ALGORITHM=HS512", "AUTH_JWT_SECRET_KEY=" + strings.Repeat("k", 64)}); len(warnings) > 0 {
		t.Errorf("64 bytes: %v", warnings)
	}
}

// privateKey is a new private key in PEM.
func privateKey(t *testing.T, algorithm string) string {
	t.Helper()
	var key any
	var err error
	switch algorithm {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestPrivateKeys(t *testing.T) {
	es, ed := privateKey(t, "ES256"), privateKey(t, "EdDSA")
	keysOf := func(cfg *Config) (out []string) {
		for _, key := range cfg.JWTPrivateKeys {
			out = append(out, key.Algorithm())
		}
		return out
	}
	for name, try := range map[string]struct {
		environ  []string
		want     []string
		warnings []string
	}{
		"one key":            {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es}, []string{"ES256"}, nil},
		"a list of one kind": {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es + privateKey(t, "ES256")}, []string{"ES256", "ES256"}, nil},
		"a list of two":      {[]string{"AUTH_JWT_ALGORITHM=EdDSA", "AUTH_JWT_PRIVATE_KEY=" + es + ed}, []string{"ES256", "EdDSA"}, nil},
		"a file":             {[]string{"AUTH_JWT_ALGORITHM=EdDSA", "AUTH_JWT_PRIVATE_KEY_FILE=" + filepath.Join(write(t, "keys.pem", ed+es), "keys.pem")}, []string{"EdDSA", "ES256"}, nil},
		"set to nothing":     {[]string{"AUTH_JWT_PRIVATE_KEY="}, nil, nil},
		"no key, as a gate":  {[]string{"AUTH_JWT_ALGORITHM=RS256"}, nil, nil},
		"HS256 signs yet":    {[]string{"AUTH_JWT_SECRET_KEY=" + aSecret, "AUTH_JWT_PRIVATE_KEY=" + es}, []string{"ES256"}, []string{"AUTH_JWT_PRIVATE_KEY: does not sign, since AUTH_JWT_ALGORITHM is HS256: run `portcullis rotate signing`, which gives every gate the public key, then set it to ES256"}},
		"the secret is idle": {[]string{"AUTH_JWT_SECRET_KEY=" + aSecret, "AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es}, []string{"ES256"}, []string{"AUTH_JWT_SECRET_KEY: neither signs nor verifies, since AUTH_JWT_ALGORITHM is ES256"}},
		"so it is at a gate": {[]string{"AUTH_JWT_SECRET_KEY=" + aSecret, "AUTH_JWT_ALGORITHM=ES256"}, nil, []string{"AUTH_JWT_SECRET_KEY: neither signs nor verifies"}},
	} {
		cfg, warnings, err := load(t, "", try.environ)
		if err != nil || !slices.Equal(keysOf(cfg), try.want) || len(warnings) != len(try.warnings) {
			t.Errorf("%s: %v, %v, %v", name, cfg, warnings, err)
			continue
		}
		for _, want := range try.warnings {
			wantWarning(t, warnings, want)
		}
	}
	cfg := mustLoad(t, write(t, ".env", "AUTH_JWT_ALGORITHM=EdDSA\nAUTH_JWT_PRIVATE_KEY='"+ed+"'\n"), nil)
	if got := keysOf(cfg); !slices.Equal(got, []string{"EdDSA"}) {
		t.Errorf(".env: %v", got)
	}
}

// A key that could not sign what is asked for stops the start, by name, and shows
// nothing of itself.
func TestPrivateKeysThatStopTheStart(t *testing.T) {
	es, ed := privateKey(t, "ES256"), privateKey(t, "EdDSA")
	for name, try := range map[string]struct {
		environ []string
		want    string
	}{
		"another algorithm":      {[]string{"AUTH_JWT_ALGORITHM=RS256", "AUTH_JWT_PRIVATE_KEY=" + es}, "AUTH_JWT_PRIVATE_KEY: it holds no key for RS256, but the ES256 key "},
		"two others":             {[]string{"AUTH_JWT_ALGORITHM=RS256", "AUTH_JWT_PRIVATE_KEY=" + ed + es}, "AUTH_JWT_PRIVATE_KEY: it holds no key for RS256, but the EdDSA key "},
		"HS256, and no secret":   {[]string{"AUTH_JWT_PRIVATE_KEY=" + es}, "AUTH_JWT_PRIVATE_KEY: cannot sign HS256, which is AUTH_JWT_ALGORITHM, and AUTH_JWT_SECRET_KEY is not set: set AUTH_JWT_ALGORITHM=ES256"},
		"a path":                 {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=/run/secrets/key"}, "AUTH_JWT_PRIVATE_KEY: the value from the environment is not valid (it is no PEM"},
		"cut off":                {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es[:100]}, "AUTH_JWT_PRIVATE_KEY: the value from the environment is not valid (PEM block 1 is damaged"},
		"the second is junk":     {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es + "junk"}, "AUTH_JWT_PRIVATE_KEY: the value from the environment is not valid (there is other text after PEM block 1"},
		"a file that is missing": {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY_FILE=/nonexistent/key.pem"}, "AUTH_JWT_PRIVATE_KEY_FILE: from the environment: open /nonexistent/key.pem"},
		"both":                   {[]string{"AUTH_JWT_ALGORITHM=ES256", "AUTH_JWT_PRIVATE_KEY=" + es, "AUTH_JWT_PRIVATE_KEY_FILE=x"}, "AUTH_JWT_PRIVATE_KEY: is set in the environment and AUTH_JWT_PRIVATE_KEY_FILE in the environment"},
	} {
		_, _, err := load(t, "", try.environ)
		wantProblem(t, err, try.want)
		for _, key := range []string{es, ed} {
			if secret := strings.Split(key, "\n")[1][40:56]; err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the key is shown: %v", name, err)
			}
		}
	}
}

// Nothing that Load returns or that a Config can be turned into shows a secret.
func TestSecretsAreNeverShown(t *testing.T) {
	aKey := privateKey(t, "EdDSA")
	keyText := strings.Split(aKey, "\n")[1]
	seed, err := base64.StdEncoding.DecodeString(keyText)
	if err != nil {
		t.Fatal(err)
	}
	seed = seed[len(seed)-32:]
	environ := []string{"AUTH_JWT_PRIVATE_KEY=" + aKey, "AUTH_JWT_SECRET_KEY=" + aSecret, "AUTH_ENCRYPTION_KEY=" + aMaster, "AUTH_CLIENT_KEY=" + aClientKey, "AUTH_DATABASE_URL=postgres://u:hunter2@h/db"}
	cfg, warnings, err := load(t, "", environ)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.JWTSecretKey.Reveal() != aSecret || cfg.ClientKey.Reveal() != aClientKey {
		t.Error("Reveal does not give the value")
	}
	var shown bytes.Buffer
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	fmt.Fprintf(&shown, "%v %+v %#v %s %v\n", cfg, *cfg, *cfg, cfg.Dump(), warnings)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&shown, verb, cfg.JWTSecretKey)
		fmt.Fprintf(&shown, verb, &cfg.JWTSecretKey)
	}
	hidden := struct{ secret Secret }{cfg.JWTSecretKey}
	fmt.Fprintf(&shown, "%v %+v %#v\n", hidden, &hidden, hidden)
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("x", "secret", cfg.JWTSecretKey, "config", cfg)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("x", "secret", cfg.JWTSecretKey, "config", cfg)
	for _, bad := range []string{"x", aSecret[:31]} {
		_, _, err := load(t, "", []string{"AUTH_JWT_SECRET_KEY=" + bad, "AUTH_ENCRYPTION_KEY=" + aMaster + "," + aMaster[1:], "AUTH_CLIENT_KEY=" + aClientKey + "0", "AUTH_DATABASE_URL=mysql://u:hunter2@h/db"})
		fmt.Fprintln(&shown, err)
	}
	for _, secret := range []string{aSecret[:16], aMaster[1:9], aClientKey[:8], "hunter2", fmt.Sprintf("%x", aSecret[:8]), keyText[40:56], fmt.Sprintf("%x", seed[:8]), strings.Trim(fmt.Sprint(seed[:8]), "[]")} {
		if strings.Contains(strings.ToLower(shown.String()), strings.ToLower(secret)) {
			t.Errorf("%q is shown in\n%s", secret, shown.String())
		}
	}
}

func TestFlagsOfEverySetting(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	NewSettings().AddFlags(fs)
	for _, s := range Table() {
		want := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.Name, "AUTH_"), "_", "-"))
		if f := fs.Lookup(s.Flag()); f == nil || "--"+f.Name != want {
			t.Errorf("%s has no flag %s", s.Name, want)
		}
		if s.Secret && fs.Lookup(s.Flag()+"-file") == nil {
			t.Errorf("%s has no flag for its file", s.Name)
		}
		if _, _, err := load(t, "", nil, "--"+s.Flag()+"="+s.Default); err != nil {
			t.Errorf("the default of %s is refused: %v", s.Name, err)
		}
	}
}
