package cache

import (
	"context"
	"fmt"
	"time"

	"portcullis/internal/store"
)

// reportTimeout bounds one write of reports, the last one included.
const reportTimeout = 5 * time.Second

// usesEvery is how often last-used times are written, in batches.
const usesEvery = 10 * time.Second

// report tells the store that this sidecar lives, what it has applied and which
// keys were used, until ctx ends; then, that it stopped.
func (c *Cache) report(ctx context.Context) error {
	beat := time.NewTicker(c.cfg.Heartbeat)
	defer beat.Stop()
	flush := time.NewTicker(usesEvery)
	defer flush.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
			defer cancel()
			c.send(last, c.about(store.ReportStopped), true)
			return nil
		case <-c.acks:
			c.send(ctx, c.about(store.ReportApplied), false)
		case <-beat.C:
			if c.Snapshot() != nil {
				c.send(ctx, c.about(store.ReportHeartbeat), false)
			}
		case <-flush.C:
			c.send(ctx, store.Report{}, true)
		}
	}
}

// register makes this sidecar known before it loads, and so before it answers
// anything: a writer that waits for every live sidecar must find it, or wait for
// nobody while it answers from before the write.
func (c *Cache) register(ctx context.Context) error {
	if c.cfg.Silent {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if err := c.cfg.Store.Report(ctx, []store.Report{c.about(store.ReportHeartbeat)}); err != nil {
		c.metrics.reportErrors.Inc()
		return fmt.Errorf("register with the store: %w", err)
	}
	return nil
}

func (c *Cache) about(kind store.ReportKind) store.Report {
	r := store.Report{
		Sidecar:   c.sidecar,
		Kind:      kind,
		At:        time.Unix(0, c.clock().Wall),
		Applied:   c.Applied(),
		Staleness: c.cfg.MaxStaleness,
		Masters:   c.cfg.Masters,
	}
	if s := c.Snapshot(); s != nil {
		r.PolicyDigest = s.Policy.Digest()
	}
	return r
}

// send writes one report, unless it is zero, and with uses the key uses seen
// since. A report that fails is dropped: the next one says the same or more.
func (c *Cache) send(ctx context.Context, r store.Report, uses bool) {
	var reports []store.Report
	if r.Kind != 0 {
		reports = append(reports, r)
	}
	if uses {
		if seen := c.drainUses(); len(seen) > 0 {
			u := c.about(store.ReportUses)
			u.Uses = seen
			reports = append(reports, u)
		}
	}
	if len(reports) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if err := c.cfg.Store.Report(ctx, reports); err != nil {
		c.metrics.reportErrors.Inc()
		c.log.Warn("report to the store", "error", err)
	}
}

func (c *Cache) drainUses() []store.KeyUse {
	var out []store.KeyUse
	for {
		select {
		case u := <-c.uses:
			out = append(out, u)
		default:
			return out
		}
	}
}
