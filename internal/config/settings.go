package config

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"portcullis/internal/clientaddr"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/ratelimit"
	"portcullis/internal/sealing"
)

// Setting is one row of the table of settings.
type Setting struct {
	// Name is the environment variable and the key in .env.
	Name string
	// Default is the text that stands for an absent value.
	Default string
	// Usage says what the setting does, Want what a value may be.
	Usage, Want string
	// Secret settings are never shown, and have a twin named Name + "_FILE" that
	// names a file with the value.
	Secret bool
	// onCommandLine reports whether a secret's value holds nothing secret, so that it
	// may be given as a flag, which the process list shows. Nil is never.
	onCommandLine func(value string) bool
	// Bool settings may stand as a flag without a value.
	Bool bool

	// parse reads a value into the Config. Its error says only what is wrong with
	// the value beyond Want, and never quotes it.
	parse func(*Config, string) error
}

// Flag is the setting's flag, without the dashes: AUTH_SQLITE_PATH is
// sqlite-path.
func (s Setting) Flag() string { return flagName(s.Name) }

func flagName(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "AUTH_"), "_", "-"))
}

// FileSuffix makes the name of a secret's twin, which names a file.
const FileSuffix = "_FILE"

// Table returns every setting of this version, in the order of the reference.
func Table() []Setting {
	return []Setting{
		{Name: "AUTH_EXTAUTHZ_LISTEN", Default: "127.0.0.1:9191", Want: wantListen,
			Usage: "where the ext_authz gRPC service listens; a comma joins several addresses",
			parse: func(c *Config, v string) (err error) { c.ExtAuthzListen, err = parseListen(v); return err }},
		{Name: "AUTH_EXTAUTHZ_TLS_CERT", Want: wantFile,
			Usage: "certificate chain of the ext_authz listener",
			parse: func(c *Config, v string) error { return parseFile(&c.ExtAuthzTLS.Cert, v) }},
		{Name: "AUTH_EXTAUTHZ_TLS_KEY", Want: wantFile,
			Usage: "private key of the ext_authz listener",
			parse: func(c *Config, v string) error { return parseFile(&c.ExtAuthzTLS.Key, v) }},
		{Name: "AUTH_EXTAUTHZ_TLS_CLIENT_CA", Want: wantFile,
			Usage: "authorities one of which must have signed Envoy's client certificate (mTLS)",
			parse: func(c *Config, v string) error { return parseFile(&c.ExtAuthzTLS.ClientCA, v) }},
		{Name: "AUTH_EXTAUTHZ_INSECURE", Default: "false", Want: wantBool, Bool: true,
			Usage: "let the ext_authz listener leave loopback without TLS",
			parse: func(c *Config, v string) error { return parseBool(&c.ExtAuthzInsecure, v) }},
		{Name: "AUTH_EXTAUTHZ_FAULTS", Default: string(FaultsErrorResponse), Want: "error_response or unavailable",
			Usage: "how a fault of the gate's own is answered: error_response for Envoy 1.37 and later, unavailable (a gRPC error) for those before",
			parse: func(c *Config, v string) error {
				return oneOf(&c.ExtAuthzFaults, v, FaultsErrorResponse, FaultsUnavailable)
			}},
		{Name: "AUTH_CONTEXT_EXTENSIONS", Default: string(ContextNarrow), Want: "narrow, replace or ignore",
			Usage: "what a rule or permission named in Envoy's context_extensions does: narrow the path rule, replace it, or nothing",
			parse: func(c *Config, v string) error {
				return oneOf(&c.ContextExtensions, v, ContextNarrow, ContextReplace, ContextIgnore)
			}},
		{Name: "AUTH_POLICY_FILE", Want: wantFile,
			Usage: "the policy file; without one every request is denied",
			parse: func(c *Config, v string) error { return parseFile(&c.PolicyFile, v) }},
		{Name: "AUTH_TENANTS", Default: "all", Want: "all, or tenant names joined by commas",
			Usage: "the tenants that this sidecar serves",
			parse: func(c *Config, v string) (err error) { c.Tenants, err = parseTenants(v); return err }},

		{Name: "AUTH_SERVER_HOST", Default: "127.0.0.1", Want: "a host name or an IP address, without a port",
			Usage: "the address of the admin API",
			parse: func(c *Config, v string) (err error) { c.ServerHost, err = parseHost(v); return err }},
		{Name: "AUTH_SERVER_PORT", Default: "5000", Want: "a port from 0 to 65535",
			Usage: "the port of the admin API; 0 takes a free one",
			parse: func(c *Config, v string) (err error) { c.ServerPort, err = parsePort(v); return err }},
		{Name: "AUTH_SERVER_TLS_CERT", Want: wantFile,
			Usage: "certificate chain of the admin API",
			parse: func(c *Config, v string) error { return parseFile(&c.ServerTLS.Cert, v) }},
		{Name: "AUTH_SERVER_TLS_KEY", Want: wantFile,
			Usage: "private key of the admin API",
			parse: func(c *Config, v string) error { return parseFile(&c.ServerTLS.Key, v) }},
		{Name: "AUTH_SERVER_TLS_CLIENT_CA", Want: wantFile,
			Usage: "authorities one of which must have signed the certificate of every caller of the admin API (mTLS)",
			parse: func(c *Config, v string) error { return parseFile(&c.ServerTLS.ClientCA, v) }},
		{Name: "AUTH_ALLOW_CORS", Default: "false", Want: wantBool, Bool: true,
			Usage: "let the web pages of AUTH_CORS_ORIGINS use the admin API",
			parse: func(c *Config, v string) error { return parseBool(&c.CORS.Enabled, v) }},
		{Name: "AUTH_CORS_ORIGINS", Want: wantOrigins,
			Usage: "the origins of those pages, exactly as browsers write them; `*` is every one, in debug mode only",
			parse: func(c *Config, v string) error { return parseOrigins(&c.CORS, v) }},
		{Name: "AUTH_TRUSTED_PROXIES", Want: "networks and addresses joined by commas, such as 10.0.0.0/8,192.0.2.7",
			Usage: "the proxies before the admin API whose X-Forwarded-For and X-Forwarded-Proto count; nobody else's do",
			parse: func(c *Config, v string) (err error) { c.TrustedProxies, err = clientaddr.ParseProxies(v); return err }},
		{Name: "AUTH_RATE_LIMIT", Default: "6000/m", Want: wantRate,
			Usage: "requests that a client key may make to the admin API beside writes and permission checks; checks are not limited",
			parse: func(c *Config, v string) (err error) { c.RateLimit, err = ratelimit.ParseRate(v); return hush(err) }},
		{Name: "AUTH_RATE_LIMIT_WRITES", Default: "3000/m", Want: wantRate,
			Usage: "writes that a client key may make",
			parse: func(c *Config, v string) (err error) {
				c.RateLimitWrites, err = ratelimit.ParseRate(v)
				return hush(err)
			}},
		{Name: "AUTH_RATE_LIMIT_FAILURES", Default: "5/m", Want: wantRate,
			Usage: "failed authentications that an address has on the admin API before those without a valid key are refused unseen; off also takes away the bound of 600 requests a minute without a key",
			parse: func(c *Config, v string) (err error) {
				c.RateLimitFailures, err = ratelimit.ParseRate(v)
				return hush(err)
			}},
		{Name: "AUTH_METRICS_LISTEN", Default: "127.0.0.1:9190", Want: wantListen,
			Usage: "where /metrics, /healthz and /readyz are served, without TLS",
			parse: func(c *Config, v string) (err error) { c.MetricsListen, err = parseListen(v); return err }},

		{Name: "AUTH_DATABASE_URL", Want: wantPostgres, Secret: true,
			Usage:         "the Postgres store; it wins over SQLite",
			onCommandLine: withoutPassword,
			parse:         parseDatabaseURL},
		{Name: "AUTH_POSTGRESQL_URL", Want: wantPostgres, Secret: true,
			Usage:         "another name of AUTH_DATABASE_URL; where both are set they must be equal",
			onCommandLine: withoutPassword,
			parse:         parseDatabaseURL},
		{Name: "AUTH_DATABASE_INSECURE", Default: "false", Want: wantBool, Bool: true,
			Usage: "let connections go to a Postgres on another machine without TLS (sslmode=disable, allow or prefer); they can be read and changed on the way",
			parse: func(c *Config, v string) error { return parseBool(&c.DatabaseInsecure, v) }},
		{Name: "AUTH_SQLITE_PATH", Default: "~/.auth.sqlite3", Want: "a path to a file; ~/ is the home directory",
			Usage: "the embedded store, used where no Postgres is named",
			parse: func(c *Config, v string) error { return parseFile(&c.SQLitePath, v) }},

		{Name: "AUTH_CLIENT_KEY", Want: "a UUID4, such as uuidgen prints", Secret: true,
			Usage: "a client key that is registered at start as key `env` of tenant `default`",
			parse: parseClientKey},
		{Name: "AUTH_CLIENT_KEY_OVERLAP", Default: "1h", Want: wantDuration + ", at most 30d",
			Usage: "how long the former AUTH_CLIENT_KEY stays live beside a new one",
			parse: func(c *Config, v string) error { return parseDuration(&c.ClientKeyOverlap, v, 0, 30*day) }},

		{Name: "AUTH_JWT_SECRET_KEY", Want: "32 bytes or more, such as `openssl rand -base64 32` prints", Secret: true,
			Usage: "signs and verifies our own tokens; without it no token of ours is accepted",
			parse: parseJWTSecret},
		{Name: "AUTH_JWT_ALGORITHM", Default: "HS256", Want: "HS256, HS384, HS512, RS256, ES256 or EdDSA",
			Usage: "what signs our own tokens: HS* the secret key, the others a private key; AUTH_JWT_SECRET_KEY verifies only under the HS* that stands here",
			parse: func(c *Config, v string) error {
				return oneOf(&c.JWTAlgorithm, v, append([]string{"HS256", "HS384", "HS512"}, identity.OwnAlgorithms()...)...)
			}},
		{Name: "AUTH_JWT_PRIVATE_KEY", Want: "private keys in PEM, one after another: RSA of 2048 to 8192 bits, P-256 or Ed25519, not encrypted", Secret: true,
			Usage: "sign our own tokens, each by its own algorithm; the first that is for AUTH_JWT_ALGORITHM begins",
			parse: parsePrivateKeys},
		{Name: "AUTH_JWT_ISSUER", Want: wantText,
			Usage: "the `iss` of our own tokens; where set, every one must carry it",
			parse: func(c *Config, v string) error { return parseText(&c.JWTIssuer, v) }},
		{Name: "AUTH_JWT_AUDIENCE", Want: wantText,
			Usage: "the `aud` of our own tokens; where set, every one must name it",
			parse: func(c *Config, v string) error { return parseText(&c.JWTAudience, v) }},
		{Name: "AUTH_JWT_ACCESS_TOKEN_EXPIRE_MINUTES", Default: "15", Want: "minutes, 1 to 1440",
			Usage: "how long a token that we issue lives, unless its issuing says otherwise; the deny-list keeps entries for no longer than the most",
			parse: func(c *Config, v string) error {
				minutes, err := parseInt(v, 1, 24*60)
				c.JWTAccessTokenLifetime = time.Duration(minutes) * time.Minute
				return err
			}},
		{Name: "AUTH_JWT_REFRESH_TOKEN_EXPIRE_DAYS", Default: "7", Want: "days, 1 to 366",
			Usage: "how long an authorization lives, from the exchange that began it: its refresh tokens replace one another until then",
			parse: func(c *Config, v string) error {
				days, err := parseInt(v, 1, 366)
				c.JWTRefreshTokenLifetime = time.Duration(days) * day
				return err
			}},

		{Name: "AUTH_ENABLE_ENCRYPTION", Default: "false", Want: wantBool, Bool: true,
			Usage: "users, permission names, descriptions and labels lie sealed in the database; an empty one is sealed at start, another by `portcullis rotate encryption --enable`",
			parse: func(c *Config, v string) error { return parseBool(&c.EnableEncryption, v) }},
		{Name: "AUTH_ENCRYPTION_KEY", Want: "Fernet keys with commas between, such as `portcullis key encryption` prints", Secret: true,
			Usage: "the master keys: the first wraps the keys of the tenants, all of them unwrap",
			parse: func(c *Config, v string) (err error) { c.Masters, err = sealing.ParseMasters(v); return err }},

		{Name: "AUTH_STRICT_USERS_DEFAULT", Default: "false", Want: wantBool, Bool: true,
			Usage: "users of new tenants need an API key, at the gate and in permission checks; existing tenants, `default` among them, keep what they have",
			parse: func(c *Config, v string) error { return parseBool(&c.StrictUsersDefault, v) }},
		{Name: "AUTH_OPEN_TENANCY", Default: "false", Want: wantBool, Bool: true,
			Usage: "the admin API makes a tenant of any UUID4 on its first use, as Auth does; it matches no rule at the gate until an operator admits it",
			parse: func(c *Config, v string) error { return parseBool(&c.OpenTenancy, v) }},
		{Name: "AUTH_ENABLE_AUDIT_LOGGING", Default: "true", Want: wantBool, Bool: true,
			Usage: "record what is done; turning it off is itself recorded, and holds for every process on the database",
			parse: func(c *Config, v string) error { return parseBool(&c.AuditLogging, v) }},
		{Name: "AUTH_AUDIT_KEY", Want: "Fernet keys with commas between, such as `portcullis key encryption` prints", Secret: true,
			Usage: "chains the audit, so that nobody edits it unseen: the first key wraps the chain's secret, all of them unwrap; without one the first of AUTH_ENCRYPTION_KEY does, in a sealed database",
			parse: func(c *Config, v string) (err error) { c.AuditKeys, err = sealing.ParseMasters(v); return err }},
		{Name: "AUTH_STRICT_INPUT", Default: "false", Want: wantBool, Bool: true,
			Usage: "refuse names and free text that hold an SQL keyword as a whole word, such as `drop`, in the admin API and where commands make something",
			parse: func(c *Config, v string) error { return parseBool(&c.StrictInput, v) }},
		{Name: "AUTH_AUDIT_CHECKS", Default: "false", Want: wantBool, Bool: true,
			Usage: "audit the admin API's permission checks too",
			parse: func(c *Config, v string) error { return parseBool(&c.AuditChecks, v) }},
		{Name: "AUTH_DECISION_LOG", Default: "denied", Want: "off, denied, all, or a sampling rate from 0 to 1",
			Usage: "which decisions are logged as JSON lines; a rate logs all denials and that share of the allowed requests",
			parse: func(c *Config, v string) (err error) {
				c.DecisionLog, c.DecisionLogRate, err = decisionlog.ParseMode(v)
				return hush(err)
			}},
		{Name: "AUTH_DECISION_LOG_FILE", Want: wantFile,
			Usage: "the file that the decision log is appended to, instead of standard output",
			parse: func(c *Config, v string) error { return parseFile(&c.DecisionLogFile, v) }},

		{Name: "AUTH_MAX_STALENESS", Default: "120s", Want: wantDuration + ", from 1s to 24h",
			Usage: "how long a sidecar may go without word from the store before it fails closed",
			parse: func(c *Config, v string) error { return parseDuration(&c.MaxStaleness, v, time.Second, day) }},
		{Name: "AUTH_CACHE_MEMORY", Default: "64MiB", Want: "a size such as 64MiB, from 1MiB to 1TiB",
			Usage: "the bound of all caches together",
			parse: func(c *Config, v string) (err error) { c.CacheMemory, err = parseSize(v, 1<<20, 1<<40); return err }},

		{Name: "AUTH_DRAIN_DELAY", Default: "1s", Want: wantDuration + ", at most 5m",
			Usage: "how long a process goes on answering after SIGTERM, once it has said that it is not ready",
			parse: func(c *Config, v string) error { return parseDuration(&c.DrainDelay, v, 0, 5*time.Minute) }},

		{Name: "AUTH_LOG_LEVEL", Default: "info", Want: "debug, info, warn or error",
			Usage: "the least level of the program's own log",
			parse: func(c *Config, v string) error { return parseLevel(&c.LogLevel, v) }},
		{Name: "AUTH_LOG_FORMAT", Default: string(LogJSON), Want: "json or text",
			Usage: "the form of the program's own log",
			parse: func(c *Config, v string) error { return oneOf(&c.LogFormat, v, LogJSON, LogText) }},
		{Name: "AUTH_DEBUG_MODE", Default: "false", Want: wantBool, Bool: true,
			Usage: "log at level debug where AUTH_LOG_LEVEL is not set, serve profiles at /debug/pprof/ of AUTH_METRICS_LISTEN to this machine, allow `*` in AUTH_CORS_ORIGINS; not for production",
			parse: func(c *Config, v string) error { return parseBool(&c.DebugMode, v) }},
	}
}

