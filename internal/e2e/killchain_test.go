package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"portcullis/internal/testkit"
)

// verifyChain runs `portcullis audit verify` with the log of the servers that were
// killed, as an auditor would.
func verifyChain(t *testing.T, binary, dir string, env []string, log string, kills int) {
	t.Helper()
	file := filepath.Join(dir, "servers.log")
	if err := os.WriteFile(file, []byte(whole(log)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "audit", "verify", "--checkpoint", file, "--json")
	cmd.Dir, cmd.Env = dir, testkit.PortcullisEnv(env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("audit verify: %v\n%s%s", err, out, errs.String())
	}
	var verified struct {
		Rows, Faults int64
		Checkpoints  int
	}
	if err := json.Unmarshal(out, &verified); err != nil {
		t.Fatalf("audit verify printed %s: %v", out, err)
	}
	if verified.Rows == 0 || verified.Faults != 0 || verified.Checkpoints < kills {
		t.Errorf("audit verify: %+v, want rows, no fault, and a checkpoint of each of %d servers at least", verified, kills)
	}
	t.Logf("audit verify: %s", strings.TrimSpace(string(out)))
}

// whole drops a line that a kill cut short.
func whole(log string) string {
	lines := strings.SplitAfter(log, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return !strings.HasSuffix(l, "}\n") }), "")
}
