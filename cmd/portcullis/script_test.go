package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"portcullis/internal/testkit"
)

// TestMain lets the test binary be the program: the scripts, and the tests that
// need a process of their own, run `portcullis`.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"portcullis": main})
}

// noRaceSleep spares a second that the race detector sleeps at the end of each
// process.
const noRaceSleep = "atexit_sleep_ms=0"

// TestScripts runs the scripts that document the commands, on SQLite.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setUp,
		Cmds:                scriptCommands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// TestPostgresScripts runs the scripts that need a Postgres, each with an empty
// database of its own.
func TestPostgresScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/postgres/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			url := testkit.Postgres(t)
			testscript.Run(t, testscript.Params{
				Files: []string{script},
				Setup: func(env *testscript.Env) error {
					env.Setenv("AUTH_DATABASE_URL", url)
					return setUp(env)
				},
				Cmds:                postgresCommands(url),
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
			})
		})
	}
}

// setUp gives a script a home of its own and listeners that no other has. What a
// script is about it sets itself.
func setUp(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("GORACE", noRaceSleep)
	env.Setenv("AUTH_EXTAUTHZ_LISTEN", "unix://"+env.WorkDir+"/authz.sock")
	env.Setenv("AUTH_METRICS_LISTEN", "unix://"+env.WorkDir+"/metrics.sock")
	env.Setenv("AUTH_SERVER_PORT", "0")
	env.Setenv("AUTH_DRAIN_DELAY", "0s")
	env.Setenv("AUTH_JWT_SECRET_KEY", "a secret of thirty-two bytes, no less")
	return nil
}

// scriptCommands are what scripts know beside testscript's own commands.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":   scriptExits,
		"ready":   scriptReady,
		"get":     scriptGet,
		"becomes": scriptBecomes,
		"sql":     scriptSQL,
	}
}

// exits CODE program args...: the program ends with exactly that exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// ready [SOCKET]: the process behind the metrics socket is ready, or becomes so
// within thirty seconds.
func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	socket := "metrics.sock"
	if len(args) == 1 {
		socket = args[0]
	}
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		status, body, err := getUnix(ts.MkAbs(socket), "/readyz", "")
		if err == nil && (status == http.StatusOK) != neg {
			return
		}
		last = body
	}
	ts.Fatalf("never: ready is %v; last: %s", !neg, last)
}

// get [-json] PATH [SOCKET]: prints what the metrics socket answers.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	accept := ""
	if len(args) > 0 && args[0] == "-json" {
		accept, args = "application/json", args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("usage: get [-json] PATH [SOCKET]")
	}
	socket := "metrics.sock"
	if len(args) == 2 {
		socket = args[1]
	}
	status, body, err := getUnix(ts.MkAbs(socket), args[0], accept)
	ts.Check(err)
	if (status == http.StatusOK) == neg {
		ts.Fatalf("status %d: %s", status, body)
	}
	_, err = io.WriteString(ts.Stdout(), body)
	ts.Check(err)
}

// becomes CODE program args...: the program ends with that exit code sooner or
// later, within thirty seconds.
func scriptBecomes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: becomes CODE program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		got := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			got = exit.ExitCode()
		}
		if got == want {
			return
		}
	}
	ts.Fatalf("never: exit code %d", want)
}

// sql FILE STATEMENT: changes a SQLite file behind the program's back, or prints
// what the statement selects.
func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	out, err := testkit.SQLite(context.Background(), ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	for _, line := range out {
		_, err := io.WriteString(ts.Stdout(), line+"\n")
		ts.Check(err)
	}
}

// getUnix asks an HTTP server on a unix socket.
func getUnix(socket, path, accept string) (int, string, error) {
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}
	request, err := http.NewRequest(http.MethodGet, "http://portcullis"+path, nil)
	if err != nil {
		return 0, "", err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}
