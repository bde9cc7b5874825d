package rotation

import (
	"context"
	"fmt"

	"portcullis/internal/store"
)

// Plan is what a run would do.
type Plan struct {
	State store.Encryption
	// Unchanged: what is asked for is so already.
	Unchanged bool
	// Resumes: a rotation of this kind was cut off, and would be taken up.
	Resumes bool
	// Rewraps is how many keys would be wrapped under the first master.
	Rewraps int64
	// Counts are the rows that would be written, by table.
	Counts [store.NumSealTables]int64
	// Sidecars are those that may be answering now.
	Sidecars []Sidecar
	// Refused is why the run would not begin; nil where it would.
	Refused error
}

// Rows is the sum of Counts.
func (p Plan) Rows() int64 { return sum(p.Counts) }

// Look says what Run would do with cfg, and changes nothing.
func Look(ctx context.Context, cfg Config) (Plan, error) {
	r, err := newRun(cfg)
	if err != nil {
		return Plan{}, err
	}
	r.ctx, r.steps = ctx, ctx
	var p Plan
	if p.State, err = r.cfg.Store.Encryption(ctx); err != nil {
		return p, fmt.Errorf("read the state of the encryption: %w", err)
	}
	if p.Sidecars, err = Live(ctx, r.cfg.Store, r.cfg.Masters, r.cfg.Now()); err != nil {
		return p, err
	}
	if p.Refused = fits(r.cfg.Kind, p.State); p.Refused != nil {
		return p, nil
	}
	if p.Unchanged = done(r.cfg.Kind, p.State); p.Unchanged {
		return p, nil
	}
	p.Refused = r.checkSidecars()
	p.Resumes = r.cfg.Kind != 0 && p.State.Rotation == r.cfg.Kind
	if r.cfg.Kind == 0 || r.cfg.Kind == store.RotateDeep {
		p.Rewraps = p.State.OtherMasters
		if len(r.cfg.Masters) > 0 && p.State.Master != r.cfg.Masters[0] {
			p.Rewraps = p.State.Keys
		}
	}
	if r.cfg.Kind != 0 {
		if p.Counts, err = r.cfg.Store.SealCounts(ctx, r.cfg.Kind); err != nil {
			return p, fmt.Errorf("count the rows: %w", err)
		}
	} else {
		p.Unchanged = p.Rewraps == 0
	}
	return p, nil
}
