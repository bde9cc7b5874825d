package testkit

import (
	"strings"
	"testing"
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
