package identity

import (
	"crypto/sha256"
	"encoding/binary"
)

// What a deny-list entry is about stands at the head of its digest's input, so that
// no entry of one sort is ever one of another. The texts are part of what stores
// hold: they never change.
const (
	denyTokenDomain = "portcullis/deny/token/1"
	denyKeyDomain   = "portcullis/deny/key/1"
)

// denyInput is room on the stack for the input of a digest. Issuers longer than
// about 700 bytes cost an allocation.
const denyInput = 1024

// DenyTokenDigest is the key of a deny-list entry for one token: the tenant's row
// id, the token's `iss` ("" where it has none) and its `jti`, compared as bytes. A
// token without `jti` cannot be denied so; ask about none.
//
// It is SHA-256 over the domain's text, the tenant as 8 bytes big-endian, and each
// text after its length in 4 bytes big-endian: no two triples have one encoding. It
// allocates nothing for issuers of ordinary length.
func DenyTokenDigest(tenant int64, issuer, tokenID string) [sha256.Size]byte {
	var room [denyInput]byte
	b := appendSized(room[:0], denyTokenDomain)
	b = binary.BigEndian.AppendUint64(b, uint64(tenant))
	b = appendSized(b, issuer)
	b = appendSized(b, tokenID)
	return sha256.Sum256(b)
}

// DenyKeyDigest is the key of a deny-list entry for every token that one key of an
// issuer has signed, in every tenant: `iss` ("" where our own tokens have none) and
// `kid`, compared as bytes. It is made as DenyTokenDigest is.
func DenyKeyDigest(issuer, keyID string) [sha256.Size]byte {
	var room [denyInput]byte
	b := appendSized(room[:0], denyKeyDomain)
	b = appendSized(b, issuer)
	b = appendSized(b, keyID)
	return sha256.Sum256(b)
}

// appendSized appends a text after its length.
func appendSized(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}
