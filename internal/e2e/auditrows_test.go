package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
)

// auditRows is how many rows are verified: PORTCULLIS_AUDIT_ROWS, or some.
func auditRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PORTCULLIS_AUDIT_ROWS")
	if text == "" {
		return 10_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		t.Fatalf("PORTCULLIS_AUDIT_ROWS: %q is no number from 1000 on", text)
	}
	return n
}

// TestALongAuditVerifies chains many rows, verifies them with the command, and finds
// the one that is then edited among them. `make audit` takes a million.
func TestALongAuditVerifies(t *testing.T) {
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range backends() {
		t.Run(backend.name, func(t *testing.T) {
			dir := t.TempDir()
			master, masters := newMaster(t)
			setting, st := backend.make(t, dir, masters)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			st = reopen(t, setting, masters) // with the audit's key
			if _, err := st.StartChain(t.Context(), store.Actor{Name: "test"}); err != nil {
				t.Fatal(err)
			}
			tenant, err := st.TenantByName(t.Context(), store.DefaultTenant)
			if err != nil {
				t.Fatal(err)
			}
			rows := auditRows(t)
			began := time.Now()
			fillAudit(t, st, tenant.ID, rows)
			t.Logf("%d rows chained in %.0f s", rows, time.Since(began).Seconds())

			env := []string{setting, "AUTH_ENCRYPTION_KEY=" + master, "AUTH_AUDIT_KEY=" + master}
			code, out := auditVerify(t, binary, dir, env)
			if code != 0 || out.Rows < int64(rows) || out.Faults != 0 {
				t.Fatalf("exit code %d, %+v; want 0, and %d rows without a fault", code, out, rows)
			}
			edit(t, setting, fmt.Sprintf(`UPDATE %%s SET actor = 'mallory' WHERE tenant_id = %d AND chain_number = %d`, tenant.ID, rows/2))
			code, out = auditVerify(t, binary, dir, env)
			if code != 1 || out.Faults != 1 || out.Fault.Kind != "edited" || out.Fault.Number != int64(rows/2) {
				t.Errorf("one row is edited: exit code %d, %+v", code, out)
			}
		})
	}
}

// fillAudit records rows as permission checks do, which an administrator may have
// recorded.
func fillAudit(t *testing.T, st store.Store, tenant store.TenantID, rows int) {
	t.Helper()
	const batch = 2000
	for done := 0; done < rows; done += batch {
		entries := make([]store.AuditEntry, min(batch, rows-done))
		for i := range entries {
			entries[i] = store.AuditEntry{
				Tenant: tenant, Actor: "client:ci", User: fmt.Sprintf("user-%d", (done+i)%5000), Action: store.ActionCheckPermission,
				Resource: "permission/view_content", Details: `{"permission":"view_content"}`, Outcome: "done", Success: true,
				Address: "192.0.2.7", UserAgent: "curl/8.0", RequestID: fmt.Sprintf("req-%d", done+i),
			}
		}
		if err := st.RecordAudit(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
}

// auditVerified is what `audit verify --json` prints in its last line, and its first
// fault.
type auditVerified struct {
	Rows, Faults int64
	Rate         float64 `json:"rows_per_second"`
	Fault        struct {
		Kind   string
		Number int64
	}
}

// auditVerify runs the command, and logs the progress that it shows.
func auditVerify(t *testing.T, binary, dir string, env []string) (int, auditVerified) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "audit", "verify", "--json")
	cmd.Dir, cmd.Env = dir, testkit.PortcullisEnv(env...)
	var progress strings.Builder
	cmd.Stderr = &progress
	text, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if progress.Len() > 0 {
		t.Logf("progress:\n%s", progress.String())
	}
	t.Logf("%s", strings.TrimSpace(string(text)))
	var out auditVerified
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		if strings.Contains(lines.Text(), `"event":"fault"`) {
			err = json.Unmarshal(lines.Bytes(), &out.Fault)
		} else {
			err = json.Unmarshal(lines.Bytes(), &out)
		}
		if err != nil {
			t.Fatalf("audit verify printed %s: %v", lines.Text(), err)
		}
	}
	return cmd.ProcessState.ExitCode(), out
}

// edit runs a statement on the table of the audit, past the program.
func edit(t *testing.T, setting, sql string) {
	t.Helper()
	name, value, _ := strings.Cut(setting, "=")
	var err error
	if name == "AUTH_SQLITE_PATH" {
		_, err = testkit.SQLite(t.Context(), value, fmt.Sprintf(sql, "audit"))
	} else {
		err = testkit.PostgresExec(t.Context(), value, fmt.Sprintf(sql, "portcullis.audit"))
	}
	if err != nil {
		t.Fatal(err)
	}
}
