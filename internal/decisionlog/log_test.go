package decisionlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// sink is a writer that tests can read while Run writes.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func allowed() *Record {
	return &Record{
		Time:         time.Date(2026, 3, 1, 12, 0, 0, 1500, time.UTC),
		DecisionID:   []byte("0123456789abcdef"),
		Principal:    policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"},
		Proof:        ProofJWT,
		Issuer:       "gate",
		KeyID:        "k1",
		TokenID:      "j1",
		Roles:        []string{"editor", "viewer"},
		Rule:         "read-post",
		Effect:       policy.Allow,
		Reason:       policy.ReasonOK,
		Revision:     17,
		PolicyDigest: "c0ffee",
		Method:       []byte("GET"),
		Host:         []byte("blog.example.com"),
		Path:         []byte("/posts/1?secret=x"),
		Duration:     42500 * time.Nanosecond,
		GRPC:         true,
	}
}

func denied() *Record {
	return &Record{Time: time.Unix(0, 0), Reason: policy.ReasonNoRule, Path: []byte("/x")}
}

func newLog(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// written runs the log until it has drained.
func written(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestOneLine(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: All, Writer: &out})
	l.Log(allowed())
	written(t, l)
	want := `{"time":"2026-03-01T12:00:00.000001Z","decision_id":"0123456789abcdef","effect":"allow","reason":"ok","rule":"read-post",` +
		`"principal":{"kind":"user","tenant":"default","id":"alice"},"proof":{"by":"jwt","issuer":"gate","kid":"k1","jti":"j1"},` +
		`"roles":["editor","viewer"],"revision":17,"policy_digest":"c0ffee","method":"GET","host":"blog.example.com","path":"/posts/1",` +
		`"duration_us":42,"grpc":true}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if !json.Valid([]byte(out.String())) {
		t.Error("not JSON")
	}
}

func TestOneLineOfADenial(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: Denied, Writer: &out})
	l.Log(denied())
	written(t, l)
	want := `{"time":"1970-01-01T00:00:00.000000Z","effect":"deny","reason":"no_rule","proof":{"by":"none"},"revision":0,"path":"/x","duration_us":0,"grpc":false}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestWhichDecisionsAreWanted(t *testing.T) {
	for _, try := range []struct {
		mode               Mode
		rate               float64
		allow, deny, fault bool
	}{
		{mode: Off},
		{mode: Denied, deny: true, fault: true},
		{mode: All, allow: true, deny: true, fault: true},
		{mode: Sample, rate: 0, deny: true, fault: true},
		{mode: Sample, rate: 1, allow: true, deny: true, fault: true},
		{mode: 99},
	} {
		l := newLog(t, Config{Mode: try.mode, Rate: try.rate})
		for range 100 {
			if l.Wants(policy.Allow) != try.allow || l.Wants(policy.Deny) != try.deny || l.Wants(policy.Fault) != try.fault {
				t.Fatalf("%v %v: wants allow, deny, fault: %v, %v, %v", try.mode, try.rate, l.Wants(policy.Allow), l.Wants(policy.Deny), l.Wants(policy.Fault))
			}
		}
	}
	l := newLog(t, Config{Mode: Sample, Rate: 0.1})
	const draws = 100_000
	n := 0
	for range draws {
		if l.Wants(policy.Allow) {
			n++
		}
	}
	// Ten standard deviations of 95 on either side.
	if n < draws/10-950 || n > draws/10+950 {
		t.Errorf("a rate of 0.1 wanted %d of %d", n, draws)
	}
	var none *Log
	if none.Wants(policy.Deny) {
		t.Error("a nil Log wants something")
	}
	none.Log(denied())
}

func TestModeOffWritesNothingAndOpensNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions")
	l := newLog(t, Config{Mode: Off, Path: path})
	l.Log(denied())
	written(t, l)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
}

func TestParseMode(t *testing.T) {
	for text, want := range map[string]struct {
		mode Mode
		rate float64
	}{"off": {Off, 0}, "denied": {Denied, 0}, "all": {All, 0}, "0": {Sample, 0}, "1": {Sample, 1}, "0.25": {Sample, 0.25}} {
		mode, rate, err := ParseMode(text)
		if mode != want.mode || rate != want.rate || err != nil {
			t.Errorf("%q: got %v, %v, %v", text, mode, rate, err)
		}
	}
	for _, text := range []string{"", "on", "sample", "-0.1", "1.01", "NaN", "Inf", "10%", " off"} {
		if _, _, err := ParseMode(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// sampled allows say at which rate they were drawn, so that they can be counted.
func TestASampleSaysItsRate(t *testing.T) {
	var out sink
	l := newLog(t, Config{Mode: Sample, Rate: 0.25, Writer: &out})
	l.Log(allowed())
	l.Log(denied())
	written(t, l)
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], `"sample_rate":0.25`) || strings.Contains(lines[1], "sample_rate") {
		t.Errorf("got %s", out.String())
	}
}

func TestBadConfig(t *testing.T) {
	taken := prometheus.NewRegistry()
	newLog(t, Config{Registerer: taken})
	for name, cfg := range map[string]Config{
		"rate above 1":       {Mode: Sample, Rate: 1.1},
		"rate below 0":       {Mode: Sample, Rate: -0.1},
		"no rate":            {Mode: Sample, Rate: math.NaN()},
		"queue below 0":      {Mode: All, Queue: -1},
		"a directory":        {Mode: All, Path: t.TempDir()},
		"no such directory":  {Mode: All, Path: filepath.Join(t.TempDir(), "a", "b")},
		"metrics registered": {Mode: All, Registerer: taken},
	} {
		if l, err := New(cfg); err == nil || l != nil {
			t.Errorf("%s was taken", name)
		}
	}
}
