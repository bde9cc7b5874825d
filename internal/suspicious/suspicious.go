// Package suspicious reads the audit and tells what of it a person should look at:
// wide grants, removals in bulk, failed authentications in a burst, and whatever
// weakens the audit, the encryption or the signing keys. It is pure: rows go in,
// findings come out. It never guesses: what a row does not say is not found.
package suspicious

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"portcullis/internal/store"
)

// Severity says how much harm may lie behind a finding.
type Severity string

// The severities.
const (
	High   Severity = "high"   // look now
	Medium Severity = "medium" // look today
	Low    Severity = "low"    // look when the audit is reviewed
)

// Threshold is how many within how long are a burst.
type Threshold struct {
	Count  int64         // 1 or more
	Within time.Duration // 1 minute to 24 hours, in whole minutes
}

// String writes the threshold as the page on the rules has it: "20 within 10m".
func (t Threshold) String() string { return fmt.Sprintf("%d within %s", t.Count, span(t.Within)) }

// span writes whole minutes: "5m", "1h".
func span(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// Config says what is looked for. A zero field takes the default that stands beside
// it.
type Config struct {
	// Rules are the ids of the rules that are asked; none is all of them.
	Rules []string
	// WideWords make a name wide that holds one of them as a word, in any case. See
	// DefaultWideWords.
	WideWords []string
	// Removals is how many removals by one actor are a burst: 20 within 10m.
	Removals Threshold
	// AddressFailures is how many failed authentications from one address are a burst:
	// 20 within 5m.
	AddressFailures Threshold
	// AllFailures is the same from all addresses together: 1000 within 1h.
	AllFailures Threshold
	// Refusals is how many operations of one actor that its key does not permit are a
	// burst: 10 within 10m.
	Refusals Threshold
	// MaxRows is how many row ids a finding names, the lowest: 10; 1000 at most.
	MaxRows int
	// MaxFindings is how many findings of one rule are kept, the first that were come
	// upon; others are counted: 1000.
	MaxFindings int
	// MaxCounts is how many counts each of the four burst rules holds at once, at
	// least 1000: 262144. A count is of one actor or address in one second or minute.
	MaxCounts int
}

// DefaultWideWords are the words that make a permission or a role wide.
func DefaultWideWords() []string {
	return []string{"admin", "administrator", "all", "manage", "root", "sudo", "super", "superadmin", "superuser"}
}

func (c Config) withDefaults() (Config, error) {
	if len(c.WideWords) == 0 {
		c.WideWords = DefaultWideWords()
	}
	for _, t := range []struct {
		name string
		is   *Threshold
		base Threshold
	}{
		{"Removals", &c.Removals, Threshold{20, 10 * time.Minute}},
		{"AddressFailures", &c.AddressFailures, Threshold{20, 5 * time.Minute}},
		{"AllFailures", &c.AllFailures, Threshold{1000, time.Hour}},
		{"Refusals", &c.Refusals, Threshold{10, 10 * time.Minute}},
	} {
		if *t.is == (Threshold{}) {
			*t.is = t.base
		}
		if t.is.Count < 1 || t.is.Within < time.Minute || t.is.Within > 24*time.Hour || t.is.Within%time.Minute != 0 {
			return c, fmt.Errorf("%s: %d within %s is no threshold: use a count from 1, within 1 minute to 24 hours in whole minutes", t.name, t.is.Count, t.is.Within)
		}
	}
	c.MaxRows = cmp.Or(c.MaxRows, 10)
	c.MaxFindings = cmp.Or(c.MaxFindings, 1000)
	c.MaxCounts = cmp.Or(c.MaxCounts, 1<<18)
	switch {
	case c.MaxRows < 1 || c.MaxRows > 1000:
		return c, fmt.Errorf("MaxRows: %d is outside 1 to 1000", c.MaxRows)
	case c.MaxFindings < 1:
		return c, fmt.Errorf("MaxFindings: %d is below 1", c.MaxFindings)
	case c.MaxCounts < 1000:
		return c, fmt.Errorf("MaxCounts: %d is below 1000", c.MaxCounts)
	}
	return c, nil
}

// Finding is what one rule found.
type Finding struct {
	Rule     string
	Severity Severity
	Tenant   store.TenantID // 0: of no tenant
	Actor    string         // who did it, as the audit has it
	// ActorTenant is the actor's own tenant where it is another than Tenant, else 0.
	ActorTenant store.TenantID
	First, Last time.Time // the same for one row
	Count       int64     // how many things were done or tried, in all
	What        string    // one sentence, without a full stop
	Rows        []int64   // ids of audit rows, ascending, MaxRows of them at most
	RowCount    int64     // how many rows there were
}

// Report is what was found by now.
type Report struct {
	Findings []Finding // the latest first
	// More counts by rule the findings that were let go beyond MaxFindings.
	More map[string]int64
	// Rows is how many rows were read.
	Rows int64
	// Unread is how many rows say in a form that this program does not write what a
	// rule wanted to know. That rule did not judge them.
	Unread int64
	// Dropped is how many rows were let go of because more was going on at once than
	// MaxCounts: of those who had done least. Nobody is missed who did enough before
	// that, or did it again.
	Dropped int64
}

// Detector reads the rows of one tenant, or of tenant 0. It is not safe for
// concurrent use.
//
// Rows may come in any order while the bursts hold fewer than MaxCounts counts. Beyond
// that the order has to be by time or by id, ascending or descending, where none may be
// out of place by more than 30 minutes: what lies farther behind is judged and
// let go. So memory is bounded whatever is read: MaxFindings findings a rule, and
// MaxCounts counts a burst rule, each about 500 bytes and 8 for each of MaxRows, and what
// the names of actors take. At the default that is some 130 MB a burst rule, while
// hundreds of thousands of addresses fail within the hour; a quiet day takes kilobytes.
type Detector struct {
	cfg      Config
	tenant   store.TenantID
	wide     map[string]bool
	rules    []rule
	findings map[string][]Finding
	more     map[string]int64
	tallies  map[string]*tally
	rows     int64
	unread   int64
}

// New makes a detector for the rows of a tenant. The error names the field that will
// not do.
func New(tenant store.TenantID, cfg Config) (*Detector, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Detector{cfg: cfg, tenant: tenant, wide: make(map[string]bool), findings: make(map[string][]Finding), more: make(map[string]int64), tallies: make(map[string]*tally)}
	for _, word := range cfg.WideWords {
		d.wide[lower(word)] = true
	}
	for _, id := range cfg.Rules {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.ID == id }) {
			return nil, fmt.Errorf("rules: there is no rule %q", id)
		}
	}
	for _, r := range rules {
		if len(cfg.Rules) > 0 && !slices.Contains(cfg.Rules, r.ID) {
			continue
		}
		d.rules = append(d.rules, r)
		if r.burst != nil {
			b := r.burst(&cfg)
			d.tallies[r.ID] = &tally{threshold: b.Threshold, unit: b.unit, maxRows: cfg.MaxRows, maxCounts: cfg.MaxCounts, series: make(map[who]*series)}
		}
	}
	return d, nil
}

