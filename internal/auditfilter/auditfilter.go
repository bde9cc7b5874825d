// Package auditfilter reads what somebody asks of the audit, in words, into a query
// of the store. The command line and the API take the same words.
//
// A field is a name and its texts, as url.Values has them; one that is not there
// filters nothing, and names that are no field are passed over. It is pure.
package auditfilter

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"portcullis/internal/duration"
	"portcullis/internal/store"
)

// The fields.
const (
	FieldAction  = "action"  // may come several times: an action, or a verb for all of its meaning
	FieldEntity  = "entity"  // the kind of thing, such as role
	FieldSubject = "subject" // whom a row is about
	FieldActor   = "actor"   // who did it
	FieldOutcome = "outcome"
	FieldSince   = "since"  // a time, or how long ago
	FieldUntil   = "until"  // as since; rows before it
	FieldBefore  = "before" // rows with a smaller id
	FieldLimit   = "limit"
	FieldOffset  = "offset"
)

// The window of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 500
	MaxOffset    = math.MaxInt32
)

const (
	maxWord = 64   // bytes of an action or an entity
	maxName = 2100 // bytes of a subject or an actor: a workload's id and its kind
)

// Error is a field that will not do.
type Error struct {
	Field string
	Text  string // as it was given
	Twice bool   // it was given more than once; Must is ""
	Must  string // what would do, after "must"
}

func (e *Error) Error() string {
	if e.Twice {
		return e.Field + ": it is given more than once"
	}
	text := e.Text
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	return fmt.Sprintf("%s: %q will not do: it must %s", e.Field, text, e.Must)
}

// Filters reads all fields but limit and offset. A duration is counted back from
// now. The query's Tenant and Limit are for the caller to set. Errors are *Error.
func Filters(texts map[string][]string, now time.Time) (store.AuditQuery, error) {
	r := reader{texts: texts, now: now.UTC()}
	q := store.AuditQuery{
		Actions: r.actions(),
		Entity:  r.word(FieldEntity, isWord, "be 1-64 letters and underscores: what stands before the first / of a resource, such as role"),
		Subject: r.word(FieldSubject, isName, "be visible ASCII characters, such as alice or client:ci"),
		Actor:   r.word(FieldActor, isName, "be visible ASCII characters, such as client:ci or cli"),
		Outcome: r.word(FieldOutcome, isOutcome, "be one of "+strings.Join(outcomes(), ", ")),
		Since:   r.time(FieldSince),
		Until:   r.time(FieldUntil),
		Before:  r.integer(FieldBefore, 0, 1, math.MaxInt64),
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		r.refuse(FieldSince, texts[FieldSince][0], "be a time before until")
	}
	if r.err != nil {
		return store.AuditQuery{}, r.err
	}
	return q, nil
}

// Page is Filters with the limit and the offset of a page.
func Page(texts map[string][]string, now time.Time) (store.AuditQuery, error) {
	r := reader{texts: texts}
	limit := r.integer(FieldLimit, DefaultLimit, 1, MaxLimit)
	offset := r.integer(FieldOffset, 0, 0, MaxOffset)
	if r.err != nil {
		return store.AuditQuery{}, r.err
	}
	q, err := Filters(texts, now)
	if err != nil {
		return q, err
	}
	q.Limit, q.Offset = int(limit), int(offset)
	if q.Before > 0 && q.Offset > 0 {
		return store.AuditQuery{}, &Error{Field: FieldBefore, Text: texts[FieldBefore][0], Must: "come without an offset: it says itself where the page begins"}
	}
	return q, nil
}

// Next is what asks for the page behind the row before, of a query that Page made
// of these texts: its filters and its limit. Durations become the times that they
// stood for, so that no row falls out of the selection from page to page.
func Next(texts map[string][]string, q *store.AuditQuery, before int64) url.Values {
	next := url.Values{}
	for _, field := range []string{FieldAction, FieldEntity, FieldSubject, FieldActor, FieldOutcome, FieldLimit} {
		if given, ok := texts[field]; ok {
			next[field] = slices.Clone(given)
		}
	}
	for field, t := range map[string]time.Time{FieldSince: q.Since, FieldUntil: q.Until} {
		if !t.IsZero() {
			next.Set(field, t.Format(time.RFC3339Nano))
		}
	}
	next.Set(FieldBefore, strconv.FormatInt(before, 10))
	return next
}

// reader keeps the first error.
type reader struct {
	texts map[string][]string
	now   time.Time
	err   error
}

func (r *reader) refuse(field, text, must string) {
	if r.err == nil {
		r.err = &Error{Field: field, Text: text, Must: must}
	}
}

// one is a field that may come once.
func (r *reader) one(field string) (text string, given bool) {
	switch texts := r.texts[field]; len(texts) {
	case 0:
		return "", false
	case 1:
		return texts[0], true
	}
	if r.err == nil {
		r.err = &Error{Field: field, Twice: true}
	}
	return "", false
}

func (r *reader) word(field string, admits func(string) bool, must string) string {
	text, given := r.one(field)
	if given && !admits(text) {
		r.refuse(field, text, must)
		return ""
	}
	return text
}

func (r *reader) integer(field string, unset, least, most int64) int64 {
	text, given := r.one(field)
	if !given {
		return unset
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		r.refuse(field, text, fmt.Sprintf("be an integer from %d to %d", least, most))
		return unset
	}
	return n
}

func (r *reader) time(field string) time.Time {
	text, given := r.one(field)
	if !given {
		return time.Time{}
	}
	if ago, err := duration.Parse(text); err == nil {
		return r.now.Add(-ago)
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.refuse(field, text, "be how long ago, such as 24h or 7d, or a time such as 2026-01-02T15:04:05Z")
	}
	if err == nil && t.IsZero() {
		return t.Add(time.Nanosecond) // the zero time would filter nothing
	}
	return t
}

// actions reads the actions, each once. An empty one is none.
func (r *reader) actions() []store.Action {
	var out []store.Action
	for _, text := range r.texts[FieldAction] {
		if text == "" {
			continue
		}
		if !isWord(text) {
			r.refuse(FieldAction, text, "be 1-64 letters and underscores, such as ADD_MEMBERSHIP")
			return nil
		}
		for _, action := range selected(text) {
			if !slices.ContainsFunc(out, func(a store.Action) bool { return strings.EqualFold(string(a), string(action)) }) {
				out = append(out, action)
			}
		}
		if len(out) > store.MaxAuditActions {
			r.refuse(FieldAction, text, fmt.Sprintf("be among %d different ones at most", store.MaxAuditActions))
			return nil
		}
	}
	return out
}

func outcomes() []string { return []string{"done", "unchanged", "missing", "denied", "error"} }

func isOutcome(s string) bool { return slices.Contains(outcomes(), s) }

func isWord(s string) bool {
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
}

func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
