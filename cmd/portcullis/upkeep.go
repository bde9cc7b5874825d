package main

import (
	"context"
	"log/slog"
	"time"

	"portcullis/internal/store"
)

// keptRevisions is how many revisions the change log keeps. A sidecar further
// behind loads in full, which it does from 10,000 changes on anyway.
const keptRevisions = 20_000

// upkeep is what keeps the store small: an admin process runs it, and several
// may at once.
type upkeep struct {
	store store.Store
	log   *slog.Logger
}

// partitioner is a store whose audit lives in partitions that must be made ahead.
type partitioner interface {
	EnsureAuditPartitions(ctx context.Context) (int, error)
}

// Run works until ctx ends. A failure is logged, and its work is done next time.
func (u *upkeep) Run(ctx context.Context) error {
	fold := time.NewTicker(5 * time.Second)
	defer fold.Stop()
	prune := time.NewTicker(time.Minute)
	defer prune.Stop()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	u.partition(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-fold.C:
			u.do(ctx, "fold sidecar reports", u.store.FoldReports)
		case <-prune.C:
			u.do(ctx, "prune the change log", func(ctx context.Context) error {
				return u.store.PruneChanges(ctx, keptRevisions)
			})
			u.do(ctx, "prune the deny-list", u.store.PruneDenials)
			u.do(ctx, "prune refresh tokens", u.store.PruneRefresh)
			u.do(ctx, "prune replies of rotations", u.store.PruneReplays)
			u.do(ctx, "prune signing keys", func(ctx context.Context) error {
				return u.store.PruneSigningKeys(ctx, store.Actor{Name: "system"})
			})
		case <-daily.C:
			u.partition(ctx)
		}
	}
}

func (u *upkeep) partition(ctx context.Context) {
	if p, ok := u.store.(partitioner); ok {
		u.do(ctx, "make audit partitions", func(ctx context.Context) error {
			_, err := p.EnsureAuditPartitions(ctx)
			return err
		})
	}
}

func (u *upkeep) do(ctx context.Context, what string, work func(context.Context) error) {
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := work(bounded); err != nil && ctx.Err() == nil {
		u.log.Warn("upkeep failed, and will be tried again", "work", what, "error", err)
	}
}
