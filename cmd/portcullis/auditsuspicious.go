package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"portcullis/internal/auditfilter"
	"portcullis/internal/store"
	"portcullis/internal/suspicious"
)

// maxSuspicious is how many findings of all tenants are shown.
const maxSuspicious = 10_000

func auditSuspiciousLong() string {
	var b strings.Builder
	b.WriteString(`Reads the audit and prints what a person should look at, the latest first. What each
rule means and what to do is in docs/audit-suspicious.md. The rules:

`)
	for _, r := range suspicious.Rules() {
		fmt.Fprintf(&b, "  %-23s %s\n", r.ID, r.Short)
	}
	b.WriteString(`
Each tenant is judged by itself, and so is what belongs to no tenant (TENANT -), such
as failed authentications. ROWS are ids of audit rows; +N are N more than are named.

Exit codes: 0 nothing was found, 1 something was, 2 the command line is wrong, 3 the
store could not be asked.`)
	return b.String()
}

func newAuditSuspiciousCommand(p *process) *cobra.Command {
	var since, until, tenant string
	var rules []string
	var all, asJSON bool
	c := &cobra.Command{
		Use:   "suspicious",
		Short: "Find what of the audit somebody should look at",
		Long:  auditSuspiciousLong(),
		Example: `  portcullis audit suspicious --since 7d
  portcullis audit suspicious --tenant acme --rule wide-permission --rule role-deleted
  portcullis audit suspicious --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			texts := map[string][]string{auditfilter.FieldSince: {since}}
			if cmd.Flags().Changed(auditfilter.FieldUntil) {
				texts[auditfilter.FieldUntil] = []string{until}
			}
			within, err := auditfilter.Filters(texts, time.Now())
			if err != nil {
				return usagef("--%w", err)
			}
			s := auditSearch{since: within.Since, until: within.Until}
			if all && cmd.Flags().Changed("tenant") {
				return usagef("--all and --tenant exclude each other: name a tenant, or leave both out for all")
			}
			if err := s.choose(rules); err != nil {
				return usagef("--rule: %w", err)
			}
			return withStore(p, cmd, func(ctx context.Context, d desk) error {
				if err := s.tenants(ctx, d, tenant, cmd.Flags().Changed("tenant")); err != nil {
					return err
				}
				if err := s.run(ctx, p, d); err != nil {
					return err
				}
				s.warn(p)
				if asJSON {
					return answerJSON(p.stdout, s.describe(), len(s.found) == 0)
				}
				return s.print(p)
			})
		},
	}
	c.Flags().StringVar(&since, auditfilter.FieldSince, "24h", "from then on: a `time` as in RFC 3339, or how long ago, such as 24h or 7d")
	c.Flags().StringVar(&until, auditfilter.FieldUntil, "", "up to this `time`, in the forms of --since; without it, to the end")
	c.Flags().StringVar(&tenant, "tenant", "", "only this `tenant`, without what belongs to none")
	c.Flags().BoolVar(&all, "all", false, "all tenants and what belongs to none, as without --tenant")
	c.Flags().StringSliceVar(&rules, "rule", nil, "only this rule, by `id`; may be repeated")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// auditSearch looks through the audit of some tenants.
type auditSearch struct {
	since, until time.Time // until is zero for no end
	cfg          suspicious.Config
	actions      []store.Action // that the rules look at; nil is any
	ids          []store.TenantID
	names        map[store.TenantID]string

	found   []suspicious.Finding
	more    map[string]int64
	rows    int64
	unread  int64
	dropped int64
}

// choose takes the rules that are asked for; none are all.
func (s *auditSearch) choose(ids []string) error {
	known := map[string]suspicious.Rule{}
	for _, r := range suspicious.Rules() {
		known[r.ID] = r
	}
	any := len(ids) == 0
	for _, id := range ids {
		r, ok := known[id]
		if !ok {
			return fmt.Errorf("there is no rule %q: use %s", shorten(id), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		any = any || r.Actions == nil
		for _, action := range r.Actions {
			if !slices.Contains(s.actions, action) {
				s.actions = append(s.actions, action)
			}
		}
	}
	if any || len(s.actions) > store.MaxAuditActions {
		s.actions = nil
	}
	s.cfg.Rules = ids
	return nil
}

// tenants finds whose audit is read: the named tenant's, or all that there is.
func (s *auditSearch) tenants(ctx context.Context, d desk, name string, one bool) error {
	s.names = map[store.TenantID]string{0: ""}
	if one {
		t, err := d.tenant(ctx, name)
		s.ids, s.names[t.ID] = []store.TenantID{t.ID}, t.Name
		return err
	}
	all, err := d.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		s.names[t.ID] = t.Name
	}
	s.ids, err = d.AuditTenants(ctx)
	return err
}

// run reads the rows, tenant by tenant.
func (s *auditSearch) run(ctx context.Context, p *process, d desk) error {
	s.more = map[string]int64{}
	shown := newProgress(p.stderr)
	defer shown.end()
	for i, id := range s.ids {
		show := func(read int64) {
			shown.show(fmt.Sprintf("%d rows of the audit read, in %d of %d tenants", s.rows+read, i+1, len(s.ids)), 0, 0)
		}
		r, err := s.pages(ctx, d, id, show)
		if errors.Is(err, store.ErrUnreadable) {
			r, err = s.walk(ctx, d, id, show)
		}
		if err != nil {
			return err
		}
		s.take(r)
	}
	slices.SortStableFunc(s.found, func(a, b suspicious.Finding) int { return b.Last.Compare(a.Last) })
	return nil
}

// pages reads a tenant's rows page by page, the newest first. A row that does not open
// is an ErrUnreadable.
func (s *auditSearch) pages(ctx context.Context, d desk, id store.TenantID, show func(read int64)) (suspicious.Report, error) {
	detector, err := suspicious.New(id, s.cfg)
	if err != nil {
		return suspicious.Report{}, err
	}
	query := store.AuditQuery{Tenant: id, Actions: s.actions, Since: s.since, Until: s.until, Limit: store.MaxAuditPage, NoTotal: true}
	for read := int64(0); ; {
		entries, _, err := d.Audit(ctx, query)
		if err != nil {
			return suspicious.Report{}, err
		}
		for i := range entries {
			detector.Add(&entries[i])
		}
		read += int64(len(entries))
		show(read)
		if len(entries) < query.Limit {
			return detector.Report(), nil
		}
		query.Before = entries[len(entries)-1].ID
	}
}

// walk reads all of a tenant's rows, since rows that do not open must not hide others.
// It is slower than pages: it knows no time and no actions.
func (s *auditSearch) walk(ctx context.Context, d desk, id store.TenantID, show func(read int64)) (suspicious.Report, error) {
	detector, err := suspicious.New(id, s.cfg)
	if err != nil {
		return suspicious.Report{}, err
	}
	for read, from := int64(0), int64(store.FirstAuditRow); ; {
		page, err := d.WalkAudit(ctx, id, from, store.MaxAuditWalk)
		if err != nil {
			return detector.Report(), err
		}
		for i := range page {
			e := store.AuditOf(&page[i].Row)
			switch {
			case e.Time.Before(s.since) || !s.until.IsZero() && !e.Time.Before(s.until):
			case page[i].Unreadable != "":
				detector.AddUnreadable(&e)
			default:
				detector.Add(&e)
			}
		}
		read += int64(len(page))
		show(read)
		more := false
		if from, more = store.AfterWalk(page); !more {
			return detector.Report(), nil
		}
	}
}

// take keeps what was found in one tenant, within the bound.
func (s *auditSearch) take(r suspicious.Report) {
	keep := min(len(r.Findings), maxSuspicious-len(s.found))
	for _, f := range r.Findings[keep:] {
		s.more[f.Rule]++
	}
	s.found = append(s.found, r.Findings[:keep]...)
	for rule, n := range r.More {
		s.more[rule] += n
	}
	s.rows, s.unread, s.dropped = s.rows+r.Rows, s.unread+r.Unread, s.dropped+r.Dropped
}

// warn says why the answer may be less than it seems.
func (s *auditSearch) warn(p *process) {
	for _, rule := range slices.Sorted(maps.Keys(s.more)) {
		fmt.Fprintf(p.stderr, "warning: %d more findings of rule %s are not shown: ask for a shorter time, or for one tenant\n", s.more[rule], rule)
	}
	if s.unread > 0 {
		fmt.Fprintf(p.stderr, "warning: some rules could not judge %s, not in the form in which rows are written here: imported ones are so; see others with `portcullis audit query --json`\n", count(int(s.unread), "row"))
	}
	if s.dropped > 0 {
		fmt.Fprintf(p.stderr, "warning: %s of actors and addresses that did least were let go of, since more was going on at once than is kept: ask for a shorter time\n", count(int(s.dropped), "row"))
	}
}

func (s *auditSearch) tenant(id store.TenantID) string {
	if name, ok := s.names[id]; ok {
		return name
	}
	return fmt.Sprintf("#%d", id)
}

func (s *auditSearch) print(p *process) error {
	if len(s.found) == 0 {
		fmt.Fprintf(p.stdout, "nothing suspicious in %s of the audit\n", count(int(s.rows), "row"))
		return nil
	}
	rows := make([][]string, 0, len(s.found))
	for _, f := range s.found {
		actor := f.Actor
		if f.ActorTenant != 0 {
			actor += "@" + s.tenant(f.ActorTenant)
		}
		ids := make([]string, 0, len(f.Rows))
		for _, id := range f.Rows {
			ids = append(ids, strconv.FormatInt(id, 10))
		}
		named := strings.Join(ids, ",")
		if over := f.RowCount - int64(len(f.Rows)); over > 0 {
			named += fmt.Sprintf(" +%d", over)
		}
		rows = append(rows, []string{f.Rule, s.tenant(f.Tenant), showTime(f.First, ""), showTime(f.Last, ""), actor, f.What, named})
	}
	if err := printTable(p.stdout, []string{"RULE", "TENANT", "FROM", "TO", "ACTOR", "WHAT", "ROWS"}, rows); err != nil {
		return err
	}
	return answerNo()
}

// suspicionsJSON is what was found, for scripts.
type suspicionsJSON struct {
	Since    time.Time       `json:"since"`
	Until    *time.Time      `json:"until"` // null for no end
	Read     int64           `json:"rows_read"`
	Findings []suspicionJSON `json:"findings"`
	// Why there may be more; see the warnings.
	More    map[string]int64 `json:"more_findings"` // by rule
	Unread  int64            `json:"rows_unread"`
	Dropped int64            `json:"rows_dropped"`
}

type suspicionJSON struct {
	Rule        string    `json:"rule"`
	Severity    string    `json:"severity"`
	Tenant      string    `json:"tenant"` // "" for none
	Actor       string    `json:"actor"`
	ActorTenant string    `json:"actor_tenant"` // "" where it is the tenant's own
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Count       int64     `json:"count"`
	What        string    `json:"what"`
	Rows        []int64   `json:"rows"`
	RowCount    int64     `json:"row_count"`
}

func (s *auditSearch) describe() suspicionsJSON {
	out := suspicionsJSON{Since: s.since.UTC(), Until: jsonTime(s.until), Read: s.rows, Findings: []suspicionJSON{}, More: s.more, Unread: s.unread, Dropped: s.dropped}
	for _, f := range s.found {
		j := suspicionJSON{
			Rule: f.Rule, Severity: string(f.Severity), Tenant: s.tenant(f.Tenant), Actor: f.Actor,
			First: f.First.UTC(), Last: f.Last.UTC(), Count: f.Count, What: f.What, Rows: f.Rows, RowCount: f.RowCount,
		}
		if f.ActorTenant != 0 {
			j.ActorTenant = s.tenant(f.ActorTenant)
		}
		out.Findings = append(out.Findings, j)
	}
	return out
}
