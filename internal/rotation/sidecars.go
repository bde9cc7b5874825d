package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"portcullis/internal/store"
)

// checkSidecars refuses to go on while a sidecar that may still be answering does
// not hold the first master: what is sealed under it the sidecar could not read.
// One that was opened under a former master and reports no more is waited for
// until it must have failed closed. Turning encryption off needs no new key.
func (r *run) checkSidecars() error {
	if r.cfg.Kind == store.RotateDisable {
		return nil
	}
	live, err := Live(r.steps, r.cfg.Store, r.cfg.Masters, r.cfg.Now())
	if err != nil {
		return err
	}
	var lacking []string
	for _, s := range live {
		if !s.Holds {
			lacking = append(lacking, s.String())
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	first := ""
	if len(r.cfg.Masters) > 0 {
		first = r.cfg.Masters[0]
	}
	return fmt.Errorf("%w %s: %s; list the new key in AUTH_ENCRYPTION_KEY there, beside the one that is in use, restart it, and run this again",
		ErrSidecar, first, strings.Join(lacking, "; "))
}

// Sidecar is a live sidecar as a rotation looks at it.
type Sidecar struct {
	store.Sidecar
	Holds bool // the first master
	age   time.Duration
}

// Live lists the sidecars that may still be answering, and whether each holds the
// first of the masters. An admin process counts as one: it answers from a cache
// too.
func Live(ctx context.Context, s Store, masters []string, now time.Time) ([]Sidecar, error) {
	all, err := s.Sidecars(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the sidecars: %w", err)
	}
	var out []Sidecar
	for _, one := range all {
		if one.Live(now) {
			out = append(out, Sidecar{one, len(masters) > 0 && slices.Contains(one.Masters, masters[0]), now.Sub(one.LastSeen)})
		}
	}
	return out, nil
}

// String names the sidecar and says what it holds, and until when it counts if it
// is gone.
func (s Sidecar) String() string {
	holds := "holds no master key"
	if len(s.Masters) > 0 {
		holds = "holds " + strings.Join(s.Masters, ", ")
	}
	return fmt.Sprintf("sidecar %.8s %s (last seen %v ago; if it is gone, it counts for %v more)",
		s.ID, holds, max(0, s.age).Round(time.Millisecond), s.left().Round(time.Second))
}

// left is how much longer the sidecar counts as live if nothing more is heard of
// it.
func (s Sidecar) left() time.Duration { return max(0, s.Staleness+5*time.Second-s.age) }
