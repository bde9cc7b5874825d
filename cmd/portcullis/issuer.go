package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"portcullis/internal/config"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// openIssuer makes what signs the admin API's access tokens, nil where there is
// nothing to sign with. Where a private key signs and the store knows of none that
// does, its public half is published and made to sign; after that only
// `portcullis rotate signing` changes which one it is.
func openIssuer(ctx context.Context, s store.Store, cfg *config.Config, log *slog.Logger) (*identity.Issuer, error) {
	issuer, err := identity.NewIssuer(identity.IssuerConfig{
		Secret: []byte(cfg.JWTSecretKey.Reveal()), Algorithm: cfg.JWTAlgorithm, Keys: cfg.JWTPrivateKeys,
		Issuer: cfg.JWTIssuer, Audience: cfg.JWTAudience,
	})
	if errors.Is(err, identity.ErrNoSecret) || errors.Is(err, identity.ErrNoPrivateKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !slices.Contains(identity.OwnAlgorithms(), cfg.JWTAlgorithm) {
		return issuer, nil
	}
	known, err := s.SigningKeyList(ctx)
	if err != nil {
		return nil, fmt.Errorf("AUTH_JWT_PRIVATE_KEY: read the public keys: %w", err)
	}
	if slices.ContainsFunc(known, func(k store.SigningKey) bool { return !k.Signs.IsZero() && k.Expires.IsZero() }) {
		return issuer, nil
	}
	key, err := identity.SigningKey(cfg.JWTPrivateKeys, cfg.JWTAlgorithm)
	if err != nil {
		return nil, fmt.Errorf("AUTH_JWT_PRIVATE_KEY: %w", err)
	}
	if err := mustNotBeDenied(ctx, s, cfg.JWTIssuer, key.KeyID()); err != nil {
		return nil, err
	}
	by := store.Actor{Name: "system"}
	public := key.Public()
	if _, err := s.PublishSigningKey(ctx, by, store.SigningKey{KeyID: public.KeyID, Algorithm: public.Algorithm, JWK: string(public.JWK)}); err != nil {
		return nil, fmt.Errorf("AUTH_JWT_PRIVATE_KEY: publish the public key: %w", err)
	}
	if _, err := s.SignWith(ctx, by, public.KeyID, time.Now()); err != nil {
		return nil, fmt.Errorf("AUTH_JWT_PRIVATE_KEY: make the key sign: %w", err)
	}
	log.Info("signing key published", "kid", public.KeyID, "algorithm", public.Algorithm)
	return issuer, nil
}
