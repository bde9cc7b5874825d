// Package config owns the settings: their names, where their values come from,
// and what a value may be. Everything else receives typed, validated values.
//
// Load reads four sources, each over the one before: defaults, the .env file, the
// environment, flags. It reports every problem at once and never prints a
// secret.
package config

import (
	"log/slog"
	"time"

	"portcullis/internal/clientaddr"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/ratelimit"
	"portcullis/internal/sealing"
)

// Config is every setting, parsed and validated.
type Config struct {
	// ExtAuthzListen are the addresses of the ext_authz gRPC listener; at least one.
	ExtAuthzListen []Listen
	// ExtAuthzTLS is the listener's TLS. Without it, an address beyond loopback is
	// an error unless ExtAuthzInsecure is set.
	ExtAuthzTLS TLS
	// ExtAuthzInsecure allows plain text beyond loopback.
	ExtAuthzInsecure bool
	// ExtAuthzFaults says how a fault is answered.
	ExtAuthzFaults Faults
	// ContextExtensions says what Envoy's context_extensions may do.
	ContextExtensions ContextExtensions

	// ServerHost and ServerPort are where the admin API listens; port 0 takes a free
	// one.
	ServerHost string
	ServerPort int
	// ServerTLS is the admin API's TLS.
	ServerTLS TLS
	// CORS says which web pages may use the admin API.
	CORS CORS
	// TrustedProxies are the proxies before the admin API whose forwarding headers
	// count.
	TrustedProxies clientaddr.Proxies
	// RateLimit and RateLimitWrites are of each client key, RateLimitFailures of each
	// address. The zero rate is no limit.
	RateLimit, RateLimitWrites, RateLimitFailures ratelimit.Rate
	// MetricsListen are the addresses of /metrics, /healthz and /readyz.
	MetricsListen []Listen

	// DatabaseURL is a Postgres URL; not set means SQLite at SQLitePath. It comes from
	// AUTH_DATABASE_URL or AUTH_POSTGRESQL_URL.
	DatabaseURL Secret
	// DatabaseSetting is the setting that DatabaseURL came from, "" for none.
	DatabaseSetting string
	// DatabaseInsecure allows connections to another machine without TLS.
	DatabaseInsecure bool
	// SQLitePath is the file of the embedded store, ~ already expanded.
	SQLitePath string

	// PolicyFile is the policy file, "" for none: then every request is denied.
	PolicyFile string
	// Tenants are the tenants that a sidecar serves; nil is all of them.
	Tenants []string

	// ClientKey is registered at start as key `env` of tenant `default`; not set
	// registers nothing. It is a UUID4 in canonical, lower-case form.
	ClientKey Secret
	// ClientKeyOverlap is how long the former key stays live beside a new ClientKey.
	ClientKeyOverlap time.Duration

	// JWTSecretKey signs and verifies our own tokens: 32 bytes at least, or not set.
	JWTSecretKey Secret
	// JWTAlgorithm is HS256, HS384 or HS512, which JWTSecretKey signs, or RS256, ES256 or
	// EdDSA, which a private key does.
	JWTAlgorithm string
	// JWTPrivateKeys may sign our own tokens; none, or at least one is for JWTAlgorithm
	// where that is asymmetric. They are never shown.
	JWTPrivateKeys []*identity.PrivateKey
	// JWTIssuer and JWTAudience are required of own tokens where not "".
	JWTIssuer, JWTAudience string
	// JWTAccessTokenLifetime is how long an own token lives by default.
	JWTAccessTokenLifetime time.Duration
	// JWTRefreshTokenLifetime is how long an authorization lives that refresh tokens
	// carry on.
	JWTRefreshTokenLifetime time.Duration
	// OpenTenancy makes a tenant of any UUID4 that the admin API meets.
	OpenTenancy bool

	// EnableEncryption says that the database is to be sealed. Masters are the master
	// keys; nil is none.
	EnableEncryption bool
	Masters          *sealing.Masters

	// StrictUsersDefault says whether the users of new tenants need an API key.
	StrictUsersDefault bool

	// AuditLogging records what is done. It is a state of the database, which an admin
	// process sets at its start.
	AuditLogging bool
	// AuditKeys wrap the secret of the audit's chain, the first of them; nil is none.
	AuditKeys *sealing.Masters

	// StrictInput refuses SQL keywords in names and free text.
	StrictInput bool

	// AuditChecks adds the admin API's permission checks to its audit.
	AuditChecks bool

	// DecisionLog says which decisions are logged; DecisionLogRate is the share of
	// allowed ones in mode decisionlog.Sample.
	DecisionLog     decisionlog.Mode
	DecisionLogRate float64
	// DecisionLogFile is where; "" is standard output.
	DecisionLogFile string

	// MaxStaleness is how long a sidecar may go without word from the store.
	MaxStaleness time.Duration
	// CacheMemory bounds all caches together, in bytes.
	CacheMemory int64

	// DrainDelay is how long a process goes on answering once it has been asked to
	// end and has said that it is not ready.
	DrainDelay time.Duration

	// LogLevel and LogFormat are of the program's own log. DebugMode lowers the level
	// to debug where no level was set.
	LogLevel  slog.Level
	LogFormat LogFormat
	DebugMode bool

	dump []Entry
}

// TLS names PEM files. Cert and Key are both set or both "".
type TLS struct {
	Cert, Key string
	ClientCA  string // clients must show a certificate of this authority, where set
}

// Enabled reports whether there is a certificate to serve with.
func (t TLS) Enabled() bool { return t.Cert != "" }

// Faults says how the gate answers when it could not decide.
type Faults string

// The ways of AUTH_EXTAUTHZ_FAULTS.
const (
	FaultsErrorResponse Faults = "error_response" // ext_authz's error_response, Envoy 1.37 and later
	FaultsUnavailable   Faults = "unavailable"    // a gRPC error, for every Envoy
)

// ContextExtensions says what Envoy's context_extensions may do to a decision.
type ContextExtensions string

// The modes of AUTH_CONTEXT_EXTENSIONS.
const (
	ContextNarrow  ContextExtensions = "narrow"  // the path rule and the named one must both allow
	ContextReplace ContextExtensions = "replace" // the named one stands in for the path rule
	ContextIgnore  ContextExtensions = "ignore"
)

// LogFormat is how the program's own log is written.
type LogFormat string

// The formats of AUTH_LOG_FORMAT.
const (
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)
