package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"portcullis/internal/rotation"
	"portcullis/internal/store"
)

func TestExitCodes(t *testing.T) {
	_, absent := os.Open("/nonexistent/file")
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	for _, c := range []struct {
		what string
		err  error
		want exitCode
	}{
		{"a denied check", answerNo(), exitNo},
		{"a thing that is not there", fmt.Errorf("x: %w", store.ErrNotFound), exitNo},
		{"a cycle", fmt.Errorf("x: %w", store.ErrCycle), exitNo},
		{"cobra's own errors", errors.New("unknown flag: --x"), exitUsage},
		{"a file that is not there", fmt.Errorf("x: %w", absent), exitUsage},
		{"a full disk", fmt.Errorf("x: %w", &os.PathError{Op: "open", Path: "/x", Err: syscall.ENOSPC}), exitUnavailable},
		{"an old schema", fmt.Errorf("x: %w", store.ErrSchema), exitUsage},
		{"the wrong master key", fmt.Errorf("x: %w", store.ErrEncryption), exitUsage},
		{"a sidecar without the new master key", fmt.Errorf("x: %w", rotation.ErrSidecar), exitNo},
		{"a value that does not open", fmt.Errorf("x: %w", store.ErrUnreadable), exitUnavailable},
		{"nobody listens", fmt.Errorf("x: %w", refused), exitUnavailable},
		{"Postgres refuses", fmt.Errorf("x: %w", &pgconn.PgError{Code: "53300"}), exitUnavailable},
		{"too slow", fmt.Errorf("x: %w", context.DeadlineExceeded), exitUnavailable},
		{"interrupted", fmt.Errorf("x: %w", context.Canceled), exitUnavailable},
		{"classified, whatever is inside", usagef("x: %w", refused), exitUsage},
	} {
		if got, _ := judge(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.what, got, c.want)
		}
	}
}
