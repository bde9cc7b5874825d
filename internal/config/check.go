package config

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"

	"portcullis/internal/identity"
)

// crossCheck judges settings that are valid alone and may not be together.
func (l *loader) crossCheck(c *Config) {
	l.checkTLS(c)
	l.checkCORS(c)
	l.checkStore(c)
	l.checkToken(c)
	l.checkEncryption(c)
	if c.DebugMode && l.look("AUTH_LOG_LEVEL").source == "" {
		c.LogLevel = slog.LevelDebug
	}
	if c.DecisionLogFile != "" && l.look("AUTH_DECISION_LOG").value == "off" {
		l.warn("AUTH_DECISION_LOG_FILE", "nothing is written to it, since AUTH_DECISION_LOG is off")
	}
}

func (l *loader) checkTLS(c *Config) {
	l.checkPair("AUTH_EXTAUTHZ_TLS_CERT", "AUTH_EXTAUTHZ_TLS_KEY", c.ExtAuthzTLS)
	l.checkPair("AUTH_SERVER_TLS_CERT", "AUTH_SERVER_TLS_KEY", c.ServerTLS)
	if c.ExtAuthzTLS.ClientCA != "" && !c.ExtAuthzTLS.Enabled() {
		l.problem("AUTH_EXTAUTHZ_TLS_CLIENT_CA", "client certificates need TLS: set AUTH_EXTAUTHZ_TLS_CERT and AUTH_EXTAUTHZ_TLS_KEY as well")
	}
	if c.ServerTLS.ClientCA != "" && !c.ServerTLS.Enabled() {
		l.problem("AUTH_SERVER_TLS_CLIENT_CA", "client certificates need TLS: set AUTH_SERVER_TLS_CERT and AUTH_SERVER_TLS_KEY as well")
	}
	if !c.ExtAuthzTLS.Enabled() && !c.ExtAuthzInsecure {
		for _, listen := range c.ExtAuthzListen {
			if !listen.Local() {
				l.problem("AUTH_EXTAUTHZ_LISTEN", "%s can be reached from other machines without TLS: set AUTH_EXTAUTHZ_TLS_CERT and _KEY (and _CLIENT_CA), "+
					"listen on loopback or a unix socket, or accept plain text with AUTH_EXTAUTHZ_INSECURE=true", listen)
			}
		}
	}
	if c.ServerHost != "" && !loopback(c.ServerHost) && !c.ServerTLS.Enabled() {
		l.warn("AUTH_SERVER_HOST", "the admin API on %s can be reached from other machines without TLS, so client keys cross the network in clear: "+
			"set AUTH_SERVER_TLS_CERT and _KEY, or put a proxy that ends TLS in front of it", c.ServerAddress())
	}
}

func (l *loader) checkPair(certName, keyName string, t TLS) {
	switch {
	case t.Cert != "" && t.Key == "":
		l.problem(keyName, "is missing, and %s is set", certName)
	case t.Cert == "" && t.Key != "":
		l.problem(certName, "is missing, and %s is set", keyName)
	}
}

func (l *loader) checkStore(c *Config) {
	one, other := l.secretValue("AUTH_DATABASE_URL"), l.secretValue("AUTH_POSTGRESQL_URL")
	if one != "" && other != "" && one != other {
		l.problem("AUTH_DATABASE_URL", "and AUTH_POSTGRESQL_URL name different stores: set one of them, or both to the same")
	}
	switch {
	case one != "":
		c.DatabaseSetting = "AUTH_DATABASE_URL"
	case other != "":
		c.DatabaseSetting = "AUTH_POSTGRESQL_URL"
	}
	path, err := l.home(c.SQLitePath)
	if err != nil && !c.DatabaseURL.IsSet() {
		l.problem("AUTH_SQLITE_PATH", "%v: set HOME, or name the file in full", err)
	}
	c.SQLitePath = path
	for _, name := range []*string{&c.PolicyFile, &c.DecisionLogFile, &c.ExtAuthzTLS.Cert, &c.ExtAuthzTLS.Key, &c.ExtAuthzTLS.ClientCA, &c.ServerTLS.Cert, &c.ServerTLS.Key, &c.ServerTLS.ClientCA} {
		if expanded, err := l.home(*name); err == nil {
			*name = expanded
		}
	}
}

