package suspicious

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
)

// failed is a minute's failed authentications, as the admin API writes them.
func failed(address string, at time.Time, n int64) store.AuditEntry {
	return store.AuditEntry{
		Time: at, Actor: "unauthenticated", Action: store.ActionAuthFailed, Resource: "authentication", Outcome: "denied", Address: address,
		Details: fmt.Sprintf(`{"reason":"bad_key","count":%d,"first":%q,"last":%q}`, n, at.Add(-20*time.Second).Format(time.RFC3339), at.Format(time.RFC3339)),
	}
}

// every is a row of a kind each step of the way.
func every(n int, step time.Duration, row store.AuditEntry) []store.AuditEntry {
	var rows []store.AuditEntry
	for i := range n {
		row.Time = noon.Add(time.Duration(i) * step)
		rows = append(rows, row)
	}
	return rows
}

// later moves rows in time.
func later(by time.Duration, rows []store.AuditEntry) []store.AuditEntry {
	for i := range rows {
		rows[i].Time = rows[i].Time.Add(by)
	}
	return rows
}

func TestBursts(t *testing.T) {
	removed := func(actor string, action store.Action) store.AuditEntry {
		return store.AuditEntry{Actor: actor, Action: action, Outcome: "done", Resource: "membership/editor"}
	}
	refused := func(status int) store.AuditEntry {
		return store.AuditEntry{Actor: "client:ci", Action: store.ActionCreateRole, Outcome: "denied", Details: fmt.Sprintf(`{"status":%d}`, status)}
	}
	check := store.AuditEntry{Actor: "client:ci", Action: store.ActionCheckPermission, Outcome: "denied"}
	permitted := refused(403)
	permitted.Outcome = "done"
	const here = "203.0.113.9"
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute)*time.Minute + 30*time.Second) }
	unchanged := removed("cli", store.ActionRemoveMembership)
	unchanged.Outcome = "unchanged"
	ended := removed("cli", store.ActionRevokeToken)
	foreign := removed("cli", store.ActionRemoveMembership)
	foreign.Details = `{"actor_tenant":3}`
	for _, c := range []struct {
		name string
		rows []store.AuditEntry
		want []string
		what string
	}{
		{"20 removals in ten minutes", every(20, 31*time.Second, removed("cli", store.ActionRemoveMembership)), []string{MassRemoval},
			"removals by one actor: 20 in all, 20 of them within 10m"},
		{"20 removals in ten minutes of eleven by the clock", later(50*time.Second, every(20, 31*time.Second, removed("cli", store.ActionRemoveMembership))), []string{MassRemoval}, ""},
		{"19 removals in ten minutes", every(19, time.Second, removed("cli", store.ActionRemoveMembership)), nil, ""},
		{"20 removals, the last ten minutes after the first", every(20, 32*time.Second, removed("cli", store.ActionRemoveMembership)), nil, ""},
		{"20 removals of all kinds", slices.Concat(every(10, time.Second, removed("cli", store.ActionRevokeUserKey)), every(10, time.Second, removed("cli", store.ActionRemovePermission))), []string{MassRemoval}, ""},
		{"20 removals by two actors", slices.Concat(every(10, time.Second, removed("cli", store.ActionRemoveMembership)), every(10, time.Second, removed("client:ci", store.ActionRemoveMembership))), nil, ""},
		{"20 removals by two of one name in two tenants", slices.Concat(every(10, time.Second, removed("cli", store.ActionRemoveMembership)), every(10, time.Second, foreign)), nil, ""},
		{"20 removals of nothing", every(20, time.Second, unchanged), nil, ""},
		{"20 tokens revoked", every(20, time.Second, ended), nil, ""},

		{"20 failures from an address in a minute, in one row", []store.AuditEntry{failed(here, at(0), 20)}, []string{AddressFailures},
			"failed authentications from 203.0.113.9: 20 in all, 20 of them within 5m"},
		{"19 failures from an address", []store.AuditEntry{failed(here, at(0), 19)}, nil, ""},
		{"4 failures a minute for five minutes", []store.AuditEntry{failed(here, at(0), 4), failed(here, at(1), 4), failed(here, at(2), 4), failed(here, at(3), 4), failed(here, at(4), 4)}, []string{AddressFailures}, ""},
		{"4 failures a minute for five minutes of six", []store.AuditEntry{failed(here, at(0), 4), failed(here, at(1), 4), failed(here, at(2), 4), failed(here, at(3), 4), failed(here, at(5), 4)}, nil, ""},
		{"20 failures from two addresses", []store.AuditEntry{failed(here, at(0), 10), failed("203.0.113.10", at(0), 10)}, nil, ""},
		{"20 failures from nobody knows where", []store.AuditEntry{failed("", at(0), 20)}, nil, ""},
		{"as the API wrote it, of one that is named and of the others", []store.AuditEntry{
			failed(here, at(0), 20),
			{Time: at(0), Action: store.ActionAuthFailed, Outcome: "denied", Details: `{"reason":"bad_key","addresses":"others","count":980,"first":"x","last":"x"}`},
		}, []string{AddressFailures, AllFailures}, ""},
		{"1000 failures from all addresses in an hour", spread(at, 50, 20, 59), []string{AllFailures}, "failed authentications from all addresses: 1000 in all, 1000 of them within 1h"},
		{"999 failures from all addresses in an hour", spread(at, 50, 20, 59)[1:], nil, ""},
		{"1000 failures from all addresses in an hour and a minute", spread(at, 50, 20, 60), nil, ""},

		{"10 refusals in ten minutes", every(10, 66*time.Second, refused(403)), []string{Refusals}, "operations that the actor's key does not permit: 10 in all, 10 of them within 10m"},
		{"9 refusals", every(9, time.Second, refused(403)), nil, ""},
		{"10 refusals, the last ten minutes after the first", every(10, 67*time.Second, refused(403)), nil, ""},
		{"10 mistakes", every(10, time.Second, refused(400)), nil, ""},
		{"10 that were not there", every(10, time.Second, refused(404)), nil, ""},
		{"10 that were done", every(10, time.Second, permitted), nil, ""},
		{"10 checks with a negative answer", every(10, time.Second, check), nil, ""},
	} {
		r := read(t, Config{}, 0, c.rows...)
		if got := ids(r); !slices.Equal(got, append([]string{}, c.want...)) || r.Unread != 0 {
			t.Errorf("%s: found %v, %d unread; want %v", c.name, got, r.Unread, c.want)
		} else if c.what != "" && r.Findings[0].What != c.what {
			t.Errorf("%s: says %q, want %q", c.name, r.Findings[0].What, c.what)
		}
	}
}

