package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

const tlsPassword = "hunter2-s3cret"

// tlsServer starts a Postgres that takes TCP, with TLS where files is not nil, and
// has a migrated database and a user app with a password.
func tlsServer(t *testing.T, files *testkit.TLSFiles) (port int) {
	t.Helper()
	server := testkit.PostgresServer(t)
	if _, err := Migrate(t.Context(), server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	execSQL(t, server.URL("postgres"), `CREATE ROLE app LOGIN SUPERUSER PASSWORD '`+tlsPassword+`'`, `CREATE ROLE certified LOGIN SUPERUSER`)
	tcp := "host"
	if files != nil {
		tcp = "hostssl"
	}
	rules := []string{tcp + " all app all scram-sha-256"}
	if files != nil && files.ClientCA != "" {
		rules = append(rules, "hostssl all certified all cert")
	}
	port, err := server.ListenTCP(t.Context(), files, append(rules, "host all all all reject")...)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestTLSToPostgres opens and migrates over real handshakes. "" is success.
func TestTLSToPostgres(t *testing.T) {
	noPostgresEnvironment(t)
	ca, strangers := newAuthority(t), newAuthority(t)
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	type try struct{ host, query, want string }
	const (
		wrongHost = "the database's certificate is not for the host that the URL names"
		wrongCA   = "the database's certificate is of an authority that is not trusted: name the authority's file with sslrootcert"
		expired   = "the database's certificate has expired"
		noTLS     = "the database server has no TLS"
		// In TLS 1.3 the server judges the client's certificate after the client has
		// finished, so the alert may lose the race against the connection's end.
		rejected = "unknown certificate authority|connection reset by peer|broken pipe"
	)
	full, own, theirs := "sslmode=verify-full", "&sslrootcert="+ca.file, "&sslrootcert="+strangers.file
	named := ca.server("localhost", soon)
	named.ClientCA = ca.file
	certified, stranger := ca.client("certified"), strangers.client("certified")
	shows := func(c testkit.TLSFiles) string { return "&user=certified&sslcert=" + c.Cert + "&sslkey=" + c.Key }

	for _, server := range []struct {
		name  string
		files *testkit.TLSFiles
		tries []try
	}{
		{"a certificate for localhost", &named, []try{
			{"localhost", full + own, ""},
			{"127.0.0.1", full + own, wrongHost},
			{"localhost", full + theirs, wrongCA},
			{"localhost", full, wrongCA}, // the system's authorities
			{"localhost", full + own + "&sslsni=0", ""},
			{"127.0.0.1", full + own + "&sslsni=0", wrongHost},
			{"localhost", "sslmode=disable&sslrootcert=system", wrongCA},
			{"127.0.0.1,localhost", full + own, ""}, // the next host, where the first is not who it says
			{"127.0.0.1", "sslmode=verify-ca" + own, ""},
			{"127.0.0.1", "sslmode=verify-ca" + theirs, wrongCA},
			{"127.0.0.1", "sslmode=require", ""},
			{"127.0.0.1", "sslmode=require" + theirs, wrongCA}, // as libpq has it
			{"localhost", full + own + shows(certified), ""},
			{"localhost", full + own + shows(stranger), rejected},
			{"localhost", full + own + "&user=certified", "connection requires a valid client certificate"},
			{"localhost", full + own + "&password=" + tlsPassword + "-wrong", "password authentication failed"},
		}},
		{"an expired certificate", ptr(ca.server("localhost", past)), []try{
			{"localhost", full + own, expired},
			{"localhost", "sslmode=verify-ca" + own, expired},
			{"localhost", "sslmode=require", ""},
		}},
		{"a certificate for an address", ptr(ca.server("127.0.0.1", soon)), []try{
			{"127.0.0.1", full + own, ""},
			{"localhost", full + own, wrongHost},
		}},
		{"no TLS", nil, []try{
			{"localhost", full + own, noTLS},
			{"localhost", "sslmode=require", noTLS},
			{"localhost", "sslmode=prefer", ""}, // this machine
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			port := tlsServer(t, server.files)
			for _, c := range server.tries {
				url := fmt.Sprintf("postgres://app:%s@/postgres?host=%s&port=%d&%s", tlsPassword, c.host, port, c.query)
				st, err := Open(t.Context(), Config{URL: url})
				if err == nil {
					st.Close()
				}
				_, migrateErr := Migrate(t.Context(), url)
				for what, err := range map[string]error{"Open": err, "Migrate": migrateErr} {
					switch {
					case c.want == "" && err != nil:
						t.Errorf("%s by %s, %s: %v", what, c.host, c.query, err)
					case c.want != "" && (err == nil || !saysOne(err, c.want)):
						t.Errorf("%s by %s, %s: error %v, want %q", what, c.host, c.query, err, c.want)
					case err != nil && strings.Contains(err.Error(), "hunter2"):
						t.Errorf("%s tells the password: %v", what, err)
					}
				}
			}
		})
	}
}

// saysOne reports whether the error says one of the wants, which | joins.
func saysOne(err error, wants string) bool {
	for want := range strings.SplitSeq(wants, "|") {
		if strings.Contains(err.Error(), want) {
			return true
		}
	}
	return false
}

func ptr[T any](v T) *T { return &v }
