package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// MaxUserKeys is how many active API keys one user may have. Revoked and expired
// ones do not count.
const MaxUserKeys = 25

// BackedForever is a GrantRow's KeyBackedUntil where some key never expires.
const BackedForever = math.MaxInt64

// UserKey is one API key of a user, live or former.
type UserKey struct {
	ID       string // a UUID4 that names the key; it opens nothing
	Tenant   TenantID
	User     string
	Digest   Digest
	Prefix   string // the first 12 characters of the secret, for people
	Label    string // "" where it has none
	Created  time.Time
	Expires  time.Time // zero is never
	Revoked  time.Time // zero is live
	LastUsed time.Time // zero is never; written in batches, so it lags
}

// Active reports whether the key opens anything at now.
func (k *UserKey) Active(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

// NewUserKey is a user's API key to be registered. The store gives it its id.
type NewUserKey struct {
	Tenant  TenantID
	User    string
	Digest  Digest
	Prefix  string
	Label   string
	Expires time.Time // zero is never
}

// Make checks the key and returns it as it will be stored, with a new id and
// created at now, and its expiry in nanoseconds, 0 for never.
func (k *NewUserKey) Make(now time.Time) (UserKey, int64, error) {
	expires, err := ExpiryNanos(k.Expires)
	if err != nil {
		return UserKey{}, 0, err
	}
	if k.User == "" {
		return UserKey{}, 0, errors.New("user: is empty: name the user")
	}
	return UserKey{
		ID:      newKeyID(),
		Tenant:  k.Tenant,
		User:    k.User,
		Digest:  k.Digest,
		Prefix:  k.Prefix,
		Label:   k.Label,
		Created: FromNanos(now.UnixNano()),
		Expires: FromNanos(expires),
	}, expires, nil
}

// newKeyID is a random UUID4 in lower case.
func newKeyID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// UserKeyRow is a user's API key as at Revision; Key is nil where no such key was
// ever known. A revoked or expired key is returned as it is.
type UserKeyRow struct {
	Revision Revision
	Key      *UserKey
}

// UnderKeyCap is ErrKeyCap where the keys of one user leave no room for another.
func UnderKeyCap(keys []UserKey, now time.Time) error {
	active := 0
	for i := range keys {
		if keys[i].Active(now) {
			active++
		}
	}
	if active >= MaxUserKeys {
		return fmt.Errorf("%d are active: revoke one first: %w", active, ErrKeyCap)
	}
	return nil
}

// UserKeyWritten is what making a key leaves in the log and the trail. index is
// the user's.
func UserKeyWritten(made *UserKey, index Index) *Written {
	w := &Written{
		Outcome:  OutcomeDone,
		Tenant:   made.Tenant,
		Action:   ActionCreateUserKey,
		Resource: UserKeyResource(made.ID),
		User:     made.User,
		After:    made.State(),
	}
	w.Changes.Key(made.Tenant, made.Digest, false)
	w.Changes.Grant(made.Tenant, index)
	return w
}

// UserKeyRevoked finds the key that is to be revoked among those of one user, and
// says what that leaves in the log and the trail. ErrNotFound if it is not among
// them; OutcomeUnchanged if it was revoked before.
func UserKeyRevoked(keys []UserKey, index Index, id string) (*UserKey, *Written, error) {
	at := slices.IndexFunc(keys, func(k UserKey) bool { return k.ID == id })
	if at < 0 {
		return nil, nil, fmt.Errorf("API key %q: %w", id, ErrNotFound)
	}
	k := &keys[at]
	w := &Written{
		Outcome:  OutcomeUnchanged,
		Tenant:   k.Tenant,
		Action:   ActionRevokeUserKey,
		Resource: UserKeyResource(k.ID),
		User:     k.User,
	}
	if k.Revoked.IsZero() {
		w.Outcome = OutcomeDone
		w.Before = k.State()
		w.Changes.Key(k.Tenant, k.Digest, true)
		w.Changes.Grant(k.Tenant, index)
	}
	return k, w, nil
}
