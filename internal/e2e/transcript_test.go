package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/testkit"
	"portcullis/internal/testkit/transcript"
)

// Every transcript of the admin API, played against a running `portcullis serve`,
// each on a store of its own, in clear and sealed.
func TestTranscripts(t *testing.T) {
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../admin/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, backend := range backends() {
		for _, file := range files {
			t.Run(backend.name+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				dir, err := os.MkdirTemp("", "pc-") // the path of a unix socket has little room
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				master, masters := newMaster(t)
				var sealed []string // settings
				if backend.sealed {
					sealed = []string{"AUTH_ENCRYPTION_KEY=" + master, "AUTH_ENABLE_ENCRYPTION=true"}
				}
				setting, st := backend.make(t, dir, masters)
				keys, _, err := transcript.Furnish(t.Context(), st)
				if err != nil {
					t.Fatal(err)
				}
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
				gate, err := testkit.StartGate(t.Context(), testkit.GateConfig{Binary: binary, Dir: dir, Env: append(sealed,
					setting, "AUTH_EXTAUTHZ_LISTEN=unix://"+filepath.Join(dir, "gate.sock"), "AUTH_SERVER_PORT=0",
					"AUTH_METRICS_LISTEN=127.0.0.1:0", "AUTH_DRAIN_DELAY=0s", fmt.Sprint("AUTH_OPEN_TENANCY=", transcript.OpenTenancy(file)), "AUTH_RATE_LIMIT_FAILURES=off", "GORACE=halt_on_error=1 atexit_sleep_ms=0",
				)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(gate.Kill)
				transcript.Play(t, transcript.Server{Addr: gate.Admin(), Keys: keys}, file)
			})
		}
	}
}
