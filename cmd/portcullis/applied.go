package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"portcullis/internal/store"
)

// waitApplied returns once every sidecar that may still be answering has applied
// the revision, and how many those are. One that stays silent is waited for
// until it must have failed closed.
func waitApplied(ctx context.Context, d desk, revision int64, patience time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := 5 * time.Millisecond
	for {
		all, err := d.Sidecars(ctx)
		if err != nil {
			return 0, err
		}
		live, behind := 0, []string(nil)
		for _, s := range all {
			if !s.Live(time.Now()) {
				continue
			}
			live++
			if s.Applied < revision {
				behind = append(behind, describe(s))
			}
		}
		if len(behind) == 0 {
			return live, nil
		}
		select {
		case <-ctx.Done():
			return live, unavailablef("revision %d is written, but not applied everywhere after %v: %s",
				revision, patience, strings.Join(behind, ", "))
		case <-time.After(pause):
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}

func describe(s store.Sidecar) string {
	return fmt.Sprintf("sidecar %.8s is at %d, last seen %v ago", s.ID, s.Applied, time.Since(s.LastSeen).Round(time.Millisecond))
}
