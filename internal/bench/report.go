package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// target is the most of the stub's CPU a call that the gate may take.
const target = 0.5

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func (c *candidate) median(form string, of func(figures) float64) float64 {
	var v []float64
	for _, f := range c.rounds[form] {
		v = append(v, of(f))
	}
	return median(v)
}

// ratio is the gate's CPU a call over another's, pair by pair.
type ratio struct {
	Form, Over       string
	Median, Min, Max float64
}

func cpuRatio(form string, gate, other *candidate) ratio {
	var v []float64
	for i, f := range gate.rounds[form] {
		v = append(v, f.CPU/other.rounds[form][i].CPU)
	}
	return ratio{Form: form, Over: other.name, Median: median(v), Min: slices.Min(v), Max: slices.Max(v)}
}

// report prints the medians and the ratios. The last candidate is the gate.
func report(w io.Writer, p plan, all []*candidate, pinned bool) error {
	if p.json {
		return reportJSON(w, all, pinned)
	}
	fmt.Fprintf(w, "%d streams on one unix socket, %d callers, %d rules, %d headers, %d%% denials; medians of %d rounds of %v", p.streams, callers, rules, headerFields, denyPercent, p.rounds, p.round)
	if pinned {
		fmt.Fprint(w, "; server on one core, client on another")
	}
	fmt.Fprintln(w)
	for _, f := range forms {
		if err := reportForm(w, f.name, all); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nEvery verdict was checked.")
	return err
}

func reportForm(w io.Writer, form string, all []*candidate) error {
	fmt.Fprintf(w, "\nThe request's headers as %s:\n\n", form)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "calls/s\tp50 µs\tp99 µs\tserver CPU µs/call\tallocs/call\t\t")
	for _, c := range all {
		fmt.Fprintf(t, "%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%s\t\n",
			c.median(form, func(f figures) float64 { return f.Calls }),
			c.median(form, func(f figures) float64 { return f.P50 }),
			c.median(form, func(f figures) float64 { return f.P99 }),
			c.median(form, func(f figures) float64 { return f.CPU }),
			c.median(form, func(f figures) float64 { return f.Allocs }), c.name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	gate := all[len(all)-1]
	for i, other := range all[:len(all)-1] {
		r := cpuRatio(form, gate, other)
		fmt.Fprintf(w, "CPU a call over the %s: %.2f (%.2f to %.2f)", r.Over, r.Median, r.Min, r.Max)
		if i == 0 {
			fmt.Fprintf(w, "; the target is at most %.1f", target)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func reportJSON(w io.Writer, all []*candidate, pinned bool) error {
	out := struct {
		Rounds map[string]map[string][]figures // by candidate and form
		Ratios []ratio
		Target float64
		Pinned bool
	}{Rounds: map[string]map[string][]figures{}, Target: target, Pinned: pinned}
	gate := all[len(all)-1]
	for _, c := range all {
		out.Rounds[c.name] = c.rounds
		for _, f := range forms {
			if c != gate {
				out.Ratios = append(out.Ratios, cpuRatio(f.name, gate, c))
			}
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}
