package cache

import (
	"context"
	"errors"
	"testing"

	"portcullis/internal/store"
)

// registrar is a store that notes what a starting sidecar does, in order.
type registrar struct {
	*world
	refuse bool
	did    []string
}

func (r *registrar) Report(_ context.Context, reports []store.Report) error {
	if r.refuse {
		return errors.New("refused")
	}
	for _, report := range reports {
		if report.Kind == store.ReportHeartbeat {
			r.did = append(r.did, "heartbeat")
		}
	}
	return nil
}

func (r *registrar) Bootstrap(ctx context.Context, yield func(store.Digest) error) (store.Base, error) {
	r.did = append(r.did, "load")
	return r.world.Bootstrap(ctx, yield)
}

// TestASidecarIsKnownBeforeItAnswers: a write that waits for every live sidecar
// must find one that has just begun to answer. So it registers before it loads,
// and does not load where it cannot.
func TestASidecarIsKnownBeforeItAnswers(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		r := &registrar{world: newWorld(), refuse: refuse}
		c, err := New(Config{Store: r, Feed: r, Verifier: noTokens{}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.CatchUp(t.Context(), 1)
		if refuse {
			if err == nil || c.Snapshot() != nil || len(r.did) > 0 {
				t.Errorf("unregistered: %v, snapshot %v, did %v; want an error and nothing loaded", err, c.Snapshot(), r.did)
			}
			continue
		}
		if err != nil || len(r.did) != 2 || r.did[0] != "heartbeat" || r.did[1] != "load" {
			t.Errorf("did %v, %v; want [heartbeat load]", r.did, err)
		}
	}
}