// secretValue returns a secret's value from wherever it is; problems in getting
// it have been told already.
func (l *loader) secretValue(name string) string {
	if at := l.look(name); at.value != "" {
		return at.value
	}
	if file := l.look(name + FileSuffix); file.value != "" {
		if value, err := readSecretFile(file.value); err == nil {
			return value
		}
	}
	return ""
}

// checkToken warns of a secret that is shorter than RFC 7518, 3.2 asks for, and holds
// private keys against the algorithm.
func (l *loader) checkToken(c *Config) {
	l.checkPrivateKeys(c)
	size := map[string]int{"HS384": 48, "HS512": 64}[c.JWTAlgorithm]
	if n := len(c.JWTSecretKey.Reveal()); n > 0 && n < size {
		l.warn("AUTH_JWT_SECRET_KEY", "has %d bytes, and %s is no stronger than its key: use %d", n, c.JWTAlgorithm, size)
	}
}

// checkEncryption asks for a key where one is needed. One that does not parse has
// been told already.
func (l *loader) checkEncryption(c *Config) {
	const name = "AUTH_ENCRYPTION_KEY"
	if c.EnableEncryption && c.Masters == nil && l.look(name).value == "" && l.look(name+FileSuffix).value == "" {
		l.problem(name, "is missing, and AUTH_ENABLE_ENCRYPTION is true: make a key with `portcullis key encryption`, "+
			"keep it where the database is not, and name its file in AUTH_ENCRYPTION_KEY_FILE")
	}
}

// checkPrivateKeys stops keys that could not sign what is asked for. A list of several
// algorithms is how a rotation changes the algorithm, so one key that fits is enough.
func (l *loader) checkPrivateKeys(c *Config) {
	asymmetric := slices.Contains(identity.OwnAlgorithms(), c.JWTAlgorithm)
	switch {
	case c.JWTAlgorithm == "" || len(c.JWTPrivateKeys) == 0: // not valid, or nothing to hold against it
	case asymmetric:
		if _, err := identity.SigningKey(c.JWTPrivateKeys, c.JWTAlgorithm); err != nil {
			l.problem("AUTH_JWT_PRIVATE_KEY", "%v: set AUTH_JWT_ALGORITHM=%s, or add a key for %s", err, c.JWTPrivateKeys[0].Algorithm(), c.JWTAlgorithm)
		}
	case !c.JWTSecretKey.IsSet():
		l.problem("AUTH_JWT_PRIVATE_KEY", "cannot sign %s, which is AUTH_JWT_ALGORITHM, and AUTH_JWT_SECRET_KEY is not set: set AUTH_JWT_ALGORITHM=%s",
			c.JWTAlgorithm, c.JWTPrivateKeys[0].Algorithm())
	default:
		l.warn("AUTH_JWT_PRIVATE_KEY", "does not sign, since AUTH_JWT_ALGORITHM is %s: run `portcullis rotate signing`, which gives every gate the public key, then set it to %s in the admin process",
			c.JWTAlgorithm, c.JWTPrivateKeys[0].Algorithm())
	}
	if asymmetric && c.JWTSecretKey.IsSet() {
		l.warn("AUTH_JWT_SECRET_KEY", "neither signs nor verifies, since AUTH_JWT_ALGORITHM is %s: take it out", c.JWTAlgorithm)
	}
}

// ServerAddress is the admin API's host:port.
func (c *Config) ServerAddress() string {
	return net.JoinHostPort(c.ServerHost, strconv.Itoa(c.ServerPort))
}

// Entry is a setting as it is in force.
type Entry struct {
	Name   string
	Value  string // "[redacted]" for a secret that is set
	Source string // "default", "the environment", the .env file's path, a flag
}

// String returns "NAME=value (source)".
func (e Entry) String() string { return fmt.Sprintf("%s=%s (%s)", e.Name, e.Value, e.Source) }

// Dump returns every setting in the order of the table, without secrets.
func (c *Config) Dump() []Entry { return c.dump }