func parseDatabaseURL(c *Config, v string) error {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(v, scheme); ok && rest != "" && !hasControl(v) {
			c.DatabaseURL = NewSecret(v)
			return nil
		}
	}
	switch {
	case v == "":
		return nil
	case strings.HasPrefix(v, "postgresql+"), strings.HasPrefix(v, "postgres+"):
		return fmt.Errorf("SQLAlchemy's driver suffix after postgresql is to be left out")
	case strings.HasPrefix(v, "sqlite:"):
		return fmt.Errorf("a SQLite file is named by AUTH_SQLITE_PATH")
	}
	return errValue
}

func parseClientKey(c *Config, v string) error {
	if v == "" {
		return nil
	}
	canonical, ok := identity.ParseClientKey([]byte(v))
	if !ok {
		return errValue
	}
	c.ClientKey = NewSecret(string(canonical[:]))
	return nil
}

func parseJWTSecret(c *Config, v string) error {
	if v != "" && len(v) < identity.MinSecretSize {
		return fmt.Errorf("it has %d bytes", len(v))
	}
	c.JWTSecretKey = NewSecret(v)
	return nil
}

func parsePrivateKeys(c *Config, v string) (err error) {
	if v != "" {
		c.JWTPrivateKeys, err = identity.ParsePrivateKeys([]byte(v))
	}
	return err
}

