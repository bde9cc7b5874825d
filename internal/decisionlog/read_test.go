package decisionlog

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"portcullis/policy"
)

// What a Log writes is read back; what is none of its lines is counted.
func TestRead(t *testing.T) {
	l := newLog(t, Config{Mode: All})
	rec := allowed()
	rec.Path, rec.Roles = []byte("/posts/é?x"), []string{"editor", "viewer"}
	rec.ShadowRule, rec.ShadowReason = "try", policy.ReasonConditionFalse
	refused := denied()
	refused.DecisionID = []byte("d2")
	rec.Proof, rec.SPIFFE, refused.Actor = ProofMTLS, "spiffe://example.org/cart", "spiffe://example.org/till"
	text := `{"level":"INFO","msg":"listening"}` + "\n\nno JSON\n" + strings.Repeat("x", 3<<20) + "\n" + string(l.appendRecord(nil, rec)) + string(l.appendRecord(nil, refused))
	var lines []Line
	others, err := Read(strings.NewReader(text), func(line *Line) error { lines = append(lines, *line); return nil })
	if err != nil || others != 3 || len(lines) != 2 {
		t.Fatalf("%d lines, %d others, %v", len(lines), others, err)
	}
	got := lines[0]
	if got.Effect != "allow" || got.Path != "/posts/é" || len(got.Roles) != 2 || got.Principal.ID != rec.Principal.ID || got.Rule != rec.Rule ||
		got.PolicyDigest != rec.PolicyDigest || got.DecisionID != string(rec.DecisionID) || got.Time.UnixMicro() != rec.Time.UnixMicro() {
		t.Errorf("got %+v of %+v", got, rec)
	}
	if got.Proof.SPIFFE != rec.SPIFFE || got.Proof.Issuer != rec.Issuer || got.Actor != "" {
		t.Errorf("the certificate is %q, the actor %q", got.Proof.SPIFFE, got.Actor)
	}
	if lines[1].Effect != "deny" || lines[1].Actor != refused.Actor {
		t.Errorf("got %+v", lines[1])
	}
	stop := errors.New("enough")
	if _, err := Read(strings.NewReader(text), func(*Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestShadowIsWritten(t *testing.T) {
	l := newLog(t, Config{Mode: Sample, Rate: 0.5})
	rec := allowed()
	if line := string(l.appendRecord(nil, rec)); strings.Contains(line, "shadow") || !strings.Contains(line, "sample_rate") {
		t.Errorf("got %s", line)
	}
	rec.ShadowRule, rec.ShadowReason = "try", policy.ReasonConditionFalse
	line := string(l.appendRecord(nil, rec))
	if !strings.Contains(line, `,"shadow":{"effect":"deny","reason":"condition_false","rule":"try"}`) || strings.Contains(line, "sample_rate") {
		t.Errorf("got %s", line)
	}
}

// FuzzRead: every line that is not blank is a decision or is counted, whatever stands
// in it, and a decision has an id and an effect.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "\n\n", "{}", `{"decision_id":"d","effect":"allow"}`, "{\"decision_id\":\"d\",\"effect\":\"deny\",\"roles\":[\"a\"]}\nno JSON\n", `{"decision_id":1}`, "null", "{\"decision_id\":\"d\",\"effect\":\"deny\"}\r\n\x00", `{"decision_id":"d","effect":"deny","time":"x"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		decisions, lines := 0, 0
		for line := range strings.SplitSeq(text, "\n") {
			if len(bytes.TrimSpace([]byte(line))) > 0 {
				lines++
			}
		}
		others, err := Read(strings.NewReader(text), func(line *Line) error {
			decisions++
			if line.DecisionID == "" || line.Effect == "" {
				t.Errorf("%q gives %+v", text, line)
			}
			return nil
		})
		if err != nil || decisions+others != lines {
			t.Errorf("%q: %d decisions, %d others, of %d lines: %v", text, decisions, others, lines, err)
		}
	})
}