// spread is one failure each of n addresses, rows a time, between the minute 0 and
// the last one.
func spread(at func(int) time.Time, n, each, last int) []store.AuditEntry {
	var rows []store.AuditEntry
	for i := range n {
		for j := range each {
			minute := i * last / (n - 1)
			rows = append(rows, failed(fmt.Sprintf("10.0.%d.%d", i, j), at(minute), 1))
		}
	}
	return rows
}

func TestABurstIsToldWhole(t *testing.T) {
	// Twelve minutes of one burst, a pause, and another.
	var rows []store.AuditEntry
	for minute := range 12 {
		rows = append(rows, failed("203.0.113.9", noon.Add(time.Duration(minute)*time.Minute+30*time.Second), 10))
	}
	rows = append(rows, failed("203.0.113.9", noon.Add(time.Hour), 25))
	r := read(t, Config{}, 0, rows...)
	if len(r.Findings) != 2 {
		t.Fatalf("found %+v, want two bursts", r.Findings)
	}
	second, first := r.Findings[0], r.Findings[1]
	if first.Count != 120 || first.RowCount != 12 || !slices.Equal(first.Rows, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) || first.Actor != "unauthenticated" {
		t.Errorf("the first is %+v", first)
	}
	if !first.First.Equal(noon.Add(10*time.Second)) || !first.Last.Equal(noon.Add(11*time.Minute+30*time.Second)) {
		t.Errorf("the first is from %s to %s", first.First, first.Last)
	}
	if !strings.HasSuffix(first.What, ": 120 in all, 50 of them within 5m") || second.Count != 25 {
		t.Errorf("says %q, then %d", first.What, second.Count)
	}
}

// mixed are rows of a few hours in which all bursts happen.
func mixed(rng *rand.Rand) []store.AuditEntry {
	var rows []store.AuditEntry
	for i := range 4000 {
		at := noon.Add(time.Duration(i*3) * time.Second)
		switch rng.IntN(4) {
		case 0:
			rows = append(rows, store.AuditEntry{Time: at, Actor: fmt.Sprintf("client:%d", i/400+rng.IntN(2)), Action: store.ActionRemoveMembership, Outcome: "done"})
		case 1:
			rows = append(rows, store.AuditEntry{Time: at, Actor: fmt.Sprintf("client:%d", i/400+rng.IntN(4)), Action: store.ActionCreateRole, Outcome: "denied", Details: `{"status":403}`})
		default:
			// Written when the minute is over, or later.
			rows = append(rows, failed(fmt.Sprintf("10.0.0.%d", rng.IntN(40)), at.Add(-time.Duration(rng.IntN(900))*time.Second), 1+rng.Int64N(6)))
		}
	}
	for i := range rows {
		rows[i].ID = int64(i + 1)
	}
	return rows
}

