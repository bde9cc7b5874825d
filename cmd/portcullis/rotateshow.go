package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"portcullis/internal/rotation"
	"portcullis/internal/store"
)

// How often a rotation says how far it has come, where no bar shows it.
const (
	linesEvery  = 5 * time.Second
	eventsEvery = time.Second
)

// rotationShow tells of a rotation: the answer goes to standard output, and how far
// it has come to standard error, as a bar on a terminal and as lines elsewhere. With
// --json all of it is lines of JSON on standard output.
type rotationShow struct {
	p       *process
	kind    store.RotationKind
	json    bool
	tenants map[store.TenantID]string
	bar     *progressbar.ProgressBar // nil where there is no terminal
	last    time.Time                // of a line or an event
	failed  error                    // to write
}

func newRotationShow(ctx context.Context, p *process, d desk, flags rotateFlags) (*rotationShow, error) {
	tenants, err := d.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	s := &rotationShow{p: p, kind: flags.kind(), json: flags.json, tenants: make(map[store.TenantID]string, len(tenants))}
	for _, t := range tenants {
		s.tenants[t.ID] = t.Name
	}
	return s, nil
}

// The lines of --json.
type (
	rotationPlanJSON struct {
		Event    string           `json:"event"` // plan, or started
		Kind     string           `json:"kind"`  // rewrap, deep, enable or disable
		Enabled  bool             `json:"enabled"`
		Master   string           `json:"master"` // that wraps now; "" in clear
		Resumes  bool             `json:"resumes"`
		Keys     int64            `json:"keys"` // to be wrapped anew
		Rows     int64            `json:"rows"` // to be written
		Tables   map[string]int64 `json:"tables"`
		Sidecars []sidecarJSON    `json:"sidecars"`
		Refused  string           `json:"refused,omitempty"`
	}
	sidecarJSON struct {
		ID       string    `json:"id"`
		LastSeen time.Time `json:"last_seen"`
		Masters  []string  `json:"masters"`
		Holds    bool      `json:"holds_key"`
	}
	rotationProgressJSON struct {
		Event  string  `json:"event"` // progress
		Tenant string  `json:"tenant"`
		Table  string  `json:"table"`
		Rows   int64   `json:"rows"`
		Total  int64   `json:"total"`
		Rate   float64 `json:"rows_per_second"`
	}
	rotationLeftJSON struct {
		Event string `json:"event"` // unreadable
		Error string `json:"error"`
	}
	rotationDoneJSON struct {
		Event     string   `json:"event"` // done
		Kind      string   `json:"kind"`
		Outcome   string   `json:"outcome"` // done or unchanged
		Resumed   bool     `json:"resumed"`
		Keys      int64    `json:"keys"`
		Tenants   int      `json:"tenants"`
		Rows      int64    `json:"rows"`
		Left      int64    `json:"unreadable"`
		Seconds   float64  `json:"seconds"`
		Rate      float64  `json:"rows_per_second"`
		Enabled   bool     `json:"enabled"`
		Master    string   `json:"master"`
		Removable bool     `json:"former_masters_removable"`
		Advice    []string `json:"advice"`
	}
)

func kindWord(kind store.RotationKind) string {
	if kind == 0 {
		return "rewrap"
	}
	return kind.String()
}

func (s *rotationShow) event(v any) {
	if s.failed == nil {
		s.failed = printJSON(s.p.stdout, v)
	}
}

func (s *rotationShow) describePlan(event string, plan rotation.Plan) rotationPlanJSON {
	out := rotationPlanJSON{
		Event: event, Kind: kindWord(s.kind), Enabled: plan.State.Enabled, Master: plan.State.Master,
		Resumes: plan.Resumes, Keys: plan.Rewraps, Rows: plan.Rows(), Tables: map[string]int64{}, Sidecars: []sidecarJSON{},
	}
	for table, n := range plan.Counts {
		out.Tables[store.SealTable(table).String()] = n
	}
	for _, sidecar := range plan.Sidecars {
		out.Sidecars = append(out.Sidecars, sidecarJSON{sidecar.ID, sidecar.LastSeen.UTC(), append([]string{}, sidecar.Masters...), sidecar.Holds})
	}
	if plan.Refused != nil {
		out.Refused = plan.Refused.Error()
	}
	return out
}

// plan says what would be done.
func (s *rotationShow) plan(plan rotation.Plan, masters []string) error {
	if s.json {
		s.event(s.describePlan("plan", plan))
		return s.failed
	}
	w := s.p.stdout
	switch {
	case !plan.State.Enabled:
		fmt.Fprintln(w, "the database is in clear")
	case plan.State.OtherMasters > 0:
		fmt.Fprintf(w, "the database is sealed under master key %s, and %s of %d under others\n", plan.State.Master, count(int(plan.State.OtherMasters), "key"), plan.State.Keys)
	default:
		fmt.Fprintf(w, "the database is sealed under master key %s\n", plan.State.Master)
	}
	if plan.State.Rotation != 0 {
		fmt.Fprintf(w, "a rotation (--%s) was begun and is not finished\n", plan.State.Rotation)
	}
	if plan.Refused == nil {
		s.planWork(w, plan, masters)
	}
	if len(plan.Sidecars) == 0 {
		fmt.Fprintln(w, "no sidecar is live")
		return nil
	}
	rows := make([][]string, 0, len(plan.Sidecars))
	for _, sidecar := range plan.Sidecars {
		rows = append(rows, []string{fmt.Sprintf("%.8s", sidecar.ID), showTime(sidecar.LastSeen, ""), yesNo(sidecar.Holds), strings.Join(sidecar.Masters, ",")})
	}
	return printTable(w, []string{"LIVE SIDECAR", "LAST SEEN", "HOLDS THE KEY", "MASTER KEYS"}, rows)
}