// Add reads one row. Those of other tenants are passed over.
func (d *Detector) Add(e *store.AuditEntry) {
	if e.Tenant != d.tenant {
		return
	}
	d.rows++
	unread := false
	for i := range d.rules {
		if r := &d.rules[i]; r.looksAt(e.Action) && !r.see(d, r, e) {
			unread = true
		}
	}
	if unread {
		d.unread++
	}
}

// AddUnreadable reads one row of which a part is sealed and does not open: that is a
// finding itself. Rules judge it by what of it is in clear; its Resource is the kind alone.
func (d *Detector) AddUnreadable(e *store.AuditEntry) {
	d.Add(e)
	if is := slices.IndexFunc(d.rules, func(r rule) bool { return r.ID == UnreadableRow }); is >= 0 && e.Tenant == d.tenant {
		d.found(&d.rules[is], e, "the row of a %s does not open: it was changed, or the key that it is under is gone", quote(string(e.Action)))
	}
}

// Report tells what was found. Rows may still be added after it; a burst that is
// under way is told as far as it has come.
func (d *Detector) Report() Report {
	r := Report{More: maps.Clone(d.more), Rows: d.rows, Unread: d.unread}
	for _, rule := range d.rules {
		all := slices.Clone(d.findings[rule.ID])
		if t := d.tallies[rule.ID]; t != nil {
			for who, s := range t.series {
				for _, b := range s.bursts(t) {
					all = append(all, d.burstFinding(&rule, who, b))
				}
			}
			r.Dropped += t.dropped
		}
		slices.SortFunc(all, compareFindings)
		if over := len(all) - d.cfg.MaxFindings; over > 0 {
			r.More[rule.ID] += int64(over)
			all = all[:d.cfg.MaxFindings]
		}
		r.Findings = append(r.Findings, all...)
	}
	slices.SortStableFunc(r.Findings, compareFindings)
	return r
}

// compareFindings puts the latest first.
func compareFindings(a, b Finding) int {
	return cmp.Or(b.Last.Compare(a.Last), b.First.Compare(a.First), cmp.Compare(a.Rule, b.Rule), slices.Compare(a.Rows, b.Rows),
		cmp.Compare(a.Actor, b.Actor), cmp.Compare(a.What, b.What))
}

// found keeps a finding about one row.
func (d *Detector) found(r *rule, e *store.AuditEntry, format string, args ...any) {
	d.keep(Finding{
		Rule: r.ID, Severity: r.Severity, Tenant: e.Tenant, Actor: e.Actor, ActorTenant: actorTenant(e),
		First: e.Time, Last: e.Time, Count: 1, What: fmt.Sprintf(format, args...), Rows: []int64{e.ID}, RowCount: 1,
	})
}

func (d *Detector) keep(f Finding) {
	if len(d.findings[f.Rule]) >= d.cfg.MaxFindings {
		d.more[f.Rule]++
		return
	}
	d.findings[f.Rule] = append(d.findings[f.Rule], f)
}

// count adds to a burst.
func (d *Detector) count(r *rule, e *store.AuditEntry, by who, n int64, first time.Time) {
	t := d.tallies[r.ID]
	for _, done := range t.add(by, e, n, first) {
		d.keep(d.burstFinding(r, done.by, done.burst))
	}
}

func (d *Detector) burstFinding(r *rule, by who, b burst) Finding {
	f := Finding{
		Rule: r.ID, Severity: r.Severity, Tenant: d.tenant, Actor: by.actor, ActorTenant: by.tenant,
		First: b.first, Last: b.last, Count: b.count, Rows: b.rows, RowCount: b.rowCount,
	}
	f.What = fmt.Sprintf("%s: %d in all, %d of them within %s", r.burst(&d.cfg).what(by), b.count, b.peak, span(d.tallies[r.ID].threshold.Within))
	return f
}
