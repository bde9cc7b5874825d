package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noPostgresEnvironment takes away what the driver would read beside the URL.
func noPostgresEnvironment(t *testing.T) (home string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
	home = t.TempDir()
	t.Setenv("HOME", home)
	return home
}

func TestPlainTextToAnotherMachineIsRefused(t *testing.T) {
	remote := []string{"db.example.com"}
	for _, c := range []struct {
		name, url string
		environ   map[string]string
		service   string
		mode      string // "" is no refusal
		hosts     []string
	}{
		{name: "no sslmode", url: "postgres://app@db.example.com/x", mode: "prefer", hosts: remote},
		{name: "disable", url: "postgres://app@db.example.com/x?sslmode=disable", mode: "disable", hosts: remote},
		{name: "allow", url: "postgres://app@db.example.com/x?sslmode=allow", mode: "allow", hosts: remote},
		{name: "prefer", url: "postgres://app@db.example.com/x?sslmode=prefer", mode: "prefer", hosts: remote},
		{name: "an address", url: "postgres://app@192.0.2.1/x", mode: "prefer", hosts: []string{"192.0.2.1"}},
		{name: "an IPv6 address", url: "postgres://app@[2001:db8::1]:5432/x", mode: "prefer", hosts: []string{"2001:db8::1"}},
		{name: "all addresses of this machine", url: "postgres://app@0.0.0.0/x", mode: "prefer", hosts: []string{"0.0.0.0"}},
		{name: "a name that looks local", url: "postgres://app@localhost.example.com/x", mode: "prefer", hosts: []string{"localhost.example.com"}},
		{name: "a short form of a loopback address", url: "postgres://app@127.1/x", mode: "prefer", hosts: []string{"127.1"}},
		{name: "keywords", url: "host=db.example.com user=app sslmode=disable", mode: "disable", hosts: remote},

		{name: "the second of two hosts", url: "postgres://app@127.0.0.1,db.example.com/x?sslmode=disable", mode: "disable", hosts: remote},
		{name: "the second of two hosts, in the query", url: "postgres:///x?host=127.0.0.1,db.example.com", mode: "prefer", hosts: remote},
		{name: "a comma that is percent-encoded", url: "postgres://localhost%2Cdb.example.com/x", mode: "prefer", hosts: remote},
		{name: "a host beside a socket", url: "postgres:///x?host=/run/postgresql,db.example.com", mode: "prefer", hosts: remote},
		{name: "several remote hosts", url: "postgres://a.example.com,localhost,b.example.com,a.example.com/x?sslmode=allow", mode: "allow", hosts: []string{"a.example.com", "b.example.com"}},
		{name: "the query's host wins", url: "postgres://localhost/x?host=db.example.com", mode: "prefer", hosts: remote},

		{name: "sslmode twice, the last counts", url: "postgres://db.example.com/x?sslmode=verify-full&sslmode=disable", mode: "disable", hosts: remote},
		{name: "sslmode twice, the last is good", url: "postgres://db.example.com/x?sslmode=disable&sslmode=verify-full"},
		{name: "an sslmode in upper case is another parameter", url: "postgres://db.example.com/x?SSLMODE=verify-full", mode: "prefer", hosts: remote},
		{name: "direct negotiation with allow", url: "postgres://db.example.com/x?sslnegotiation=direct&sslmode=allow", mode: "allow", hosts: remote},
		{name: "direct negotiation with disable", url: "postgres://db.example.com/x?sslnegotiation=direct&sslmode=disable", mode: "disable", hosts: remote},
		{name: "an authority that prefer does not use", url: "postgres://db.example.com/x?sslrootcert=CA", mode: "prefer", hosts: remote},

		{name: "the environment's host", url: "postgres:///x", environ: map[string]string{"PGHOST": "db.example.com"}, mode: "prefer", hosts: remote},
		{name: "the environment's mode", url: "postgres://db.example.com/x", environ: map[string]string{"PGSSLMODE": "disable"}, mode: "disable", hosts: remote},
		{name: "the URL's mode wins", url: "postgres://db.example.com/x?sslmode=allow", environ: map[string]string{"PGSSLMODE": "verify-full"}, mode: "allow", hosts: remote},
		{name: "the environment's good mode", url: "postgres://db.example.com/x", environ: map[string]string{"PGSSLMODE": "verify-full"}},
		{name: "a service's host", url: "postgres:///?service=prod", service: "[prod]\nhost=db.example.com\n", mode: "prefer", hosts: remote},
		{name: "a service's mode", url: "postgres://db.example.com/x?service=prod", service: "[prod]\nsslmode=disable\n", mode: "disable", hosts: remote},
		{name: "a service of the environment", url: "postgres:///x", environ: map[string]string{"PGSERVICE": "prod"}, service: "[prod]\nhost=db.example.com\nsslmode=disable\n", mode: "disable", hosts: remote},

		{name: "require", url: "postgres://db.example.com/x?sslmode=require"},
		{name: "verify-ca", url: "postgres://db.example.com/x?sslmode=verify-ca&sslrootcert=CA"},
		{name: "verify-full", url: "postgres://db.example.com/x?sslmode=verify-full&sslrootcert=CA"},
		{name: "the system's authorities mean verify-full", url: "postgres://db.example.com/x?sslmode=disable&sslrootcert=system"},
		{name: "direct negotiation means require", url: "postgres://db.example.com/x?sslnegotiation=direct"},
		{name: "ssl=true means require", url: "postgres://db.example.com/x?ssl=true"},
		{name: "a socket", url: "postgres:///x?host=/run/postgresql&sslmode=disable"},
		{name: "loopback", url: "postgres://127.0.0.1,127.9.9.9,[::1],LOCALHOST/x?sslmode=disable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := noPostgresEnvironment(t)
			for name, value := range c.environ {
				t.Setenv(name, value)
			}
			if c.service != "" {
				if err := os.WriteFile(filepath.Join(home, ".pg_service.conf"), []byte(c.service), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			url := strings.ReplaceAll(c.url, "=CA", "="+newAuthority(t).file)
			_, err := parseURL(url)
			if c.mode == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var refusal *PlaintextError
			if !errors.As(err, &refusal) || refusal.Mode != c.mode || !slices.Equal(refusal.Hosts, c.hosts) {
				t.Fatalf("got %v, want a refusal of sslmode=%s to %v", err, c.mode, c.hosts)
			}
			for _, want := range append(c.hosts, "sslmode="+c.mode, "sslmode=verify-full") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if _, err := parseURL(url, AllowPlaintext); err != nil {
				t.Errorf("allowed, and refused: %v", err)
			}
			if _, err := Open(t.Context(), Config{URL: url}); !errors.As(err, &refusal) {
				t.Errorf("Open: %v, want the refusal", err)
			}
			if _, err := Migrate(t.Context(), url); !errors.As(err, &refusal) {
				t.Errorf("Migrate: %v, want the refusal", err)
			}
		})
	}
}

func TestWeakTransportIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		name, url string
		wants     []string // of each warning; none is no warning
	}{
		{"require", "postgres://a.example.com,b.example.com/x?sslmode=require", []string{"sslmode=require does not verify who a.example.com, b.example.com is"}},
		{"direct negotiation", "postgres://db.example.com/x?sslnegotiation=direct", []string{"sslmode=require does not verify"}},
		{"require with an authority verifies", "postgres://db.example.com/x?sslmode=require&sslrootcert=CA", nil},
		{"verify-ca", "postgres://db.example.com/x?sslmode=verify-ca&sslrootcert=CA", nil},
		{"verify-ca of any authority", "postgres://db.example.com/x?sslmode=verify-ca", []string{"takes any certificate of a public authority"}},
		{"verify-full", "postgres://db.example.com/x?sslmode=verify-full", nil},
		{"plain text", "postgres://db.example.com/x", []string{"sslmode=prefer (the default where none is given) lets connections to db.example.com go without TLS"}},
		{"require on this machine", "postgres://localhost/x?sslmode=require", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			noPostgresEnvironment(t)
			transport, err := InspectTransport(strings.ReplaceAll(c.url, "=CA", "="+newAuthority(t).file))
			if err != nil {
				t.Fatal(err)
			}
			got := transport.Warnings()
			if len(got) != len(c.wants) {
				t.Fatalf("warnings %q, want %q", got, c.wants)
			}
			for i, want := range c.wants {
				if !strings.Contains(got[i], want) {
					t.Errorf("warning %q does not say %q", got[i], want)
				}
			}
		})
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	noPostgresEnvironment(t)
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, url, want string }{
		{"hostaddr", "postgres://localhost/x?hostaddr=192.0.2.1", "hostaddr is not supported"},
		{"hostaddr, in keywords", "host=localhost hostaddr=192.0.2.1", "hostaddr is not supported"},
		{"an unknown sslmode", "postgres://localhost/x?sslmode=Verify-Full", "sslmode is none of"},
		{"an authority's file that is missing", "postgres://localhost/x?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem", "/nonexistent/ca.pem: no such file"},
		{"an authority's file that holds none", "postgres://localhost/x?sslmode=verify-full&sslrootcert=" + noPEM, "unable to add CA"},
		{"a certificate without its key", "postgres://localhost/x?sslmode=verify-full&sslcert=" + noPEM, `both "sslcert" and "sslkey" are required`},
		// What the driver would take for a host, or for a database, and name.
		{"@ in the password", "postgres://app:s3@cret@localhost/x", "cannot be read"},
		{"@ and ? in the password", "postgres://app:x@s3cret?y@localhost/x", "cannot be read"},
		{"# in the password", "postgres://app:x@s3cret#y@localhost/x", "cannot be read"},
		{"/ and ? in the password", "postgres://app:1/s3cret?x=y@localhost/x", "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseURL(c.url)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one that says %q", err, c.want)
			}
			if strings.Contains(err.Error(), "cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}
