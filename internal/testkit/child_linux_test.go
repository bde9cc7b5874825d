package testkit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestChildDiesWithItsParent kills a process that has started Envoy and sees
// that Envoy ends too. The process is this test binary, started over.
func TestChildDiesWithItsParent(t *testing.T) {
	const role = "PORTCULLIS_TESTKIT_PARENT"
	if os.Getenv(role) == "1" {
		envoy, err := StartEnvoy(context.Background(), EnvoyConfig{Bootstrap: []byte(adminOnly)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("admin", envoy.Admin(), envoy.dir)
		select {}
	}
	RequireEnvoy(t)
	parent := exec.Command(os.Args[0], "-test.run=^TestChildDiesWithItsParent$")
	parent.Env = append(os.Environ(), role+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	exited, err := StartBound(parent)
	if err != nil {
		t.Fatal(err)
	}
	var admin, dir string
	for lines := bufio.NewScanner(out); admin == "" && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "admin %s %s", &admin, &dir)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	orphan := &Envoy{admin: admin, client: newAdminClient()}
	if _, err := orphan.get(t.Context(), "/ready"); err != nil {
		t.Fatalf("the child's Envoy at %q does not answer: %v", admin, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := orphan.get(t.Context(), "/ready"); err != nil {
			return
		}
		if time.Now().After(deadline) {
			_, _ = orphan.send(t.Context(), "POST", "/quitquitquit")
			t.Fatal("Envoy outlived the process that started it")
		}
	}
}
