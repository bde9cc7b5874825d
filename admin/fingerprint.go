package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"portcullis/internal/store"
)

// fingerprint names a presented secret in the audit: `fpr_` and 32 hex digits of
// HMAC-SHA256 over its digest. The tenant is part of the key, so that two tenants
// who compare their trails cannot see that they were shown the same secret. It
// tells no more of a secret than its digest does, and all of them hold 122 random
// bits or more.
func fingerprint(tenant store.TenantID, digest store.Digest) string {
	key := binary.BigEndian.AppendUint64([]byte("portcullis audit fingerprint v1\x00"), uint64(tenant))
	mac := hmac.New(sha256.New, key)
	mac.Write(digest[:]) // never fails
	return "fpr_" + hex.EncodeToString(mac.Sum(nil)[:16])
}