// TestTheOrderDoesNotMatter reads the same rows by id, backwards and shuffled.
func TestTheOrderDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := mixed(rng)
	want := read(t, Config{}, 0, rows...)
	found := map[string]int{}
	for _, f := range want.Findings {
		found[f.Rule]++
	}
	for _, rule := range []string{MassRemoval, Refusals, AddressFailures, AllFailures} {
		if found[rule] == 0 {
			t.Errorf("the rows hold no %s", rule)
		}
	}
	slices.Reverse(rows)
	if got := read(t, Config{}, 0, rows...); !reflect.DeepEqual(got, want) {
		t.Error("backwards, the report is another")
	}
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if got := read(t, Config{}, 0, rows...); !reflect.DeepEqual(got, want) {
		t.Error("shuffled, the report is another")
	}
}

// TestMemoryIsBounded reads far more than may be held at once, newest first, with one
// address that fails steadily among thousands that fail once.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 2000
	d, err := New(0, Config{MaxCounts: limit, Rules: []string{AddressFailures, AllFailures}})
	if err != nil {
		t.Fatal(err)
	}
	const minutes = 600
	id := int64(1 << 40)
	for minute := minutes; minute > 0; minute-- {
		at := noon.Add(time.Duration(minute) * time.Minute)
		add := func(e store.AuditEntry) {
			id--
			e.ID = id
			d.Add(&e)
			checkHeld(t, d, limit)
		}
		for i := range 40 {
			add(failed(fmt.Sprintf("10.%d.%d.%d", minute>>8, minute&255, i), at, 1))
		}
		if minute%100 < 10 {
			add(failed("203.0.113.9", at, 9))
		}
	}
	r := d.Report()
	bursts, total := 0, 0
	for _, f := range r.Findings {
		switch {
		case f.Rule == AllFailures:
			total++
		case strings.Contains(f.What, "203.0.113.9"):
			bursts++
		default:
			t.Errorf("found %q, and it is none", f.What)
		}
	}
	if bursts != minutes/100 || total == 0 {
		t.Errorf("found %d bursts and %d in total, want %d and some", bursts, total, minutes/100)
	}
}

// checkHeld counts what a detector holds.
func checkHeld(t *testing.T, d *Detector, limit int) {
	t.Helper()
	for rule, tally := range d.tallies {
		held := 0
		for _, s := range tally.series {
			held += len(s.counts)
		}
		if held > limit || held != tally.counts {
			t.Fatalf("%s holds %d counts and says %d, with a limit of %d", rule, held, tally.counts, limit)
		}
	}
}

// TestTheLightestAreLetGo has more going on at once than may be held: who did least
// is let go of, which the report says.
func TestTheLightestAreLetGo(t *testing.T) {
	const limit = 1000
	d, err := New(0, Config{MaxCounts: limit, Rules: []string{AddressFailures}})
	if err != nil {
		t.Fatal(err)
	}
	add := func(e store.AuditEntry) {
		e.ID = d.rows + 1
		d.Add(&e)
		checkHeld(t, d, limit)
	}
	for i := range 2500 {
		for minute := range 2 {
			add(failed(fmt.Sprintf("10.0.%d.%d", i>>8, i&255), noon.Add(time.Duration(minute)*time.Minute), 1))
		}
		if i%50 == 0 {
			add(failed("203.0.113.9", noon, 1))
		}
	}
	r := d.Report()
	if !slices.Equal(ids(r), []string{AddressFailures}) || r.Findings[0].Count != 50 {
		t.Errorf("found %+v, want the 50 failures of one", r.Findings)
	}
	if r.Dropped < 4000 || r.Dropped > 5000 {
		t.Errorf("%d rows were let go of, want the most of 5000", r.Dropped)
	}
}

// A row that claims more than can be is not more than a number.
func TestClaimsOfAnySize(t *testing.T) {
	var rows []store.AuditEntry
	for i := range 100 {
		rows = append(rows, failed("203.0.113.9", noon.Add(time.Duration(i)*time.Minute), 1<<62))
	}
	r := read(t, Config{}, 0, rows...)
	if !slices.Equal(ids(r), []string{AddressFailures, AllFailures}) {
		t.Fatalf("found %v", ids(r))
	}
	for _, f := range r.Findings {
		if f.Count != 100*maxFailures {
			t.Errorf("%s counts %d", f.Rule, f.Count)
		}
	}
}
