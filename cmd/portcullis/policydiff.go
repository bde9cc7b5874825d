package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"portcullis/internal/decisionlog"
	"portcullis/internal/store"
	"portcullis/policy"
)

const policyDiffLong = `Replays a recorded decision log against two policies and prints who would be newly
denied or newly allowed, by rule, with counts and examples. The log must be one
of all decisions (AUTH_DECISION_LOG=all); - reads it from standard input.

A log names the caller's roles; what a role permits comes from the store that
the settings name, as it is now, or from the file of --roles:

  roles:
    viewer: {permissions: [view_content]}
    editor: {permissions: [edit_content], parents: [viewer]}

Both policies are asked, so what has changed in the store since makes no
difference between them; decisions that OLD would make otherwise than the log has
them are counted. What a log does not hold cannot be decided, and is counted by
what is missing: when (a condition on headers, the query, claims or context),
caller (nobody was asked then), roles (they were not looked up then), text (the log
cut it). A condition that both policies have on one path is taken from the log.
What routes of Envoy name in context_extensions is not in a log.

Exit codes: 0 nothing changes, 1 something does or could, 2 a file is wrong or
cannot be read.`

func newPolicyDiffCommand(p *process) *cobra.Command {
	var decisions, roles string
	var asJSON bool
	c := &cobra.Command{
		Use:     "diff OLD NEW --decisions FILE",
		Short:   "Show whom a draft would newly deny or allow",
		Long:    policyDiffLong,
		Example: "  portcullis policy diff policy.yaml draft.yaml --decisions decisions.jsonl\n  portcullis policy diff policy.yaml draft.yaml --decisions - --roles roles.yaml --json < decisions.jsonl",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s takes two policy files, OLD and NEW (see `%[1]s --help`)", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if decisions == "" {
				return usagef("--decisions is missing: name the decision log to replay, or - for standard input")
			}
			d := policyDiff{byTenant: map[string]*policy.RoleTable{}}
			var err error
			if d.old, err = policy.Load(args[0]); err != nil {
				return usagef("%w", err)
			}
			if d.new, err = policy.Load(args[1]); err != nil {
				return usagef("%w", err)
			}
			if roles != "" {
				if d.everywhere, err = policy.LoadRoles(roles); err != nil {
					return usagef("--roles: %w", err)
				}
				err = d.replayFile(p, decisions)
			} else {
				err = withStore(p, cmd, func(ctx context.Context, s desk) error {
					d.load = func(tenant string) (*policy.RoleTable, error) { return loadRoleTable(ctx, s, tenant) }
					return d.replayFile(p, decisions)
				})
			}
			if err != nil {
				return err
			}
			r := d.report()
			for _, warning := range r.warnings() {
				fmt.Fprintf(p.stderr, "warning: %s\n", warning)
			}
			if asJSON {
				return answerJSON(p.stdout, r, r.same())
			}
			return answer(p.stdout, r.text(), r.same())
		},
	}
	c.Flags().StringVar(&decisions, "decisions", "", "the decision log to replay, a `file` of JSON lines, or -")
	c.Flags().StringVar(&roles, "roles", "", "take what roles permit from this `file`, not from the store")
	addJSONFlag(c, &asJSON)
	p.addSettings(c, storeSettings)
	return c
}

