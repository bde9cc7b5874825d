package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"portcullis/internal/testkit"
)

// Both halves are looked for, since a malformed URL may tear a password apart.
const (
	secretPassword = "hunter2/s3cret"
	secretEncoded  = "hunter2%2Fs3cret"
)

func tellsNothing(t *testing.T, what, text string) {
	t.Helper()
	for _, part := range []string{"hunter2", "s3cret"} {
		if strings.Contains(text, part) {
			t.Errorf("%s tells the password: %s", what, text)
		}
	}
}

// cmdline is what ps shows of the process.
func (s *server) cmdline() string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.cmd.Process.Pid))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(text)
}

// passwordServer is a Postgres with a user app, who needs the password, and a
// migrated database.
func passwordServer(t *testing.T) *testkit.PG {
	t.Helper()
	pg := testkit.PostgresServer(t)
	p := newPlace(t, "AUTH_DATABASE_URL="+pg.URL("postgres"))
	p.run("migrate")
	url, err := pg.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.set("AUTH_DATABASE_URL", url)
	p.run("migrate")
	if err := pg.Exec(t.Context(), "postgres", `CREATE ROLE app LOGIN SUPERUSER PASSWORD '`+secretPassword+`'`); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.ListenTCP(t.Context(), nil, "local all app scram-sha-256", "host all app all scram-sha-256"); err != nil {
		t.Fatal(err)
	}
	return pg
}

var commandsOnPostgres = [][]string{{"serve"}, {"sidecar"}, {"admin"}, {"migrate"}, {"tenant", "list"}, {"audit", "list"}}

// TestNoPasswordIsToldByTheProgram runs the program with what goes wrong with a
// database, in every command that opens one, at debug level.
func TestNoPasswordIsToldByTheProgram(t *testing.T) {
	pg := passwordServer(t)
	here := pg.SocketDir()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	for _, c := range []struct{ name, url, want string }{
		{"wrong password", "postgres://app:" + secretEncoded + "x@/postgres?host=" + here + "&port=" + pg.Port(), "password authentication failed"},
		{"nobody listens", "postgres://app:" + secretEncoded + "@" + nobody + "/postgres?sslmode=disable", "connection refused"},
		{"no such host", "postgres://app:" + secretEncoded + "@db.invalid/postgres?sslmode=verify-full&connect_timeout=2", "db.invalid"},
		{"plain text", "postgres://app:" + secretEncoded + "@db.invalid/postgres", "AUTH_DATABASE_INSECURE=true"},
		{"keywords", "host=" + here + " user=app password='" + secretPassword + "' dbname=postgres", "want a URL"},
		{"a password in the query", "postgres://app@" + nobody + "/postgres?sslmode=disable&password=" + secretEncoded, "connection refused"},
		{"not percent-encoded", "postgres://app:" + secretPassword + "@" + nobody + "/postgres", "cannot be read"},
		{"an @", "postgres://app:hunter2@s3cret@" + nobody + "/postgres?sslmode=disable", "cannot be read"},
		{"a bad port", "postgres://app:" + secretEncoded + "@127.0.0.1:s3cret/postgres", "cannot be read"},
		{"a bad escape", "postgres://app:%zz" + secretPassword + "@127.0.0.1/postgres", "cannot be read"},
		{"a bad sslmode", "postgres://app:" + secretEncoded + "@127.0.0.1/postgres?sslmode=" + secretEncoded, "sslmode is none of"},
		{"a line break", "postgres://app:hunter2\ns3cret@127.0.0.1/postgres", "want a URL"},
		{"SQLAlchemy", "postgresql+asyncpg://app:" + secretEncoded + "@127.0.0.1/postgres", "SQLAlchemy"},
	} {
		for _, args := range commandsOnPostgres {
			t.Run(c.name+"/"+strings.Join(args, " "), func(t *testing.T) {
				p := newPlace(t, "AUTH_LOG_LEVEL=debug")
				file := p.write("url", c.url)
				for _, given := range []struct {
					how string
					env string
					arg string
				}{
					{how: "the environment", env: c.url},
					{how: "a file", arg: "--database-url-file=" + file},
				} {
					if given.env != "" {
						p.set("AUTH_DATABASE_URL", given.env)
					} else {
						p.unset("AUTH_DATABASE_URL")
					}
					line := args
					if given.arg != "" {
						line = append(line[:len(line):len(line)], given.arg)
					}
					s := p.begin(line...)
					shown := s.cmdline()
					if s.ended() == nil {
						t.Errorf("by %s: it succeeded", given.how)
					}
					if !strings.Contains(s.stderr.String(), c.want) {
						t.Errorf("by %s: error %q, want %q", given.how, s.stderr, c.want)
					}
					tellsNothing(t, "standard error by "+given.how, s.stderr.String())
					tellsNothing(t, "standard output by "+given.how, s.stdout.String())
					tellsNothing(t, "ps by "+given.how, shown)
				}
			})
		}
	}
}

