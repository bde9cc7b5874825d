package decisionlog

import (
	"bytes"
	"context"
	"errors"
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
)

// counts holds the three counters against what they should be.
func counts(t *testing.T, l *Log, written, dropped, errs float64) {
	t.Helper()
	if w, d, e := testutil.ToFloat64(l.written), testutil.ToFloat64(l.dropped), testutil.ToFloat64(l.errors); w != written || d != dropped || e != errs {
		t.Errorf("written %v, dropped %v, errors %v; want %v, %v, %v", w, d, e, written, dropped, errs)
	}
}

// start runs the log until the returned function is called.
func start(t *testing.T, l *Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Run does not return")
		}
	}
}

// eventually waits for something that another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := newLog(t, Config{Mode: All, Queue: 1, Writer: io.Discard, Registerer: registry})
	l.Log(denied())
	l.Log(denied())
	written(t, l)
	want := `
# HELP portcullis_decision_log_dropped_total Decisions that were not logged because the queue was full.
# TYPE portcullis_decision_log_dropped_total counter
portcullis_decision_log_dropped_total 1
# HELP portcullis_decision_log_errors_total Decisions that were lost because the decision log could not be written.
# TYPE portcullis_decision_log_errors_total counter
portcullis_decision_log_errors_total 0
# HELP portcullis_decision_log_written_total Decisions that were written to the decision log.
# TYPE portcullis_decision_log_written_total counter
portcullis_decision_log_written_total 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// A line is written as soon as no other waits, without a shutdown to push it.
func TestLinesAreFlushedWhenIdle(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: All, Writer: &out})
	defer start(t, l)()
	for n := 1; n <= 3; n++ {
		l.Log(denied())
		eventually(t, "the line is written", func() bool { return strings.Count(out.String(), "\n") == n })
	}
}

// stuck is a writer that does not return, as a pipe is that nobody reads.
type stuck struct {
	entered chan struct{}
	release chan struct{}
	once    sync.Once
}

func newStuck() *stuck { return &stuck{entered: make(chan struct{}), release: make(chan struct{})} }

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.release
	return len(p), nil
}

func TestAStuckWriterBlocksNeitherLogNorTheShutdown(t *testing.T) {
	w := newStuck()
	l := newLog(t, Config{Mode: All, Queue: 10, Writer: w, DrainTimeout: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.Log(denied())
	<-w.entered // one line is with the writer
	began := time.Now()
	for range 1000 {
		l.Log(denied())
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1,000 calls took %v", took)
	}
	counts(t, l, 0, 990, 0)
	cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "10 queued") {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not return")
	}
	close(w.release) // and the goroutine that was left behind ends
	eventually(t, "the rest is written", func() bool { return testutil.ToFloat64(l.written) == 11 })
}

func TestShutdownDrainsTheQueue(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: All, Queue: 1000, Writer: &out})
	for range 1000 {
		l.Log(allowed())
	}
	written(t, l)
	if got := strings.Count(out.String(), "\n"); got != 1000 {
		t.Errorf("%d lines of 1000", got)
	}
	counts(t, l, 1000, 0, 0)
}

// flaky takes only the first bytes of each write that it is told to fail.
type flaky struct {
	sink
	take []int // for each write: how many bytes, -1 for all
}

var errFull = errors.New("no space left on device")

func (f *flaky) Write(p []byte) (int, error) {
	n := -1
	if len(f.take) > 0 {
		n, f.take = f.take[0], f.take[1:]
	}
	if n < 0 || n > len(p) {
		return f.sink.Write(p)
	}
	f.sink.Write(p[:n])
	return n, errFull
}

func TestWriteErrors(t *testing.T) {
	size := len(newLog(t, Config{Mode: All}).appendRecord(nil, denied()))
	line := string(newLog(t, Config{Mode: All}).appendRecord(nil, denied()))
	for name, try := range map[string]struct {
		take          []int
		out           string
		written, lost float64
	}{
		"nothing was written":          {[]int{0}, line, 1, 1},
		"a part of a line was written": {[]int{5}, line[:5] + "\n" + line, 1, 1},
		"all but the line end":         {[]int{size - 1}, line[:size-1] + "\n" + line, 1, 1},
		"all was written after all":    {[]int{size}, line + line, 2, 0},
		"twice in the middle":          {[]int{5, 3}, line[:5] + "\n" + line[:2], 0, 2},
		"and then nothing":             {[]int{5, 0}, line[:5], 0, 2},
	} {
		var complaints sink
		f := &flaky{take: try.take}
		l := newLog(t, Config{Mode: All, Writer: f, Logger: slog.New(slog.NewTextHandler(&complaints, nil))})
		for range 2 {
			l.Log(denied())
			written(t, l)
		}
		if got := f.String(); got != try.out {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, try.out)
		}
		counts(t, l, try.written, 0, try.lost)
		if got := strings.Count(complaints.String(), errFull.Error()); got != 1 {
			t.Errorf("%s: %d complaints: %s", name, got, complaints.String())
		}
	}
}

func TestABatchThatFailsHalfWay(t *testing.T) {
	line := newLog(t, Config{Mode: All}).appendRecord(nil, denied())
	f := &flaky{take: []int{2*len(line) + 3}}
	l := newLog(t, Config{Mode: All, Writer: f, Logger: slog.New(slog.DiscardHandler)})
	for range 5 {
		l.Log(denied())
	}
	written(t, l)
	counts(t, l, 2, 0, 3)
	l.Log(denied())
	written(t, l)
	if want := string(line) + string(line) + string(line[:3]) + "\n" + string(line); f.String() != want {
		t.Errorf("got %q", f.String())
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(content, []byte{'\n'})
}

func TestFileIsPrivateAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions")
	for n := 1; n <= 2; n++ {
		l := newLog(t, Config{Mode: All, Path: path})
		l.Log(denied())
		written(t, l)
		if got := lines(t, path); got != n {
			t.Errorf("%d lines after %d runs", got, n)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Log rotation by renaming needs no signal. Nothing is lost on the way, not even
// while the new file cannot be made.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path, former := filepath.Join(dir, "decisions"), filepath.Join(dir, "decisions.1")
	var complaints sink
	l := newLog(t, Config{Mode: All, Path: path, Logger: slog.New(slog.NewTextHandler(&complaints, nil))})
	stop := start(t, l)
	l.Log(denied())
	eventually(t, "the first line", func() bool { return lines(t, path) == 1 })

	if err := os.Rename(path, former); err != nil {
		t.Fatal(err)
	}
	l.Log(denied()) // to the one file or the other
	eventually(t, "the new file", func() bool { _, err := os.Stat(path); return err == nil })
	l.Log(denied())
	eventually(t, "a line in the new file", func() bool { return lines(t, path) > 0 })

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	eventually(t, "a complaint", func() bool { return strings.Contains(complaints.String(), "reopen") })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third file", func() bool { _, err := os.Stat(path); return err == nil })
	l.Log(denied())
	eventually(t, "a line in the third file", func() bool { return lines(t, path) == 1 })
	stop()
	counts(t, l, 4, 0, 0)
	if got := lines(t, former); got < 1 || got > 2 {
		t.Errorf("%d lines in the rotated file", got)
	}
}

func TestManyGoroutinesLogWholeLines(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: All, Queue: 64, Writer: &out})
	stop := start(t, l)
	var wg sync.WaitGroup
	const goroutines, each = 16, 500
	for range goroutines {
		wg.Go(func() {
			for range each {
				l.Log(allowed())
			}
		})
	}
	wg.Wait()
	stop()
	got := strings.SplitAfter(out.String(), "\n")
	want := string(l.appendRecord(nil, allowed()))
	for _, line := range got[:len(got)-1] {
		if line != want {
			t.Fatalf("a damaged line: %q", line)
		}
	}
	if n := float64(len(got) - 1); n+testutil.ToFloat64(l.dropped) != goroutines*each || n != testutil.ToFloat64(l.written) || n == 0 {
		t.Errorf("%v lines, %v dropped, of %d", n, testutil.ToFloat64(l.dropped), goroutines*each)
	}
}

// Neither a line that is queued nor one that is dropped allocates.
func TestLogAllocatesNothingWhenWarm(t *testing.T) {
	l := newLog(t, Config{Mode: All, Queue: 8, Writer: io.Discard})
	rec := allowed()
	queue := func() {
		for range 8 {
			l.Log(rec)
		}
		for len(l.queue) > 0 {
			l.gather(<-l.queue) // and what waits behind it
		}
	}
	queue()
	if n := testing.AllocsPerRun(200, queue); n > 0 && !raceEnabled {
		t.Errorf("%v allocations for queued lines", n)
	}
	for range 8 {
		l.Log(rec)
	}
	if n := testing.AllocsPerRun(200, func() { l.Log(rec); l.Wants(rec.Effect) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations for a dropped line", n)
	}
}

func BenchmarkLog(b *testing.B) {
	l := newLog(b, Config{Mode: All, Writer: io.Discard})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go l.Run(ctx)
	rec := allowed()
	b.ReportAllocs()
	b.SetBytes(int64(len(l.appendRecord(nil, rec))))
	for b.Loop() {
		l.Log(rec)
	}
	b.ReportMetric(testutil.ToFloat64(l.dropped)/float64(b.N), "dropped/op")
}
