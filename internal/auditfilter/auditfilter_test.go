package auditfilter_test

import (
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func values(t testing.TB, query string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWhatIsAskedFor(t *testing.T) {
	for query, want := range map[string]store.AuditQuery{
		"":                                      {Limit: 50},
		"action=":                               {Limit: 50},
		"unknown=1&tenant=7":                    {Limit: 50},
		"limit=500&offset=20":                   {Limit: 500, Offset: 20},
		"action=Add_Membership":                 {Limit: 50, Actions: []store.Action{"Add_Membership"}},
		"action=CREATE_ROLE&action=DELETE_ROLE": {Limit: 50, Actions: []store.Action{"CREATE_ROLE", "DELETE_ROLE"}},
		"action=NO_SUCH&action=no_such":         {Limit: 50, Actions: []store.Action{"NO_SUCH"}},
		"action=delete":                         {Limit: 50, Actions: []store.Action{"delete", "DELETE_ROLE", "REMOVE_PARENT", "REMOVE_PERMISSION", "REMOVE_MEMBERSHIP"}},
		"action=DELETE_ROLE&action=Remove":      {Limit: 50, Actions: []store.Action{"DELETE_ROLE", "Remove", "REMOVE_PARENT", "REMOVE_PERMISSION", "REMOVE_MEMBERSHIP"}},
		"action=import":                         {Limit: 50, Actions: []store.Action{"import"}},
		"action=rewrap":                         {Limit: 50, Actions: []store.Action{"rewrap", "REWRAP_AUDIT_KEY", "REWRAP_ENCRYPTION_KEYS"}},
		"entity=role&subject=client:ci":         {Limit: 50, Entity: "role", Subject: "client:ci"},
		"subject='OR'1'='1":                     {Limit: 50, Subject: "'OR'1'='1"},
		"subject=workload:spiffe://example.org/a&actor=cli": {Limit: 50, Subject: "workload:spiffe://example.org/a", Actor: "cli"},
		"outcome=denied":                       {Limit: 50, Outcome: "denied"},
		"since=24h":                            {Limit: 50, Since: now.Add(-24 * time.Hour)},
		"since=7d&until=1d12h":                 {Limit: 50, Since: now.Add(-7 * 24 * time.Hour), Until: now.Add(-36 * time.Hour)},
		"since=2026-01-02T03:04:05Z":           {Limit: 50, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"until=2026-01-02T03:04:05.25%2B02:00": {Limit: 50, Until: time.Date(2026, 1, 2, 1, 4, 5, 250_000_000, time.UTC)},
		"until=0001-01-01T00:00:00Z":           {Limit: 50, Until: time.Time{}.Add(1)}, // and not the zero time, which is none
		"before=17&limit=1":                    {Limit: 1, Before: 17},
		"before=9223372036854775807&offset=0":  {Limit: 50, Before: 1<<63 - 1},
		"since=2026-03-09T12:00:00Z&until=2026-03-09T12:00:00.000001Z": {Limit: 50, Since: now.Add(-24 * time.Hour), Until: now.Add(-24*time.Hour + time.Microsecond)},
	} {
		got, err := auditfilter.Page(values(t, query), now)
		if !got.Until.IsZero() {
			got.Until = got.Until.UTC()
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", query, got, err, want)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: the store refuses it: %v", query, err)
		}
	}
}

func TestWhatWillNotDo(t *testing.T) {
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("action=A" + strings.Repeat("B", i) + "&")
		}
		return b.String()
	}
	for query, want := range map[string]string{
		"limit=0":                              `limit: "0" will not do: it must be an integer from 1 to 500`,
		"limit=501":                            `limit: "501" will not do: it must be an integer from 1 to 500`,
		"limit=":                               `limit: "" will not do: it must be an integer from 1 to 500`,
		"limit=1&limit=2":                      `limit: it is given more than once`,
		"offset=-1":                            `offset: "-1" will not do: it must be an integer from 0 to 2147483647`,
		"before=0":                             `before: "0" will not do: it must be an integer from 1 to 9223372036854775807`,
		"before=1e3":                           `before: "1e3" will not do: it must be an integer from 1 to 9223372036854775807`,
		"before=17&offset=1":                   `before: "17" will not do: it must come without an offset: it says itself where the page begins`,
		"action=a-b":                           `action: "a-b" will not do: it must be 1-64 letters and underscores, such as ADD_MEMBERSHIP`,
		"action=X&action=%25":                  `action: "%" will not do: it must be 1-64 letters and underscores, such as ADD_MEMBERSHIP`,
		names(51):                              `action: "ABBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB" will not do: it must be among 50 different ones at most`,
		"entity=role/editor":                   `entity: "role/editor" will not do: it must be 1-64 letters and underscores: what stands before the first / of a resource, such as role`,
		"entity=":                              `entity: "" will not do: it must be 1-64 letters and underscores: what stands before the first / of a resource, such as role`,
		"entity=role&entity=role":              `entity: it is given more than once`,
		"subject=":                             `subject: "" will not do: it must be visible ASCII characters, such as alice or client:ci`,
		"subject=a%20b":                        `subject: "a b" will not do: it must be visible ASCII characters, such as alice or client:ci`,
		"actor=%00":                            `actor: "\x00" will not do: it must be visible ASCII characters, such as client:ci or cli`,
		"actor=%C3%A9":                         `actor: "é" will not do: it must be visible ASCII characters, such as client:ci or cli`,
		"outcome=ok":                           `outcome: "ok" will not do: it must be one of done, unchanged, missing, denied, error`,
		"since=yesterday":                      `since: "yesterday" will not do: it must be how long ago, such as 24h or 7d, or a time such as 2026-01-02T15:04:05Z`,
		"since=0s":                             `since: "0s" will not do: it must be how long ago, such as 24h or 7d, or a time such as 2026-01-02T15:04:05Z`,
		"until=-1h":                            `until: "-1h" will not do: it must be how long ago, such as 24h or 7d, or a time such as 2026-01-02T15:04:05Z`,
		"until=2026-01-02":                     `until: "2026-01-02" will not do: it must be how long ago, such as 24h or 7d, or a time such as 2026-01-02T15:04:05Z`,
		"since=1h&until=2h":                    `since: "1h" will not do: it must be a time before until`,
		"since=2h&until=2h":                    `since: "2h" will not do: it must be a time before until`,
		"until=1h&until=2h":                    `until: it is given more than once`,
		"subject=" + strings.Repeat("a", 3000): `subject: "` + strings.Repeat("a", 80) + `..." will not do: it must be visible ASCII characters, such as alice or client:ci`,
	} {
		got, err := auditfilter.Page(values(t, query), now)
		var typed *auditfilter.Error
		if err == nil || err.Error() != want || !errors.As(err, &typed) || !strings.HasPrefix(want, typed.Field+": ") || !reflect.DeepEqual(got, store.AuditQuery{}) {
			t.Errorf("%.60s: %+v\n     %v\nwant %s", query, got, err, want)
		}
	}
	if q, err := auditfilter.Page(values(t, names(50)), now); err != nil || len(q.Actions) != 50 {
		t.Errorf("50 actions: %d, %v", len(q.Actions), err)
	}
	if q, err := auditfilter.Filters(values(t, "limit=none&offset=none&before=3"), now); err != nil || q.Limit != 0 || q.Offset != 0 || q.Before != 3 {
		t.Errorf("the filters alone: %+v, %v", q, err)
	}
}

