package postgres

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"portcullis/internal/store"
)

// channel is where writes are notified.
const channel = "portcullis"

const (
	sqlNotify = `SELECT pg_notify('` + channel + `', $1)`
	sqlListen = `LISTEN ` + channel
)

// maxNotice is below Postgres's limit of 8,000 bytes for a payload.
const maxNotice = 7900

// notice is the payload of a notification: what Delta would say, where it fits.
// It is a hint, and nothing that decides may rest on it: notifications are not
// authenticated within the database.
type notice struct {
	Revision int64          `json:"revision"`
	Tag      string         `json:"tag"`
	Changes  []noticeChange `json:"changes,omitempty"`
	Omitted  bool           `json:"omitted,omitempty"` // there are changes, and they did not fit
}

type noticeChange struct {
	Kind   store.ChangeKind `json:"kind"`
	Tenant store.TenantID   `json:"tenant"`
	Index  string           `json:"index,omitempty"`
	Digest string           `json:"digest,omitempty"`
	Gone   bool             `json:"gone,omitempty"`
	// Of a denial, in Unix nanoseconds.
	Before  int64 `json:"issued_before,omitempty"`
	Expires int64 `json:"expires_at,omitempty"`
}

func encodeNotice(revision store.Revision, rows []store.Change) (string, error) {
	n := notice{Revision: revision.Number, Tag: revision.Tag.String()}
	// Each change takes 40 bytes at least: no need to encode what cannot fit.
	n.Omitted = len(rows) > maxNotice/40
	if !n.Omitted {
		n.Changes = make([]noticeChange, 0, len(rows))
		for _, row := range rows {
			c := noticeChange{Kind: row.Kind, Tenant: row.Tenant, Gone: row.Gone, Before: row.Before, Expires: row.Expires}
			switch row.Kind {
			case store.ChangeGrant:
				c.Index = hex.EncodeToString(row.Index[:])
			case store.ChangeKey, store.ChangeDenial:
				c.Digest = row.Digest.String()
			}
			n.Changes = append(n.Changes, c)
		}
	}
	text, err := json.Marshal(n)
	if err == nil && len(text) > maxNotice {
		n.Changes, n.Omitted = nil, true
		text, err = json.Marshal(n)
	}
	if err != nil {
		return "", fmt.Errorf("encode the notification: %w", err)
	}
	return string(text), nil
}
