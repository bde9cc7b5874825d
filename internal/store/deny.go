package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"portcullis/policy"
)

// DenyKind says what an entry of the deny-list refuses.
type DenyKind uint8

// The kinds of entry.
const (
	DenyToken   DenyKind = 1 // one access token, by issuer and jti
	DenySubject DenyKind = 2 // a principal's tokens that were issued at or before a moment
	DenyKey     DenyKind = 3 // every token signed with a key, by issuer and kid; of no tenant
)

// String returns "token", "subject" or "key"; "" for a number outside the list.
func (k DenyKind) String() string {
	switch k {
	case DenyToken:
		return "token"
	case DenySubject:
		return "subject"
	case DenyKey:
		return "key"
	}
	return ""
}

// NewDenial is an entry to be added to the deny-list. Issuer is the `iss` of the
// tokens, "" for tokens without one, and for the tokens of clients and workloads,
// which only we issue.
type NewDenial struct {
	Kind      DenyKind
	Tenant    TenantID // 0 for DenyKey
	Issuer    string
	Value     string      // jti, kid, or the principal's id
	Principal policy.Kind // DenySubject: what Value is the id of
	Before    time.Time   // DenySubject: tokens issued at or before it; required
	// Expires is when the last token that it could refuse has expired: now plus the
	// longest life of such a token, plus the skew. Required.
	Expires time.Time
}

// Denial is an entry of the deny-list.
type Denial struct {
	NewDenial
	ID      int64
	Created time.Time
}

// DenyMark is an entry as a sidecar holds it: what is looked up, and until when.
type DenyMark struct {
	Digest Digest
	// Tenant is whose tokens it refuses, 0 for signing keys. A sidecar computes the
	// index of callers of those tenants alone that deny a subject.
	Tenant  TenantID
	Before  int64 // Unix nanoseconds; 0 for tokens and keys: every one
	Expires int64 // Unix nanoseconds
}

// Denials is the part of a store that keeps the deny-list.
type Denials interface {
	// Deny adds an entry. One that is there keeps the later Before and the later
	// Expires of both; where nothing changes it is OutcomeUnchanged.
	//
	// The entry of a user also revokes the user's families of refresh tokens, of
	// whatever issuer, that were begun up to the entry's Before (by whole seconds, as
	// the gate reads `iat`): else a refresh token would give access tokens that are
	// younger than the mark. Their access tokens are denied one by one. It is one
	// write, whose audit row says how many families and access tokens those were
	// (Details). A write that only revokes families is OutcomeDone. The users of the
	// families need not open.
	Deny(ctx context.Context, by Actor, denial NewDenial) (Denial, Result, error)
	// Allow takes an entry away by its id. ErrNotFound; tenant is the entry's.
	Allow(ctx context.Context, by Actor, tenant TenantID, id int64) (Result, error)
	// DenialList lists entries of a tenant (0: signing keys) that have not expired, by
	// id from after on, at most limit (1 to 1000).
	DenialList(ctx context.Context, tenant TenantID, after int64, limit int) ([]Denial, error)
	// PruneDenials deletes entries that have expired. It takes no revision: sidecars
	// drop them by the same clock bound.
	PruneDenials(ctx context.Context) error
}

// DenyTokenDigest is what a sidecar looks up for a token of a tenant: its `iss`, ""
// where it has none, and its `jti`, compared as bytes. A token without `jti` cannot
// be denied so; ask about none.
//
// This and the other digests are SHA-256 over a word of their own, the kind, the
// tenant and every field after its length, so that no two entries have one input.
// They allocate nothing for issuers of ordinary length. Stores keep them: the
// encoding never changes.
func DenyTokenDigest(tenant TenantID, issuer, jti string) Digest {
	var room [denyInput]byte
	b := appendDenial(room[:0], DenyToken, tenant)
	b = appendSized(b, "")
	b = appendSized(b, issuer)
	return sha256.Sum256(appendSized(b, jti))
}

// DenySubjectDigest is what a sidecar looks up for a principal, by its index under
// the tenant's current key. Where that key changes, the entries are written anew
// in the same write.
func DenySubjectDigest(tenant TenantID, index Index, issuer string) Digest {
	var room [denyInput]byte
	b := appendDenial(room[:0], DenySubject, tenant)
	b = append(binary.AppendUvarint(b, uint64(len(index))), index[:]...)
	b = appendSized(b, issuer)
	return sha256.Sum256(appendSized(b, ""))
}

// DenyKeyDigest is what a sidecar looks up for the key that signed a token, in every
// tenant. A token that names no key, and whose verifier knows none, has none.
func DenyKeyDigest(issuer, kid string) Digest {
	var room [denyInput]byte
	b := appendDenial(room[:0], DenyKey, 0)
	b = appendSized(b, "")
	b = appendSized(b, issuer)
	return sha256.Sum256(appendSized(b, kid))
}

// denyInput is room on the stack for the input of a digest. Issuers longer than
// about 700 bytes cost an allocation.
const denyInput = 1024

func appendDenial(b []byte, kind DenyKind, tenant TenantID) []byte {
	b = append(b, "portcullis denial v1\x00"...)
	b = append(b, byte(kind))
	return binary.BigEndian.AppendUint64(b, uint64(tenant))
}

// appendSized appends a text after its length.
func appendSized(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}