func parseLevel(dst *slog.Level, v string) error {
	switch v {
	case "debug":
		*dst = slog.LevelDebug
	case "info":
		*dst = slog.LevelInfo
	case "warn":
		*dst = slog.LevelWarn
	case "error":
		*dst = slog.LevelError
	default:
		return errValue
	}
	return nil
}

// Settings is the table with the flags that a command line gave it. It is not
// safe for concurrent use.
type Settings struct {
	table   []Setting
	flags   map[string]*flagValue // by name of the variable, _FILE twins included
	envFile *flagValue
}

// NewSettings returns the table without any flag.
func NewSettings() *Settings {
	return &Settings{table: Table(), flags: map[string]*flagValue{}, envFile: &flagValue{}}
}

// AddFlags registers a flag for every setting, one for the _FILE twin of every
// secret, and --env-file. Values are validated by Load, so that a wrong one is
// reported beside all others.
func (s *Settings) AddFlags(fs *pflag.FlagSet) {
	for _, setting := range s.table {
		usage := setting.Usage + " (" + setting.Name + ")"
		s.addFlag(fs, setting.Name, setting.Default, usage, setting.Bool)
		if setting.Secret {
			s.addFlag(fs, setting.Name+FileSuffix, "", "file with the value of "+setting.Name, false)
		}
	}
	fs.Var(s.envFile, "env-file", "file of settings, instead of .env in the working directory")
}

func (s *Settings) addFlag(fs *pflag.FlagSet, name, byDefault, usage string, isBool bool) {
	value := &flagValue{text: byDefault, isBool: isBool}
	s.flags[name] = value
	// Backquotes would name the flag's argument in pflag's usage.
	flag := fs.VarPF(value, flagName(name), "", strings.ReplaceAll(usage, "`", "'"))
	if isBool {
		flag.NoOptDefVal = "true"
	}
}

// flagValue is a flag's text as it was given.
type flagValue struct {
	text   string
	isBool bool
	isSet  bool
}

// Set, String and Type serve pflag.
func (f *flagValue) Set(text string) error {
	f.text, f.isSet = text, true
	return nil
}
func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string {
	if f.isBool {
		return "bool"
	}
	return "string"
}

// parseBool reads what strconv.ParseBool reads, and yes, no, on, off.
func parseBool(dst *bool, v string) error {
	switch strings.ToLower(v) {
	case "yes", "on":
		*dst = true
		return nil
	case "no", "off":
		*dst = false
		return nil
	}
	b, err := strconv.ParseBool(strings.ToLower(v))
	if err != nil {
		return errValue
	}
	*dst = b
	return nil
}
