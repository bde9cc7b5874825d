package main

import (
	"context"
	"fmt"
	"time"

	"portcullis/internal/config"
	"portcullis/internal/rotation"
	"portcullis/internal/store"
)

// settleEncryption brings AUTH_ENABLE_ENCRYPTION and the database together, or says
// why they stay apart. The database's state is what counts: a sidecar, which cannot
// change it, follows it, so that a fleet can be restarted one by one.
func (a *app) settleEncryption(ctx context.Context) error {
	state, err := a.store.Encryption(ctx)
	if err == nil && a.is.admin && a.cfg.EnableEncryption {
		state, err = a.sealEmpty(ctx, state)
	}
	switch {
	case err != nil:
		return fmt.Errorf("turn encryption on, as AUTH_ENABLE_ENCRYPTION says (or run `portcullis rotate encryption --enable` first, on Postgres as the owner of the database): %w", err)
	case state.Enabled == a.cfg.EnableEncryption:
	case !a.is.admin:
		a.log.Warn("AUTH_ENABLE_ENCRYPTION is not what the database is: this sidecar follows the database",
			"setting", a.cfg.EnableEncryption, "sealed", state.Enabled)
	case state.Enabled:
		return usagef("AUTH_ENABLE_ENCRYPTION is false, and the database is sealed: set it to true, or write the database in clear with `portcullis rotate encryption --disable`")
	}
	a.logEncryption(state)
	return nil
}

// Replicas that start at the same moment all find the database empty. One of them
// may then be ahead of the others' steps, so they look again.
const (
	sealTries = 10
	sealPause = 200 * time.Millisecond
)

// sealEmpty turns encryption on where nothing has to be sealed, and returns the
// state of the encryption afterwards.
func (a *app) sealEmpty(ctx context.Context, state store.Encryption) (store.Encryption, error) {
	work := rotation.Config{
		Store: a.store, Masters: masterIDs(a.cfg.Masters), Kind: store.RotateEnable, By: store.Actor{Name: "system"}, Logger: a.log,
	}
	for try := 1; !state.Enabled || state.Rotation == store.RotateEnable; try++ {
		plan, err := rotation.Look(ctx, work)
		switch {
		case err != nil:
			return state, err
		case plan.Rows() > 0 && plan.State.Enabled:
			return plan.State, nil // somebody is at it, or must go on with it
		case plan.Rows() > 0:
			return state, usagef("AUTH_ENABLE_ENCRYPTION is true, and the database is in clear, with %s to seal: run `portcullis rotate encryption --enable`, which seals them while everything goes on", count(int(plan.Rows()), "row"))
		}
		out, failed := rotation.Run(ctx, work)
		if failed == nil {
			return out.State, nil
		}
		if state, err = a.store.Encryption(ctx); err != nil || !state.Enabled || try == sealTries {
			return state, failed
		}
		select {
		case <-time.After(sealPause):
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
	return state, nil
}

// logEncryption says how the fields lie in the database.
func (a *app) logEncryption(state store.Encryption) {
	if !state.Enabled {
		a.log.Info("encryption of fields is off: they lie in the database in clear")
		return
	}
	a.log.Info("encryption of fields is on", "master", state.Master, "keys", state.Keys)
	if state.Rotation != 0 {
		a.log.Warn("a rotation of the encryption keys is not finished: `portcullis rotate encryption` goes on with it, with the flag of its kind",
			"kind", state.Rotation.String())
	}
	if first := string(a.cfg.Masters.First()); state.OtherMasters > 0 || first != state.Master {
		a.log.Warn("keys are wrapped under another master than the first of AUTH_ENCRYPTION_KEY: keep both listed, and run `portcullis rotate encryption`",
			"first", first, "master", state.Master, "keys_of_others", state.OtherMasters)
	}
}

// warnInClear tells the user of a command that what it writes is not sealed yet.
func warnInClear(ctx context.Context, p *process, cfg *config.Config, s store.Store) error {
	if !cfg.EnableEncryption {
		return nil
	}
	state, err := s.Encryption(ctx)
	if err == nil && !state.Enabled {
		printWarnings(p, []config.Warning{{Name: "AUTH_ENABLE_ENCRYPTION",
			Text: "is true, and the database is in clear: `portcullis rotate encryption --enable` seals it"}})
	}
	return err
}
