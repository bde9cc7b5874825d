// Package readme holds the README to what it says: every command in it is run.
package readme

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// notRunHere are the commands that a test cannot run: it is what they run. That
// the Makefile has them is checked.
var notRunHere = map[string]bool{"make test": true, "make check": true}

// TestCommands runs the README's commands in its own order: make's targets in the
// repository, the others in a folder of their own, on ports of their own.
func TestCommands(t *testing.T) {
	testkit.RequireEnvoy(t) // the demo
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n")
	ran := 0
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		switch m[1] {
		case "yaml":
			if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(m[2]), 0o600); err != nil {
				t.Fatal(err)
			}
		case "console":
			for line := range strings.Lines(m[2]) {
				command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if !ok {
					t.Fatalf("a console block holds %q, which is no command", line)
				}
				ran++
				if strings.HasPrefix(command, "make ") {
					runMake(t, root, command)
					continue
				}
				script.WriteString("echo '+' " + quote(command) + "\n" + command + "\n")
				if strings.HasSuffix(command, "serve &") {
					script.WriteString("until bin/portcullis check --path /healthz >/dev/null 2>&1; do sleep 0.05; done\n")
				}
			}
		}
	}
	if ran < 15 {
		t.Fatalf("found only %d commands", ran)
	}
	if err := os.Symlink(filepath.Join(root, "bin"), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	out := runScript(t, dir, movePorts(t, script.String()))
	for _, want := range []string{"ALLOW", "denied", `"result":true`, `"has_permission":true`} {
		if !strings.Contains(strings.ReplaceAll(out, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("the commands did not print %q; they printed:\n%s", want, out)
		}
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// runMake runs a target, or where it would run this test, sees that it is there.
func runMake(t *testing.T, root, command string) {
	t.Helper()
	args := strings.Fields(command)[1:]
	if notRunHere[command] {
		args = append([]string{"-n"}, args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "BENCHFLAGS=-rounds 1 -time 300ms -warm 100ms", "KEEP=", "MAKEFLAGS=", "MAKELEVEL=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// movePorts gives the script free ports instead of the default ones, which
// somebody on this machine may use.
func movePorts(t *testing.T, script string) string {
	t.Helper()
	admin := freePort(t)
	env := "export AUTH_EXTAUTHZ_LISTEN=127.0.0.1:" + freePort(t) + " AUTH_SERVER_PORT=" + admin +
		" AUTH_METRICS_LISTEN=127.0.0.1:" + freePort(t) + " AUTH_DRAIN_DELAY=0s\n"
	return env + strings.ReplaceAll(script, "http://127.0.0.1:5000/", "http://127.0.0.1:"+admin+"/")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func runScript(t *testing.T, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = testkit.PortcullisEnv("HOME=" + dir)
	// The whole group ends with the script, the server in the background too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
