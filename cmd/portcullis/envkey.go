package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"portcullis/internal/config"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// envKeyName is the name under which AUTH_CLIENT_KEY is registered.
const envKeyName = "env"

// registerEnvKey makes AUTH_CLIENT_KEY a live key of the default tenant. A
// secret that was revoked before is told and registers nothing: whoever revoked
// it meant it, and a restart must not undo that.
func registerEnvKey(ctx context.Context, s store.Store, cfg *config.Config, log *slog.Logger) error {
	if !cfg.ClientKey.IsSet() {
		return nil
	}
	canonical, ok := identity.ParseClientKey([]byte(cfg.ClientKey.Reveal()))
	if !ok {
		return usagef("AUTH_CLIENT_KEY: want a UUID4, such as uuidgen prints")
	}
	tenant, err := s.TenantByName(ctx, store.DefaultTenant)
	if err != nil {
		return fmt.Errorf("AUTH_CLIENT_KEY: find tenant %s: %w", store.DefaultTenant, err)
	}
	r, err := s.RegisterKey(ctx, store.Actor{Name: "system", Tenant: tenant.ID}, store.NewKey{
		Tenant: tenant.ID, Name: envKeyName, Digest: identity.KeyDigest(canonical), Prefix: string(canonical[:8]),
		Scopes: store.DefaultScopes(),
	}, cfg.ClientKeyOverlap)
	switch {
	case errors.Is(err, store.ErrRevoked):
		log.Error("AUTH_CLIENT_KEY was revoked or has expired: nothing is registered; make a new one, such as uuidgen prints", "key", envKeyName)
		return nil
	case err != nil:
		return fmt.Errorf("AUTH_CLIENT_KEY: %w", err)
	case r.Outcome == store.OutcomeDone:
		log.Info("AUTH_CLIENT_KEY registered", "key", envKeyName, "tenant", store.DefaultTenant,
			"former_keys_live_for", cfg.ClientKeyOverlap.String(), "revision", r.Revision.Number)
	}
	return nil
}