func (s *rotationShow) planWork(w io.Writer, plan rotation.Plan, masters []string) {
	switch {
	case plan.Unchanged:
		fmt.Fprintln(w, "nothing would be done")
		return
	case plan.Rewraps > 0:
		fmt.Fprintf(w, "would wrap %s under master key %s\n", count(int(plan.Rewraps), "key"), masters[0])
	}
	if s.kind == 0 {
		return
	}
	what := map[store.RotationKind]string{
		store.RotateDeep: "seal anew", store.RotateEnable: "seal", store.RotateDisable: "write in clear",
	}[s.kind]
	fmt.Fprintf(w, "would %s %s:", what, count(int(plan.Rows()), "row"))
	for table, n := range plan.Counts {
		fmt.Fprintf(w, " %s %d", store.SealTable(table), n)
	}
	fmt.Fprintln(w)
}

// started says what is about to be done.
func (s *rotationShow) started(plan rotation.Plan) error {
	s.last = time.Now()
	if s.json {
		s.event(s.describePlan("started", plan))
		return s.failed
	}
	if plan.Resumes {
		fmt.Fprintln(s.p.stderr, "taking up a rotation that was cut off")
	}
	if file, ok := s.p.stderr.(*os.File); ok && s.kind != 0 && !plan.Unchanged && term.IsTerminal(int(file.Fd())) {
		s.bar = progressbar.NewOptions64(max(plan.Rows(), 1),
			progressbar.OptionSetWriter(file), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionFullWidth())
	}
	return nil
}

// progress hears how far the rotation has come.
func (s *rotationShow) progress(at rotation.Progress) {
	tenant := s.tenant(at.Tenant)
	if s.bar != nil {
		s.bar.ChangeMax64(max(at.Total, 1))
		s.bar.Describe(tenant + " " + at.Table.String())
		_ = s.bar.Set64(at.Rows) // a terminal that went away shows nothing
		return
	}
	every := linesEvery
	if s.json {
		every = eventsEvery
	}
	if time.Since(s.last) < every {
		return
	}
	s.last = time.Now()
	if s.json {
		s.event(rotationProgressJSON{"progress", s.tenants[at.Tenant], at.Table.String(), at.Rows, at.Total, round(at.Rate())})
		return
	}
	fmt.Fprintf(s.p.stderr, "%d of %d rows (%d%%), %.0f rows/s, %s %s\n", at.Rows, at.Total, percent(at.Rows, at.Total), at.Rate(), tenant, at.Table)
}

// tenant is how a tenant is shown.
func (s *rotationShow) tenant(id store.TenantID) string {
	switch name, ok := s.tenants[id]; {
	case ok:
		return "tenant " + name
	case id == 0:
		return "of no tenant:"
	}
	return fmt.Sprintf("tenant number %d", id)
}

// left hears of a row that does not open and stays as it is.
func (s *rotationShow) left(err error) {
	if s.json {
		s.event(rotationLeftJSON{"unreadable", err.Error()})
		return
	}
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	fmt.Fprintf(s.p.stderr, "left as it is: %v\n", err)
}

// finish leaves the terminal in order.
func (s *rotationShow) finish() {
	if s.bar != nil {
		fmt.Fprintln(s.p.stderr)
	}
}

// done says what was done, and what is left to do.
func (s *rotationShow) done(out rotation.Outcome, n next) error {
	outcome := store.OutcomeDone
	if out.Unchanged {
		outcome = store.OutcomeUnchanged
	}
	rate := 0.0
	if out.Took > 0 {
		rate = round(float64(out.Rows) / out.Took.Seconds())
	}
	if s.json {
		s.event(rotationDoneJSON{
			"done", kindWord(s.kind), outcome.String(), out.Resumed, out.Rewrapped, out.Tenants, out.Rows, out.Left,
			round(out.Took.Seconds()), rate, out.State.Enabled, out.State.Master, n.removable, append([]string{}, n.advice...),
		})
		return s.failed
	}
	w := s.p.stdout
	if out.Rewrapped > 0 {
		fmt.Fprintf(w, "wrapped %s under master key %s\n", count(int(out.Rewrapped), "key"), out.State.Master)
	}
	written := fmt.Sprintf("%s in %v, %.0f rows/s", count(int(out.Rows), "row"), out.Took.Round(time.Millisecond), rate)
	switch {
	case s.kind == 0 && out.Unchanged:
		fmt.Fprintf(w, "nothing to do: every key is under master key %s\n", out.State.Master)
	case s.kind == 0:
	case s.kind == store.RotateEnable && out.Unchanged:
		fmt.Fprintf(w, "nothing to do: the database is sealed, under master key %s\n", out.State.Master)
	case s.kind == store.RotateDisable && out.Unchanged:
		fmt.Fprintln(w, "nothing to do: the database is in clear")
	case s.kind == store.RotateEnable:
		fmt.Fprintf(w, "the database is sealed under master key %s: %s\n", out.State.Master, written)
	case s.kind == store.RotateDisable:
		fmt.Fprintf(w, "the database is in clear: %s\n", written)
	default:
		fmt.Fprintf(w, "new keys, and everything sealed under them: %s\n", written)
	}
	if out.Left > 0 {
		fmt.Fprintf(w, "rows that do not open, left as they are: %d\n", out.Left)
	}
	for _, sentence := range n.advice {
		if _, err := fmt.Fprintln(w, sentence); err != nil {
			return unavailablef("write the answer: %w", err)
		}
	}
	return nil
}

func percent(n, of int64) int64 {
	if of <= 0 {
		return 100
	}
	return n * 100 / of
}

// round keeps three digits behind the point.
func round(f float64) float64 { return float64(int64(f*1000+0.5)) / 1000 }
