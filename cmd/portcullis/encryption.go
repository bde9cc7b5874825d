package main

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/config"
	"portcullis/internal/rotation"
	"portcullis/internal/store"
)

// mostSettlings bounds how often a process that starts looks again at a database
// that others are turning encryption on in at the same moment.
const mostSettlings = 5

// settleEncryption brings AUTH_ENABLE_ENCRYPTION and the database together, or says
// why they stay apart. The database's state is what counts: a sidecar, which cannot
// change it, follows it, so that a fleet can be restarted one by one.
func (a *app) settleEncryption(ctx context.Context) error {
	for try := 1; ; try++ {
		state, err := a.store.Encryption(ctx)
		if err != nil {
			return fmt.Errorf("read the state of the encryption: %w", err)
		}
		switch {
		case state.Enabled == a.cfg.EnableEncryption:
			a.logEncryption(state)
			return nil
		case !a.is.admin:
			a.log.Warn("AUTH_ENABLE_ENCRYPTION is not what the database is: this sidecar follows the database",
				"setting", a.cfg.EnableEncryption, "sealed", state.Enabled)
			a.logEncryption(state)
			return nil
		case state.Enabled:
			return usagef("AUTH_ENABLE_ENCRYPTION is false, and the database is sealed: set it to true, or write the database in clear with `portcullis rotate encryption --disable`")
		}
		if err := a.sealEmpty(ctx); err != nil && (!errors.Is(err, store.ErrEncryption) || try == mostSettlings) {
			return err
		}
	}
}

// sealEmpty turns encryption on where nothing has to be sealed.
func (a *app) sealEmpty(ctx context.Context) error {
	work := rotation.Config{
		Store: a.store, Masters: masterIDs(a.cfg.Masters), Kind: store.RotateEnable, By: store.Actor{Name: "system"}, Logger: a.log,
	}
	plan, err := rotation.Look(ctx, work)
	switch {
	case err != nil:
		return err
	case plan.Rows() > 0:
		return usagef("AUTH_ENABLE_ENCRYPTION is true, and the database is in clear, with %s to seal: run `portcullis rotate encryption --enable`, which seals them while everything goes on", count(int(plan.Rows()), "row"))
	}
	if _, err := rotation.Run(ctx, work); err != nil {
		return fmt.Errorf("turn encryption on, as AUTH_ENABLE_ENCRYPTION says (on Postgres, run `portcullis rotate encryption --enable` as the owner of the database): %w", err)
	}
	return nil
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
