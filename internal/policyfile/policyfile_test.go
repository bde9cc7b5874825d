package policyfile_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/internal/policyfile"
	"portcullis/policy"
)

const header = "version: 1\nrules:\n"

func rule(name string) string {
	return fmt.Sprintf("  - {name: %s, path: /%s, allow: anonymous}\n", name, name)
}

// follower is a File that is being followed, and what became of it.
type follower struct {
	*policyfile.File
	t    *testing.T
	reg  *prometheus.Registry
	log  *syncBuffer
	path string
}

// follow opens and runs a File. A poll of an hour leaves file events alone to
// find changes; a settle of an hour would never take one.
func follow(t *testing.T, path string, poll time.Duration) *follower {
	t.Helper()
	f := &follower{t: t, reg: prometheus.NewRegistry(), log: &syncBuffer{}, path: path}
	var err error
	f.File, err = policyfile.Open(policyfile.Config{
		Path:       path,
		Apply:      func(*policy.Policy) {},
		Poll:       poll,
		Settle:     20 * time.Millisecond,
		Logger:     slog.New(slog.NewTextHandler(f.log, nil)),
		Registerer: f.reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

func (f *follower) eventually(what string, holds func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	f.t.Fatalf("never: %s\nlog:\n%s", what, f.log)
}

func (f *follower) serves(names ...string) func() bool {
	return func() bool {
		p := f.Policy()
		if p.Len() != len(names) {
			return false
		}
		for _, name := range names {
			if p.Rule(name) == nil {
				return false
			}
		}
		return true
	}
}

func (f *follower) wantMetrics(rules, ok, failed, lastOK int) {
	f.t.Helper()
	want := fmt.Sprintf(`
# HELP portcullis_policy_last_reload_ok 1 if the policy in force is what the file holds, 0 if the file could not be read or compiled.
# TYPE portcullis_policy_last_reload_ok gauge
portcullis_policy_last_reload_ok %d
# HELP portcullis_policy_reloads_total Changed versions of the policy file that were read, by result: ok, or failed (the last good one stays in force).
# TYPE portcullis_policy_reloads_total counter
portcullis_policy_reloads_total{result="failed"} %d
portcullis_policy_reloads_total{result="ok"} %d
# HELP portcullis_policy_rules Rules of the policy in force.
# TYPE portcullis_policy_rules gauge
portcullis_policy_rules %d
`, lastOK, failed, ok, rules)
	f.eventually(fmt.Sprintf("rules %d, ok %d, failed %d, last ok %d", rules, ok, failed, lastOK), func() bool {
		return testutil.GatherAndCompare(f.reg, strings.NewReader(want)) == nil
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWrittenFileIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, header+rule("a"))
	f := follow(t, path, time.Hour)
	f.wantMetrics(1, 0, 0, 1)

	write(t, path, header+rule("a")+rule("b"))
	f.eventually("a and b", f.serves("a", "b"))
	f.wantMetrics(2, 1, 0, 1)
}

func TestARenamedFileIsTaken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	write(t, path, header+rule("a"))
	f := follow(t, path, time.Hour)
	for i := range 3 { // a watch on the file itself would see the first and lose the rest
		name := fmt.Sprintf("n%d", i)
		write(t, filepath.Join(dir, ".policy.yaml.swp"), header+rule(name))
		must(t, os.Rename(filepath.Join(dir, ".policy.yaml.swp"), path))
		f.eventually(name, f.serves(name))
	}
}

// TestConfigMapSwap does what the kubelet does: policy.yaml is a link into
// ..data, which is a link that is swapped by a rename.
func TestConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "policy.yaml"), text)
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", header+rule("a"))
	path := filepath.Join(dir, "policy.yaml")
	must(t, os.Symlink(filepath.Join("..data", "policy.yaml"), path))
	f := follow(t, path, time.Hour)

	version("..2", header+rule("b"))
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	f.eventually("b", f.serves("b"))
	version("..3", header+rule("c"))
	f.eventually("c", f.serves("c"))
}

