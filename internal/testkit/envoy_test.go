package testkit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const adminOnly = `{"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}}`

func TestEnvoyStartsAnswersAndStops(t *testing.T) {
	envoy := RunEnvoy(t, EnvoyConfig{Bootstrap: []byte(adminOnly)})
	if live, err := envoy.Stat(t.Context(), "server.live"); err != nil || live != 1 {
		t.Errorf("server.live = %d, %v; want 1", live, err)
	}
	if _, err := envoy.Stat(t.Context(), "server.lives"); err == nil {
		t.Error("a stat that does not exist was read as a number")
	}
	if addr := envoy.Addr("ingress"); addr != "" {
		t.Errorf("a listener that does not exist has address %q", addr)
	}
}

func TestEnvoyThatRefusesItsBootstrapSaysWhy(t *testing.T) {
	bin := RequireEnvoy(t)
	bad := []byte(strings.Replace(adminOnly, "socket_address", "sokket_address", 1))
	_, err := StartEnvoy(t.Context(), EnvoyConfig{Binary: bin, Bootstrap: bad})
	if err == nil || !strings.Contains(err.Error(), "sokket_address") {
		t.Errorf("StartEnvoy: %v; want an error that names sokket_address", err)
	}
	if err := ValidateEnvoy(t.Context(), bin, bad); err == nil || !strings.Contains(err.Error(), "sokket_address") {
		t.Errorf("ValidateEnvoy: %v; want an error that names sokket_address", err)
	}
	if err := ValidateEnvoy(t.Context(), bin, []byte(adminOnly)); err != nil {
		t.Errorf("ValidateEnvoy of a good bootstrap: %v", err)
	}
}

func TestFindEnvoyNamesABadENVOY_BIN(t *testing.T) {
	t.Setenv("ENVOY_BIN", "/nowhere/envoy")
	if _, err := FindEnvoy(); err == nil || !strings.Contains(err.Error(), "ENVOY_BIN") {
		t.Errorf("FindEnvoy: %v; want an error that names ENVOY_BIN", err)
	}
}

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
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("only Linux ends children with their parent")
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
