package store

import (
	"strings"
	"testing"
	"time"
)

func wholeEntry() AuditEntry {
	return AuditEntry{
		ID: 7, Time: time.Unix(1, 2), Tenant: 3, Actor: "client:ops", User: "alice@example.com", Action: ActionAddPermission,
		Resource: "permission/editor/delete everything", Before: `{"present": false}`, After: `{"present": true}`, Details: `{"kind": "user"}`,
		Outcome: "done", Success: true, Address: "192.0.2.7", UserAgent: "suite/1.0", RequestID: "req-1", Revision: 12,
	}
}

func TestWhatAnAuditRowHidesComesBack(t *testing.T) {
	bare := AuditEntry{Action: ActionAuthFailed, Outcome: "denied"}
	odd := wholeEntry()
	odd.User, odd.Resource, odd.Before, odd.After, odd.Details = "3:bob", "role/5:x\n0:/y", "0:", ":", "\x00é日"
	noSlash := wholeEntry()
	noSlash.Resource = SettingsResource
	for name, entry := range map[string]AuditEntry{"whole": wholeEntry(), "bare": bare, "odd": odd, "settings": noSlash} {
		hidden := entry
		text := hidden.Hide()
		kind, _, _ := strings.Cut(entry.Resource, "/")
		want := entry
		want.User, want.Before, want.After, want.Details, want.Resource = "", "", "", "", kind
		if hidden != want {
			t.Errorf("%s: hidden\n got %+v\nwant %+v", name, hidden, want)
		}
		if err := hidden.Reveal(text); err != nil || hidden != entry {
			t.Errorf("%s: revealed, %v\n got %+v\nwant %+v", name, err, hidden, entry)
		}
	}
}

// Rows that hide different things are hidden as different texts.
func TestHiddenTextsAreUnambiguous(t *testing.T) {
	seen := map[string]AuditEntry{}
	parts := []string{"", "a", "1:a", "0:", "a0:"}
	for _, user := range parts {
		for _, before := range parts {
			for _, after := range parts {
				entry := AuditEntry{User: user, Resource: "role", Before: before, After: after}
				given := entry
				text := entry.Hide()
				if twin, ok := seen[text]; ok {
					t.Errorf("%+v and %+v are both %q", twin, given, text)
				}
				seen[text] = given
			}
		}
	}
}

func TestDamagedTextIsNotRevealed(t *testing.T) {
	whole := wholeEntry()
	text := whole.Hide()
	for n := range len(text) {
		cut := wholeEntry()
		cut.Hide()
		if err := cut.Reveal(text[:n]); err == nil {
			t.Errorf("a text cut off after %d of %d bytes is revealed: %+v", n, len(text), cut)
		}
	}
	for name, damaged := range map[string]string{
		"no length":          "alice" + text,
		"a negative length":  "-1:" + text,
		"a length too large": "99999999999999999999:" + text,
		"text behind it":     text + "x",
		"nothing":            "",
	} {
		if err := new(AuditEntry).Reveal(damaged); err == nil {
			t.Errorf("%s: it is revealed", name)
		}
	}
}

func FuzzReveal(f *testing.F) {
	whole := wholeEntry()
	text := whole.Hide()
	f.Add(text)
	f.Add(strings.Replace(text, ":", "::", 1))
	f.Add("0:0:0:0:0:")
	f.Add("5:alice0:0:0:")
	f.Fuzz(func(t *testing.T, text string) {
		var first AuditEntry
		if first.Reveal(text) != nil {
			return
		}
		// What was revealed hides and comes back.
		again := first
		hidden := again.Hide()
		if err := again.Reveal(hidden); err != nil || again != first {
			t.Errorf("%q: %+v came back as %+v, %v", text, first, again, err)
		}
	})
}
