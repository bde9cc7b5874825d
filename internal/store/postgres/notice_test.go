package postgres

import (
	"encoding/json"
	"testing"

	"portcullis/internal/store"
)

// FuzzNotice: a notification fits Postgres's payload whatever the write touched, is one
// line of JSON, and says so where it leaves the changes out. It holds indexes and
// digests alone.
func FuzzNotice(f *testing.F) {
	f.Add(int64(1), []byte{1, 2, 3}, uint16(1), int64(7), true)
	f.Add(int64(-1), []byte("'; DROP TABLE roles;--"), uint16(1000), int64(-9223372036854775808), false)
	f.Add(int64(9223372036854775807), []byte("\x00\xff\n"), uint16(60), int64(0), true)
	kinds := []store.ChangeKind{store.ChangeGrant, store.ChangeKey, store.ChangeDenial, store.ChangeTenant}
	f.Fuzz(func(t *testing.T, number int64, content []byte, n uint16, tenant int64, gone bool) {
		rows := make([]store.Change, n%2000)
		for i := range rows {
			rows[i] = store.Change{Kind: kinds[i%len(kinds)], Tenant: store.TenantID(tenant), Gone: gone, Before: number, Expires: tenant}
			copy(rows[i].Index[:], content)
			copy(rows[i].Digest[:], content)
		}
		revision := store.Revision{Number: number}
		copy(revision.Tag[:], content)
		text, err := encodeNotice(revision, rows)
		if err != nil {
			t.Fatal(err)
		}
		var got notice
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(text) > maxNotice {
			t.Fatalf("%d bytes of %d changes: %v", len(text), len(rows), err)
		}
		if got.Revision != number || got.Omitted != (len(got.Changes) != len(rows)) || got.Omitted && len(got.Changes) != 0 {
			t.Fatalf("%d changes became %d, omitted %t, at revision %d of %d", len(rows), len(got.Changes), got.Omitted, got.Revision, number)
		}
	})
}