// TestNoPasswordIsToldWhileServing serves with a password, loses the database and
// gets it back.
func TestNoPasswordIsToldWhileServing(t *testing.T) {
	pg := passwordServer(t)
	p := newPlace(t, "AUTH_LOG_LEVEL=debug", "AUTH_MAX_STALENESS=1s")
	file := p.write("url", "postgres://app:"+secretEncoded+"@/postgres?host="+pg.SocketDir()+"&port="+pg.Port()+"\n")
	s := p.start("serve", "--database-url-file", file)
	if shown := s.cmdline(); !strings.Contains(shown, "--database-url-file") {
		t.Fatalf("ps shows %q", shown)
	}
	tellsNothing(t, "ps", s.cmdline())
	if err := pg.Crash(); err != nil {
		t.Fatal(err)
	}
	s.eventually("not ready", func() bool { status, _ := s.get("/readyz"); return status != 200 && status != 0 })
	_, ready := s.get("/readyz")
	_, metrics := s.get("/metrics")
	if err := pg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.eventually("ready again", func() bool { status, _ := s.get("/readyz"); return status == 200 })
	if !strings.Contains(s.stderr.String(), "level") {
		t.Error("nothing was logged")
	}
	tellsNothing(t, "the log", s.stderr.String())
	tellsNothing(t, "standard output", s.stdout.String())
	tellsNothing(t, "/readyz", ready)
	tellsNothing(t, "/metrics", metrics)
}

func TestAPasswordOnTheCommandLineIsRefused(t *testing.T) {
	for _, args := range commandsOnPostgres {
		for _, flag := range []string{"--database-url", "--postgresql-url"} {
			p := newPlace(t)
			code, stdout, stderr := p.try(append(args[:len(args):len(args)], flag, "postgres://app:"+secretEncoded+"@127.0.0.1:1/x")...)
			if code != int(exitUsage) || !strings.Contains(stderr, flag+"-file") {
				t.Errorf("%v: exit code %d, %s", args, code, stderr)
			}
			tellsNothing(t, strings.Join(args, " "), stdout+stderr)
		}
	}
}

// TestPlainTextToAnotherMachineStopsTheStart: every command that opens Postgres
// refuses, before it connects to anything.
func TestPlainTextToAnotherMachineStopsTheStart(t *testing.T) {
	const unroutable = "192.0.2.1" // of RFC 5737
	for _, args := range commandsOnPostgres {
		for setting, query := range map[string]string{"AUTH_DATABASE_URL": "?sslmode=disable", "AUTH_POSTGRESQL_URL": ""} {
			p := newPlace(t)
			p.set(setting, "postgres://app:"+secretEncoded+"@localhost,"+unroutable+"/x"+query)
			mode := "sslmode=disable"
			if query == "" {
				mode = "sslmode=prefer (the default where none is given)"
			}
			code, _, stderr := p.try(args...)
			if code != int(exitUsage) {
				t.Errorf("%v: exit code %d", args, code)
			}
			for _, want := range []string{setting + ": " + mode, unroutable, "set sslmode=verify-full and sslrootcert", "AUTH_DATABASE_INSECURE=true"} {
				if !strings.Contains(stderr, want) {
					t.Errorf("%v: %q does not say %q", args, stderr, want)
				}
			}
			tellsNothing(t, strings.Join(args, " "), stderr)
		}
	}
}

func TestInsecureDatabaseIsAllowedAndWarnedOf(t *testing.T) {
	pg := passwordServer(t)
	// No address of this machine but loopback is sure to be there, so the remote host
	// is one that is never reached: the first one answers.
	url := "postgres://app:" + secretEncoded + "@127.0.0.1:" + pg.Port() + ",192.0.2.1:5432/postgres?sslmode="
	p := newPlace(t, "AUTH_DATABASE_URL="+url+"disable", "AUTH_DATABASE_INSECURE=true", "AUTH_LOG_LEVEL=warn")
	const warning = "AUTH_DATABASE_URL: sslmode=disable lets connections to 192.0.2.1 go without TLS"
	for _, args := range [][]string{{"migrate"}, {"tenant", "list"}} {
		code, _, stderr := p.try(args...)
		if code != 0 || strings.Count(stderr, warning) != 1 {
			t.Errorf("%v: exit code %d, want one warning: %s", args, code, stderr)
		}
		tellsNothing(t, strings.Join(args, " "), stderr)
	}
	s := p.start("serve")
	if n := strings.Count(s.stderr.String(), warning); n != 1 {
		t.Errorf("%d warnings: %s", n, s.stderr)
	}
	tellsNothing(t, "serve", s.stderr.String())

	// require goes without the setting, and is warned of; the server here has no TLS.
	p = newPlace(t, "AUTH_DATABASE_URL="+strings.Replace(url, ",192.0.2.1:5432", ",db.invalid:5432", 1)+"require")
	code, _, stderr := p.try("tenant", "list")
	if code != int(exitUnavailable) || !strings.Contains(stderr, "warning: AUTH_DATABASE_URL: sslmode=require does not verify who db.invalid is") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	tellsNothing(t, "require", stderr)
}
