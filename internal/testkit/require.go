package testkit

import (
	"os"
	"testing"
)

// RequireEnvoy returns the path of an Envoy binary. Where none can be had it
// skips the test with the reason, or fails it under PORTCULLIS_REQUIRE_ENVOY=1.
func RequireEnvoy(tb testing.TB) string {
	tb.Helper()
	bin, err := FindEnvoy()
	if err != nil {
		Unavailable(tb, "PORTCULLIS_REQUIRE_ENVOY", err)
	}
	return bin
}

// Unavailable ends the test because a program that it needs cannot be had: it
// skips the test with the reason, or fails it where the variable is 1.
func Unavailable(tb testing.TB, variable string, reason error) {
	tb.Helper()
	if os.Getenv(variable) == "1" {
		tb.Fatalf("%s=1: %v", variable, reason)
	}
	tb.Skip(reason)
}

// RunEnvoy starts Envoy for one test: it is stopped at the test's end, and its
// log is shown if the test failed.
func RunEnvoy(tb testing.TB, cfg EnvoyConfig) *Envoy {
	tb.Helper()
	if cfg.Binary == "" {
		cfg.Binary = RequireEnvoy(tb)
	}
	e, err := StartEnvoy(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if log := e.Log(); tb.Failed() && log != "" {
			tb.Logf("envoy's log:\n%s", log)
		}
		if err := e.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return e
}
