package store

import (
	"context"
	"time"
)

// KeyRotation replaces the secret of a client.
type KeyRotation struct {
	Tenant    TenantID
	Name      string
	Presented Digest // the live secret that asks
	New       NewKey // the next one; Tenant and Name are the same
	// Overlap is how long the former secrets go on working; 0 revokes them at once.
	Overlap time.Duration
	// ReplayID names the reply for a retry; Reply is it, sealed under what only the
	// caller holds; it is kept until ReplayUntil.
	ReplayID    Digest
	Reply       string
	ReplayUntil time.Time
}

// KeyRotations is the part of a store that replaces clients' secrets.
type KeyRotations interface {
	// RotateKey registers the new secret, retires the former ones and keeps the sealed
	// reply, in one write. The client stays the same: what it holds, memberships and
	// refresh tokens, stays with it. ErrNotFound where Presented is no live secret of the client,
	// ErrExists where ReplayID is known (a retry that came at the same time: read
	// Replay).
	RotateKey(ctx context.Context, by Actor, rotation KeyRotation) (ClientKey, Result, error)
	// Replay reads a sealed reply. ErrNotFound where there was none, ErrExpired where
	// its time is past.
	Replay(ctx context.Context, id Digest) (tenant TenantID, sealed string, err error)
	// PruneReplays deletes replies a day after their time has passed: until then a late
	// retry is told so. It takes no revision.
	PruneReplays(ctx context.Context) error
}