// TestThePollFindsWhatNoEventTells: the link stays, and the file that it points
// to changes in a directory that nobody watches.
func TestThePollFindsWhatNoEventTells(t *testing.T) {
	elsewhere, dir := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, "p.yaml")
	write(t, target, header+rule("a"))
	path := filepath.Join(dir, "policy.yaml")
	must(t, os.Symlink(target, path))
	f := follow(t, path, 30*time.Millisecond)

	write(t, target, header+rule("b"))
	f.eventually("b", f.serves("b"))
}

func TestABadReloadKeepsTheLastGoodOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, header+rule("a"))
	f := follow(t, path, 20*time.Millisecond)

	write(t, path, header+"  - {name: b, path: nowhere, allow: anonymous}\n")
	f.wantMetrics(1, 0, 1, 0)
	if !f.serves("a")() {
		t.Fatal("the bad version took the place of the good one")
	}
	time.Sleep(200 * time.Millisecond) // ten polls of the same bad file: judged and logged once
	f.wantMetrics(1, 0, 1, 0)
	if n := strings.Count(f.log.String(), "policy reload failed"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, f.log)
	}
	if !strings.Contains(f.log.String(), "line 3") {
		t.Errorf("the log does not name the line:\n%s", f.log)
	}

	write(t, path, header+rule("a")) // the good one again
	f.wantMetrics(1, 1, 1, 1)
}

func TestAVanishedFileKeepsTheLastGoodOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, header+rule("a"))
	f := follow(t, path, time.Hour)

	must(t, os.Remove(path))
	f.wantMetrics(1, 0, 1, 0)
	if !f.serves("a")() {
		t.Fatal("a vanished file emptied the policy")
	}
	write(t, path, header+rule("b"))
	f.eventually("b", f.serves("b"))
}

// TestAHalfWrittenFileIsNotTaken writes a file whose first half is a valid
// policy that lacks the narrow rule, in steps shorter than the settling time.
func TestAHalfWrittenFileIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, header+rule("a"))
	reg := prometheus.NewRegistry()
	var mu sync.Mutex
	var applied []int
	file, err := policyfile.Open(policyfile.Config{
		Path: path, Poll: time.Hour, Settle: 300 * time.Millisecond,
		Apply:  func(p *policy.Policy) { mu.Lock(); defer mu.Unlock(); applied = append(applied, p.Len()) },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: reg,
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- file.Run(ctx) }()
	defer func() { cancel(); <-done }()

	w, err := os.Create(path)
	must(t, err)
	for i := range 5 {
		text := rule(fmt.Sprintf("r%d", i))
		if i == 0 {
			text = header + text
		}
		_, err := io.WriteString(w, text)
		must(t, err)
		time.Sleep(30 * time.Millisecond)
	}
	must(t, w.Close())
	for deadline := time.Now().Add(10 * time.Second); file.Policy().Len() != 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the whole file was never taken")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(applied) != "[1 5]" {
		t.Errorf("applied versions of %v rules, want [1 5]", applied)
	}
}

func TestOpenRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, header+"  - {name: b, path: nowhere, allow: anonymous}\n")
	for _, path := range []string{bad, filepath.Join(t.TempDir(), "absent.yaml"), ""} {
		reg := prometheus.NewRegistry()
		f, err := policyfile.Open(policyfile.Config{
			Path: path, Apply: func(*policy.Policy) { t.Error("applied") },
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: reg,
		})
		if err == nil || f != nil {
			t.Errorf("Open(%q) = %v, %v; want an error", path, f, err)
		}
		if err != nil && path != "" && !strings.Contains(err.Error(), path) {
			t.Errorf("error %q does not name the file", err)
		}
	}
}

// syncBuffer is a bytes.Buffer that two goroutines may use.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
