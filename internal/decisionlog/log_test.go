package decisionlog

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

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
