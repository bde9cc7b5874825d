package postgres

import (
	"context"
	"fmt"

	"portcullis/internal/store"
)

// errInClear: this store keeps its fields in clear.
var errInClear = fmt.Errorf("%w: this program keeps the fields of a Postgres store in clear", store.ErrEncryption)

// Encryption implements store.Rotator.
func (s *Store) Encryption(context.Context) (store.Encryption, error) {
	return store.Encryption{}, nil
}

// Rewrap implements store.Rotator.
func (s *Store) Rewrap(context.Context, store.Actor) (int64, store.Result, error) {
	return 0, store.Result{}, errInClear
}

// BeginRotation implements store.Rotator.
func (s *Store) BeginRotation(context.Context, store.Actor, store.RotationKind) (store.Result, error) {
	return store.Result{}, errInClear
}

// RotationTenants implements store.Rotator.
func (s *Store) RotationTenants(context.Context, int) ([]store.TenantID, error) {
	return nil, errInClear
}

// BeginTenant implements store.Rotator.
func (s *Store) BeginTenant(context.Context, store.Actor, store.TenantID) (store.Result, error) {
	return store.Result{}, errInClear
}

// Reseal implements store.Rotator.
func (s *Store) Reseal(_ context.Context, _ store.TenantID, from store.ResealCursor, _ int, _ func(error)) (store.ResealCursor, int64, bool, error) {
	return from, 0, false, errInClear
}

// FinishTenant implements store.Rotator.
func (s *Store) FinishTenant(context.Context, store.Actor, store.TenantID) (store.Result, error) {
	return store.Result{}, errInClear
}

// FinishRotation implements store.Rotator.
func (s *Store) FinishRotation(context.Context, store.Actor) (store.Result, error) {
	return store.Result{}, errInClear
}

// SealCounts implements store.Rotator.
func (s *Store) SealCounts(context.Context, store.RotationKind) ([store.NumSealTables]int64, error) {
	return [store.NumSealTables]int64{}, errInClear
}
