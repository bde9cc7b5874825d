package admin

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"portcullis/cache"
	"portcullis/internal/store"
)

// The timeout of ?wait=all.
const (
	defaultWait = 2 * time.Second
	maxWait     = 30 * time.Second
)

// How often a waiting write looks at what the sidecars reported.
const (
	firstPoll = 2 * time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// catchUpTimeout bounds how long a committed write waits for this process's own
// cache before it is answered all the same.
const catchUpTimeout = 5 * time.Second

// waitPlan is what a write's query asks for.
type waitPlan struct {
	all     bool
	timeout time.Duration // above 0, at most maxWait
}

// parseWait reads wait and timeout. It runs before the write, so that a wrong
// value changes nothing.
func parseWait(query string) (waitPlan, error) {
	plan := waitPlan{timeout: defaultWait}
	q, err := url.ParseQuery(query)
	if err != nil {
		return plan, badRequest("Invalid query string.")
	}
	wait, given, err := oneValue(q, "wait")
	if err != nil {
		return plan, err
	}
	if given && wait != "all" {
		return plan, badRequest("Invalid wait: " + echo(wait) + ". Must be all.")
	}
	plan.all = given
	text, given, err := oneValue(q, "timeout")
	if err != nil || !given {
		return plan, err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxWait {
		return plan, badRequest("Invalid timeout: " + echo(text) + ". Must be a duration above 0 and up to 30s, such as 2s or 500ms.")
	}
	plan.timeout = d
	return plan, nil
}

// settle runs after a write's commit. It brings this process's own cache past
// the revision, so that a check which follows the answer sees the write, and
// where the caller asked for it waits for every live sidecar. Whatever happens
// here, the write stands.
func (a *API) settle(c *call) {
	number := c.revision.Number
	c.out.Set("X-Auth-Revision", strconv.FormatInt(number, 10))

	own, cancel := context.WithTimeout(c.Context(), catchUpTimeout)
	err := a.cfg.Cache.CatchUp(own, number)
	cancel()
	if err != nil {
		a.cfg.Logger.Warn("own cache did not catch up with a write", "request_id", c.id, "revision", number, "error", err)
	}
	if !c.wait.all {
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), c.wait.timeout)
	defer cancel()
	lagging, err := a.fleet.await(ctx, number)
	switch {
	case err != nil:
		// Who lags is not known. Applied must not be claimed.
		a.cfg.Logger.Warn("wait for sidecars", "request_id", c.id, "revision", number, "error", err)
		c.out.Set("X-Auth-Wait", "timeout")
		a.metrics.wait("timeout")
	case lagging > 0:
		c.out.Set("X-Auth-Wait", "timeout")
		c.out.Set("X-Auth-Wait-Lagging", strconv.Itoa(lagging))
		a.metrics.wait("timeout")
	default:
		c.out.Set("X-Auth-Wait", "applied")
		a.metrics.wait("applied")
	}
}

// fleet watches the sidecars' reports for the writes that wait. It is safe for
// concurrent use: any number of waiting writes share one query at a time, but for
// the first of each.
type fleet struct {
	store   store.Store
	clock   cache.Clock
	queries singleflight.Group
}

// await returns 0 when every live sidecar has applied the revision, else how
// many had not when ctx ended. It fails where ctx ended before the reports could
// be read even once.
func (f *fleet) await(ctx context.Context, revision int64) (lagging int, err error) {
	known := false
	var lastErr error
	// A reading that is under way began before this write was committed, maybe, and
	// would not know of a sidecar that has come since and loaded what was before.
	f.queries.Forget("")
	for pause := firstPoll; ; pause = min(pause*3/2, lastPoll) {
		sidecars, err := f.sidecars(ctx)
		switch {
		case err == nil:
			known = true
			if lagging = laggards(sidecars, revision, time.Unix(0, f.clock().Wall)); lagging == 0 {
				return 0, nil
			}
		case ctx.Err() == nil:
			lastErr = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if known {
				return lagging, nil
			}
			if lastErr == nil {
				lastErr = ctx.Err()
			}
			return 0, lastErr
		}
	}
}

// laggards counts the sidecars that may still answer from before the revision.
func laggards(sidecars []store.Sidecar, revision int64, now time.Time) int {
	n := 0
	for _, s := range sidecars {
		if s.Live(now) && s.Applied < revision {
			n++
		}
	}
	return n
}

// sidecars reads the reports, sharing a read that is under way.
func (f *fleet) sidecars(ctx context.Context) ([]store.Sidecar, error) {
	shared := f.queries.DoChan("", func() (any, error) {
		// Not one waiter's ctx: its end must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catchUpTimeout)
		defer cancel()
		return f.store.Sidecars(ctx)
	})
	select {
	case r := <-shared:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]store.Sidecar), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
