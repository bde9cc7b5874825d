package main

import (
	"context"
	"log/slog"
	"time"

	"portcullis/internal/chain"
	"portcullis/internal/store"
)

// checkpoints logs where the audit's chains end, signed: whoever keeps the log where
// the database's writers cannot write can tell that a tail was cut off.
type checkpoints struct {
	store store.AuditChains
	log   *slog.Logger
	on    bool                 // AUTH_ENABLE_AUDIT_LOGGING
	told  map[int64]chain.Head // what was logged, by tenant
}

// Run logs every minute, as it begins and as it ends, the chains that moved.
func (c *checkpoints) Run(ctx context.Context) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		c.tell(ctx)
		select {
		case <-ctx.Done():
			c.tell(context.WithoutCancel(ctx))
			return nil
		case <-minute.C:
		}
	}
}

func (c *checkpoints) tell(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	points, err := readCheckpoints(bounded, c.store, time.Now())
	var state store.AuditState
	if err == nil {
		state, err = c.store.AuditState(bounded)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("no audit checkpoint could be made, and one will be tried again", "error", err)
		}
		return
	}
	if c.on && !state.Enabled { // by a process with another setting, or past all of them
		c.log.Error("the audit is off, and AUTH_ENABLE_AUDIT_LOGGING is true: nothing that is done is recorded; start an admin process to turn it on")
	}
	now := make(map[int64]chain.Head, len(points))
	for i := range points {
		now[points[i].Tenant] = points[i].Head
	}
	for tenant, last := range c.told {
		if head := now[tenant]; head != last && head.Number <= last.Number { // 0: it is gone
			c.log.Error("the audit's chain is not what it was: its end was set back, rows were cut off, or a backup was restored: run `portcullis audit verify --checkpoint` with this log",
				"tenant", tenant, "was", last.Number, "number", head.Number)
		}
	}
	before := c.told
	c.told = now
	for i := range points {
		p := &points[i]
		if before[p.Tenant] == p.Head {
			continue
		}
		// These names and forms are a chain.Checkpoint's in JSON: `audit verify
		// --checkpoint` reads the line.
		c.log.Info("audit checkpoint", "tenant", p.Tenant, "number", p.Number, "link", p.Link.String(),
			"at", p.At.Format(time.RFC3339), "mac", p.MAC.String())
	}
}

// readCheckpoints are those of all chains; none where the audit is in none.
func readCheckpoints(ctx context.Context, s store.AuditChains, now time.Time) ([]chain.Checkpoint, error) {
	state, err := s.AuditState(ctx)
	if err != nil || !state.Chained {
		return nil, err
	}
	key, err := s.ChainKey(ctx)
	if err != nil {
		return nil, err
	}
	heads, err := s.ChainHeads(ctx)
	if err != nil {
		return nil, err
	}
	points := make([]chain.Checkpoint, 0, len(heads))
	for _, h := range heads {
		points = append(points, key.Check(h.Head, now))
	}
	return points, nil
}
