package main

import (
	"context"
	"fmt"
	"log/slog"

	"portcullis/internal/config"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// settleAudit brings the audit's settings and the database together: an admin process
// turns the recording on or off, and begins the chain once there is a key for it.
func (a *app) settleAudit(ctx context.Context) error {
	system := store.Actor{Name: "system"}
	state, err := a.store.AuditState(ctx)
	if err != nil {
		return err
	}
	if state.Enabled != a.cfg.AuditLogging {
		if _, err := a.store.SetAudit(ctx, system, a.cfg.AuditLogging); err != nil {
			return fmt.Errorf("turn the audit on or off, as AUTH_ENABLE_AUDIT_LOGGING says: %w", err)
		}
		a.log.Warn("the audit was turned on or off for every process on the database", "on", a.cfg.AuditLogging)
	}
	if !a.cfg.AuditLogging {
		a.log.Warn("the audit is off: nothing that is done is recorded (AUTH_ENABLE_AUDIT_LOGGING)")
	}
	holder, master, err := chainHolder(ctx, a.store, sealing.ChainKeys{Audit: a.cfg.AuditKeys, Encryption: a.cfg.Masters})
	switch {
	case err != nil:
		return err
	case state.Chained && holder != "" && (state.Holder != holder || state.Master != string(master)):
		a.log.Warn("the audit's chain is under another key than the first one: keep that listed, and run `portcullis rotate audit`",
			"holder", state.Holder, "master", state.Master, "first", holder+" "+string(master))
	case state.Chained:
		a.log.Info("the audit is chained", "holder", state.Holder, "master", state.Master)
	case holder == "":
		a.log.Info("the audit is in no chain, and who can write to the database can edit it unseen: set AUTH_AUDIT_KEY")
	default:
		if _, err := a.store.StartChain(ctx, system); err != nil {
			return fmt.Errorf("begin the audit's chain: %w", err)
		}
		a.log.Info("the audit's chain is begun", "holder", holder, "master", string(master))
	}
	if (state.Chained || holder != "") && (a.cfg.LogLevel > slog.LevelInfo || a.cfg.LogFormat != config.LogJSON) {
		a.log.Warn("this log will hold no checkpoints of the audit that `portcullis audit verify` can read: set AUTH_LOG_LEVEL to info and AUTH_LOG_FORMAT to json, or keep what `portcullis audit checkpoint` prints")
	}
	return nil
}

// chainHolder is which of the keys wraps the chain's secret today; "" where none does.
func chainHolder(ctx context.Context, s store.Store, keys sealing.ChainKeys) (string, sealing.MasterID, error) {
	state, err := s.Encryption(ctx)
	if err != nil {
		return "", "", err
	}
	holder, master := keys.Wrapper(sealing.MasterID(state.Master))
	return holder, master, nil
}