// loadRoleTable reads a tenant's roles; a tenant that is gone has none.
func loadRoleTable(ctx context.Context, s desk, tenant string) (*policy.RoleTable, error) {
	t, err := s.TenantByName(ctx, tenant)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	roles, err := s.Roles(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return policy.NewRoleTable(roles.Roles), nil
}

// maxExamples is how many different requests are shown of each change.
const maxExamples = 3

// policyDiff gathers what two policies say of a log.
type policyDiff struct {
	old, new   *policy.Policy
	everywhere *policy.RoleTable // of every tenant, from --roles
	byTenant   map[string]*policy.RoleTable
	load       func(tenant string) (*policy.RoleTable, error)

	counts  policyDiffReport
	changes map[changeKey]*policyChange
}

type changeKey struct{ oldRule, newRule, oldReason, newReason string }

// policyDiffReport is what `policy diff` found.
type policyDiffReport struct {
	Decisions    int            `json:"decisions"`
	Alike        int            `json:"alike"`
	NewlyDenied  int            `json:"newly_denied"`
	NewlyAllowed int            `json:"newly_allowed"`
	Undecidable  map[string]int `json:"undecidable"` // by what is missing
	Drifted      int            `json:"drifted"`     // that OLD would make otherwise than the log has them
	Skipped      int            `json:"skipped"`     // faults, and what was refused before rules were asked
	Others       int            `json:"other_lines"`
	Changes      []policyChange `json:"changes"`

	allowed, sampled int
}

// policyChange is one way in which verdicts change.
type policyChange struct {
	Change    string              `json:"change"` // newly_denied or newly_allowed
	OldRule   string              `json:"old_rule"`
	NewRule   string              `json:"new_rule"`
	OldReason string              `json:"old_reason"`
	NewReason string              `json:"new_reason"`
	Count     int                 `json:"count"`
	Examples  []policyDiffExample `json:"examples"`
}

type policyDiffExample struct {
	DecisionID string   `json:"decision_id"`
	Method     string   `json:"method"`
	Host       string   `json:"host"`
	Path       string   `json:"path"`
	Principal  string   `json:"principal"` // "" for nobody
	Roles      []string `json:"roles"`
}

func (d *policyDiff) replayFile(p *process, name string) error {
	in := p.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return usagef("--decisions: %w", err)
		}
		defer f.Close()
		in = f
	}
	return d.replay(in)
}

func (d *policyDiff) replay(in io.Reader) error {
	d.counts.Undecidable = map[string]int{}
	d.changes = map[changeKey]*policyChange{}
	others, err := decisionlog.Read(in, d.one)
	d.counts.Others = others
	return err
}

// one replays one decision.
func (d *policyDiff) one(line *decisionlog.Line) error {
	reason, known := policy.ParseReason(line.Reason)
	if line.Effect == policy.Allow.String() {
		d.counts.allowed++
	}
	if line.SampleRate > 0 && line.SampleRate < 1 {
		d.counts.sampled++
	}
	d.counts.Decisions++
	switch {
	case !known, reason.Effect() == policy.Fault, reason == policy.ReasonInternal, reason == policy.ReasonTooLarge, reason == policy.ReasonOverloaded:
		d.counts.Skipped++
		return nil
	}
	kind, _ := policy.ParseKind(line.Principal.Kind)
	rec := policy.Recorded{
		Method: line.Method, Host: line.Host, Path: line.Path, Roles: line.Roles, Now: line.Time.UnixNano(),
		Principal:   policy.Principal{Tenant: line.Principal.Tenant, Kind: kind, ID: line.Principal.ID},
		Certificate: cmp.Or(line.Proof.SPIFFE, line.Actor), Issuer: line.Proof.Issuer,
		Rule: line.Rule, Reason: reason, PolicyDigest: line.PolicyDigest, Truncated: line.Truncated,
	}
	roles, err := d.rolesOf(rec.Principal.Tenant)
	if err != nil {
		return err
	}
	before, after := policy.Replay(&rec, d.old, d.new, roles)
	if before.Unknown == "" && before.Reason.Effect() != reason.Effect() {
		d.counts.Drifted++
	}
	switch {
	case after.Unknown != "":
		d.counts.Undecidable[string(after.Unknown)]++
	case before.Unknown != "":
		d.counts.Undecidable[string(before.Unknown)]++
	case before.Reason.Effect() == after.Reason.Effect():
		d.counts.Alike++
	default:
		d.changed(line, &rec, before, after)
	}
	return nil
}

func (d *policyDiff) rolesOf(tenant string) (*policy.RoleTable, error) {
	if d.load == nil || tenant == "" {
		return d.everywhere, nil
	}
	if t, ok := d.byTenant[tenant]; ok {
		return t, nil
	}
	t, err := d.load(tenant)
	if err != nil {
		return nil, err
	}
	d.byTenant[tenant] = t
	return t, nil
}