// TestEveryActionHasAVerb: whoever adds an action says which words find it; and no
// verb finds nothing.
func TestEveryActionHasAVerb(t *testing.T) {
	found := map[store.Action]bool{}
	for _, verb := range auditfilter.Verbs() {
		q, err := auditfilter.Filters(url.Values{"action": {verb}}, now)
		if err != nil {
			t.Fatal(err)
		}
		of := 0
		for _, action := range q.Actions {
			if slices.ContainsFunc(store.Actions(), func(a store.Action) bool { return strings.EqualFold(string(a), string(action)) }) {
				found[store.Action(strings.ToUpper(string(action)))] = true
				of++
			}
		}
		if of == 0 {
			t.Errorf("%s finds no action", verb)
		}
	}
	for _, action := range store.Actions() {
		if !found[action] {
			t.Errorf("no verb finds %s: add it to verbs", action)
		}
	}
	if len(store.Actions()) > store.MaxAuditActions {
		t.Errorf("%d actions: a query takes %d", len(store.Actions()), store.MaxAuditActions)
	}
}

func TestTheNextPage(t *testing.T) {
	texts := values(t, "action=delete&action=X&entity=role&subject=a%26b&actor=cli&outcome=done&since=7d&until=2026-03-10T11:00:00%2B02:00&limit=7&offset=14&other=%3E")
	q, err := auditfilter.Page(texts, now)
	if err != nil {
		t.Fatal(err)
	}
	next := auditfilter.Next(texts, &q, 17)
	want := "action=delete&action=X&actor=cli&before=17&entity=role&limit=7&outcome=done&since=2026-03-03T12%3A00%3A00Z&subject=a%26b&until=2026-03-10T11%3A00%3A00%2B02%3A00"
	if got := next.Encode(); got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
	later, err := auditfilter.Page(next, now.Add(time.Hour))
	q.Before, q.Offset = 17, 0
	if err != nil || !later.Since.Equal(q.Since) || !later.Until.Equal(q.Until) {
		t.Fatalf("%+v, %v; want %+v", later, err, q)
	}
	later.Since, later.Until = q.Since, q.Until
	if !reflect.DeepEqual(later, q) {
		t.Errorf("%+v\nwant %+v", later, q)
	}
}

// FuzzPage: what is taken is in the store's bounds and comes back from its own next
// page; all else is a typed error that names a field.
func FuzzPage(f *testing.F) {
	for _, seed := range []string{"", "action=delete&entity=role", "since=7d&until=1h", "before=5&limit=9", "since=0000-01-01T00:00:00%2B14:00", "subject=%ff", "action=a&action=A", "until=9999-12-31T23:59:59-14:00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		texts, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := auditfilter.Page(texts, now)
		if err != nil {
			var typed *auditfilter.Error
			if !errors.As(err, &typed) || typed.Field == "" || (typed.Must == "") != typed.Twice {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		if err := q.Check(); err != nil || q.Limit < 1 || q.Limit > auditfilter.MaxLimit || q.Tenant != 0 || q.NoTotal {
			t.Fatalf("%q: %+v, %v", query, q, err)
		}
		q.Before, q.Offset = 1, 0
		again, err := auditfilter.Page(auditfilter.Next(texts, &q, 1), now.Add(time.Minute))
		if err != nil || !again.Since.Equal(q.Since) || !again.Until.Equal(q.Until) {
			t.Fatalf("%q: %+v, %v; want %+v", query, again, err, q)
		}
		again.Since, again.Until = q.Since, q.Until
		if !reflect.DeepEqual(again, q) {
			t.Fatalf("%q: %+v, want %+v", query, again, q)
		}
	})
}
