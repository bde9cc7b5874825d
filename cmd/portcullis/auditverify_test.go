package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
)

// edit changes the database past the program.
func (p *place) edit(statements ...string) {
	p.t.Helper()
	for _, s := range statements {
		if _, err := testkit.SQLite(p.t.Context(), filepath.Join(p.dir, ".auth.sqlite3"), s); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestACutTailShowsByTheLogsCheckpoints: an admin process begins the chain, logs where
// it ends, and is stopped. Then a row is edited, the tail is cut off, and the head set
// back. The log of the process tells, and nothing else can of the tail.
func TestACutTailShowsByTheLogsCheckpoints(t *testing.T) {
	p := newPlace(t, "AUTH_AUDIT_KEY="+sealing.NewMaster(), "AUTH_DECISION_LOG=off")
	p.run("role", "add", "before")
	s := p.start("admin")
	for _, name := range []string{"one", "two", "three"} {
		p.run("role", "add", name)
	}
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Fatal(err)
	}
	log := p.write("admin.log", s.stderr.String())
	if n := strings.Count(s.stderr.String(), `"msg":"audit checkpoint"`); n < 2 {
		t.Fatalf("%d checkpoints were logged, want those of the beginning and of the end:\n%s", n, s.stderr.String())
	}
	p.run("audit", "verify", "--checkpoint", log)

	p.edit(`DELETE FROM audit WHERE tenant_id = 1 AND chain_number > 2`,
		`UPDATE audit_chains SET number = 2, (link, row_id) = (SELECT chain_link, id FROM audit WHERE tenant_id = 1 AND chain_number = 2) WHERE tenant_id = 1`)
	p.run("audit", "verify") // the database alone is of a piece
	code, out, _ := p.try("audit", "verify", "--checkpoint", log)
	if code != int(exitNo) || !strings.Contains(out, "tenant default: cut_off: a checkpoint was made of number 3, and the chain ends at number 2\n") {
		t.Errorf("a cut tail: exit code %d\n%s", code, out)
	}
	p.edit(`UPDATE audit SET outcome = 'denied' WHERE tenant_id = 1 AND chain_number = 1`)
	code, out, _ = p.try("audit", "verify")
	if code != int(exitNo) || !strings.Contains(out, ": edited: what it says is not what was written\n") || !strings.Contains(out, "tenant default, row ") {
		t.Errorf("an edited row: exit code %d\n%s", code, out)
	}
}

// TestTurningTheAuditOffIsItselfAudited, and so is turning it on again.
func TestTurningTheAuditOffIsItselfAudited(t *testing.T) {
	p := newPlace(t, "AUTH_AUDIT_KEY="+sealing.NewMaster(), "AUTH_DECISION_LOG=off")
	serve := func() {
		t.Helper()
		s := p.start("admin")
		s.signal(syscall.SIGTERM)
		if err := s.ended(); err != nil {
			t.Fatal(err)
		}
	}
	serve()
	p.set("AUTH_ENABLE_AUDIT_LOGGING", "false")
	serve()
	p.run("role", "add", "unseen")
	if code, _, stderr := p.try("audit", "verify"); code != 0 || !strings.Contains(stderr, "warning: the audit is off") {
		t.Errorf("while it is off: exit code %d, %s", code, stderr)
	}
	p.set("AUTH_ENABLE_AUDIT_LOGGING", "true")
	serve()
	p.run("role", "add", "seen")
	p.run("audit", "verify")
	file := filepath.Join(p.dir, ".auth.sqlite3")
	for query, want := range map[string]string{
		`SELECT group_concat(action, ' ') FROM (SELECT action FROM audit WHERE action LIKE 'AUDIT_%ABLED' ORDER BY id)`: "AUDIT_DISABLED AUDIT_ENABLED",
		`SELECT group_concat(resource, ' ') FROM (SELECT resource FROM audit WHERE action = 'CREATE_ROLE')`:             "role/seen",
	} {
		if got := selectText(t, file, query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// TestAChainThatGoesBackRaisesAnAlarm: the process that logs checkpoints remembers the
// last ones, and says so at once where a chain ends before where it did, or is gone.
func TestAChainThatGoesBackRaisesAnAlarm(t *testing.T) {
	keys, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(p.dir, ".auth.sqlite3"), AuditKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	by := store.Actor{Name: "test"}
	if _, err := st.StartChain(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := &checkpoints{store: st, log: slog.New(slog.NewJSONHandler(&log, nil))}
	write := func(role string) {
		t.Helper()
		if _, err := st.PutRole(t.Context(), by, 1, role, nil); err != nil {
			t.Fatal(err)
		}
	}
	alarms := func(after string) int {
		c.tell(t.Context())
		n := strings.Count(log.String(), `"level":"ERROR"`)
		t.Logf("%s: %d alarms", after, n)
		log.Reset()
		return n
	}
	write("one")
	write("two")
	c.on = true
	p.edit(`UPDATE audit_state SET enabled = 0`)
	if alarms("turned off past the program") != 1 {
		t.Error("no alarm at an audit that is off")
	}
	p.edit(`UPDATE audit_state SET enabled = 1`)
	if alarms("two writes") != 0 || alarms("nothing") != 0 {
		t.Error("an alarm without a cause")
	}
	write("three")
	if alarms("one more") != 0 {
		t.Error("an alarm at a chain that goes on")
	}
	p.edit(`DELETE FROM audit WHERE tenant_id = 1 AND chain_number = 3`,
		`UPDATE audit_chains SET number = 2, (link, row_id) = (SELECT chain_link, id FROM audit WHERE tenant_id = 1 AND chain_number = 2) WHERE tenant_id = 1`)
	write("again") // number 3 again
	if alarms("cut off and written on") != 1 {
		t.Error("no alarm at another row of the same number")
	}
	p.edit(`DELETE FROM audit WHERE tenant_id = 1`, `DELETE FROM audit_chains WHERE tenant_id = 1`)
	if alarms("all of it is gone") != 1 || alarms("nothing") != 0 {
		t.Error("want one alarm at a chain that is gone")
	}
}

func TestOnlyChainsThatMovedAreLogged(t *testing.T) {
	p := newPlace(t, "AUTH_AUDIT_KEY="+sealing.NewMaster(), "AUTH_DECISION_LOG=off")
	s := p.start("admin")
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(s.stderr.String()) {
		var point chain.Checkpoint
		if !strings.Contains(line, "audit checkpoint") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &point); err != nil {
			t.Fatal(err)
		}
		key := point.Link.String()
		if seen[key] {
			t.Errorf("logged twice: %s", line)
		}
		seen[key] = true
		if d := time.Since(point.At); d < -time.Minute || d > time.Hour {
			t.Errorf("its time is %v", point.At)
		}
	}
	if len(seen) == 0 {
		t.Errorf("no checkpoint was logged:\n%s", s.stderr.String())
	}
}

func FuzzCheckpoints(f *testing.F) {
	for _, text := range []string{
		"", "{}", "[]", `{"link":1}`, `{"mac":"","link":"","tenant":1,"number":1,"at":"x"}`, "{\"msg\":\"x\"}\nplain\n",
		`{"tenant":1,"number":1,"link":"` + strings.Repeat("0", 64) + `","at":"2026-01-01T00:00:00Z","mac":"` + strings.Repeat("0", 64) + `"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		points, err := parseCheckpoints(strings.NewReader(text))
		if err == nil && len(points) == 0 {
			t.Error("neither a checkpoint nor an error")
		}
		for i := range points {
			text, err := json.Marshal(&points[i])
			if err != nil {
				t.Fatal(err)
			}
			var back chain.Checkpoint
			if err := json.Unmarshal(text, &back); err != nil || back.Head != points[i].Head || back.MAC != points[i].MAC {
				t.Errorf("%s comes back as %+v, %v", text, back, err)
			}
		}
	})
}