func (d *policyDiff) changed(line *decisionlog.Line, rec *policy.Recorded, before, after policy.Replayed) {
	change := "newly_denied"
	if after.Reason.Effect() == policy.Allow {
		change = "newly_allowed"
		d.counts.NewlyAllowed++
	} else {
		d.counts.NewlyDenied++
	}
	key := changeKey{ruleName(before.Rule), ruleName(after.Rule), before.Reason.String(), after.Reason.String()}
	c := d.changes[key]
	if c == nil {
		c = &policyChange{Change: change, OldRule: key.oldRule, NewRule: key.newRule, OldReason: key.oldReason, NewReason: key.newReason}
		d.changes[key] = c
	}
	c.Count++
	e := policyDiffExample{DecisionID: line.DecisionID, Method: rec.Method, Host: rec.Host, Path: rec.Path, Roles: slices.Clone(rec.Roles)}
	if rec.Principal != (policy.Principal{}) {
		e.Principal = rec.Principal.String()
	}
	if e.Roles == nil {
		e.Roles = []string{}
	}
	alike := func(o policyDiffExample) bool {
		return o.Method == e.Method && o.Host == e.Host && o.Path == e.Path && o.Principal == e.Principal
	}
	if len(c.Examples) < maxExamples && !slices.ContainsFunc(c.Examples, alike) {
		c.Examples = append(c.Examples, e)
	}
}

func ruleName(r *policy.Rule) string {
	if r == nil {
		return ""
	}
	return r.Name
}

// report orders the changes: denials first, then by count.
func (d *policyDiff) report() policyDiffReport {
	r := d.counts
	r.Changes = []policyChange{}
	for _, c := range d.changes {
		r.Changes = append(r.Changes, *c)
	}
	slices.SortFunc(r.Changes, func(a, b policyChange) int {
		return cmp.Or(-cmp.Compare(a.Change, b.Change), -cmp.Compare(a.Count, b.Count), cmp.Compare(a.OldRule, b.OldRule),
			cmp.Compare(a.NewRule, b.NewRule), cmp.Compare(a.OldReason, b.OldReason), cmp.Compare(a.NewReason, b.NewReason))
	})
	return r
}

func (r *policyDiffReport) undecided() int {
	n := 0
	for _, of := range r.Undecidable {
		n += of
	}
	return n
}

// same reports whether the draft decides as the old policy does, all of it.
func (r *policyDiffReport) same() bool {
	return r.NewlyDenied == 0 && r.NewlyAllowed == 0 && r.undecided() == 0
}

// warnings say why a report may be less than it seems.
func (r *policyDiffReport) warnings() []string {
	var list []string
	if r.Decisions == 0 {
		list = append(list, "the log has no decisions")
	} else if r.allowed == 0 {
		list = append(list, "the log has no allowed decision, so nothing shows who would be newly denied: record one with AUTH_DECISION_LOG=all")
	}
	if r.sampled > 0 {
		list = append(list, fmt.Sprintf("the log is a sample of the allowed decisions (%d of its lines): counts of newly denied ones are too low", r.sampled))
	}
	return list
}

func (r *policyDiffReport) text() string {
	out := fmt.Appendf(nil, "%s: %d alike, %d newly denied, %d newly allowed, %d undecidable\n",
		count(r.Decisions, "decision"), r.Alike, r.NewlyDenied, r.NewlyAllowed, r.undecided())
	for _, c := range r.Changes {
		out = fmt.Appendf(out, "%s %d: %s under %s, now %s under %s\n", map[string]string{"newly_denied": "- newly denied", "newly_allowed": "+ newly allowed"}[c.Change],
			c.Count, c.OldReason, orNoRule(c.OldRule), c.NewReason, orNoRule(c.NewRule))
		for _, e := range c.Examples {
			who := e.Principal
			if who == "" {
				who = "nobody"
			}
			host := e.Host
			if host != "" {
				host = visible(host)
			}
			out = fmt.Appendf(out, "    %s %s%s by %s\n", visible(e.Method), host, visible(e.Path), visible(who))
		}
	}
	for _, what := range []policy.Unknown{policy.UnknownWhen, policy.UnknownCaller, policy.UnknownRoles, policy.UnknownText} {
		if n := r.Undecidable[string(what)]; n > 0 {
			out = fmt.Appendf(out, "? undecidable %d: the log does not hold %s\n", n, map[policy.Unknown]string{
				policy.UnknownWhen: "what the condition reads", policy.UnknownCaller: "who was calling",
				policy.UnknownRoles: "the caller's roles", policy.UnknownText: "the whole request"}[what])
		}
	}
	if r.Drifted > 0 {
		out = fmt.Appendf(out, "%s in the log came out otherwise than OLD says: another policy or other roles were in force, or a route's context_extensions\n", count(r.Drifted, "decision"))
	}
	if r.Skipped > 0 {
		out = fmt.Appendf(out, "%s not replayed: no rule was asked\n", count(r.Skipped, "decision"))
	}
	return string(out)
}

func orNoRule(name string) string {
	if name == "" {
		return "no rule"
	}
	return name
}
