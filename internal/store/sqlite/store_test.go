package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/internal/store"
	"portcullis/policy"
)

func TestConfigIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for want, cfg := range map[string]Config{
		"path: holds a zero byte":  {Path: "a\x00b"},
		"readers: 1":               {Path: path, Readers: 1},
		"readers: 65":              {Path: path, Readers: 65},
		"poll interval: 1µs":       {Path: path, PollInterval: time.Microsecond},
		"poll interval: 11s":       {Path: path, PollInterval: 11 * time.Second},
		"lock timeout: 1µs":        {Path: path, LockTimeout: time.Microsecond},
		"lock timeout: 11m0s":      {Path: path, LockTimeout: 11 * time.Minute},
		"poll interval: -1s":       {Path: path, PollInterval: -time.Second},
		"lock timeout: -1s":        {Path: path, LockTimeout: -time.Second},
		"readers: -4 is outside 2": {Path: path, Readers: -4},
	} {
		if s, err := Open(context.Background(), cfg); err == nil {
			s.Close()
			t.Errorf("%q: accepted", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if _, err := os.Stat(path); !missing(err) {
		t.Errorf("a refused configuration left a file: %v", err)
	}
}

// TestConnectionSettings: what the safety of the data hangs on is on, on every
// connection.
func TestConnectionSettings(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	common := map[string]string{"journal_mode": "wal", "foreign_keys": "1", "trusted_schema": "0", "temp_store": "2"}
	of := func(more map[string]string) map[string]string {
		for name, value := range common {
			more[name] = value
		}
		return more
	}
	for _, p := range []struct {
		pool *pool
		want map[string]string
	}{
		{s.writer, of(map[string]string{"synchronous": "2", "secure_delete": "1", "query_only": "0"})},
		{s.reader, of(map[string]string{"query_only": "1"})},
		{s.watch.pool, of(map[string]string{"query_only": "1"})},
	} {
		c, err := p.pool.take(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scanRevision(context.Background(), c, sqlRevision); err != nil { // it knows of the WAL once it has read
			t.Fatal(err)
		}
		for name, want := range p.want {
			var got string
			if err := c.scan(context.Background(), "PRAGMA "+name, nil, &got); err != nil || got != want {
				t.Errorf("%s is %q, error %v; want %q", name, got, err, want)
			}
		}
		p.pool.give(c)
	}
}

// TestReportsDoNotWake: every sidecar's heartbeat is a commit, and no revision.
func TestReportsDoNotWake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, other := openTest(t, path), openTest(t, path)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := s.Wait(ctx); err != nil { // what was before it
		t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			err := other.Report(ctx, []store.Report{{Sidecar: "a", Kind: store.ReportHeartbeat, At: time.Now()}})
			if err != nil && ctx.Err() == nil {
				t.Errorf("report: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if err := s.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a report woke: %v", err)
	}
}

// TestWakeLatency prints how soon a commit of another process is heard of. It
// fails only far beyond the 25 ms between two looks.
func TestWakeLatency(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, other := openTest(t, path), openTest(t, path)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for i := range 40 {
		woke := make(chan time.Time, 1)
		go func() {
			if err := s.Wait(ctx); err != nil {
				t.Errorf("wait: %v", err)
			}
			woke <- time.Now()
		}()
		time.Sleep(time.Duration(i) * time.Millisecond)
		putRole(t, other, fmt.Sprint("role", i))
		committed := time.Now()
		took = append(took, (<-woke).Sub(committed))
	}
	slices.Sort(took)
	t.Logf("median %v, worst %v", took[len(took)/2], took[len(took)-1])
	if worst := took[len(took)-1]; worst > 2*time.Second {
		t.Errorf("the slowest wake-up took %v", worst)
	}
}

func TestCloseLeavesNothingOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path)
	putRole(t, s, "editor")
	if _, err := s.Roles(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && strings.HasPrefix(target, path) {
			t.Errorf("%s is still open", target)
		}
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
		t.Errorf("files %v, error %v; want the WAL folded into the database", files, err)
	}
}

func TestCollector(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	putRole(t, s, "editor")
	if n := testutil.CollectAndCount(s.Collector()); n != 17 {
		t.Errorf("%d metrics, want 17", n)
	}
	if problems, err := testutil.CollectAndLint(s.Collector()); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func benchStore(b *testing.B) *Store {
	s, err := Open(context.Background(), Config{Path: filepath.Join(b.TempDir(), "store.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkWrite(b *testing.B) {
	s := benchStore(b)
	for i := range b.N {
		if _, err := s.PutRole(b.Context(), store.Actor{Name: "cli"}, 1, fmt.Sprint("role", i), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGrant(b *testing.B) {
	s := benchStore(b)
	for i := range 5 {
		role := fmt.Sprint("role", i)
		if _, err := s.PutRole(b.Context(), store.Actor{Name: "cli"}, 1, role, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := s.AddMember(b.Context(), store.Actor{Name: "cli"}, 1, policy.KindUser, "alice", role, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Grant(b.Context(), 1, policy.KindUser, "alice"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
