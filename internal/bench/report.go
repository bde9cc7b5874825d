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

func (c *candidate) median(of func(figures) float64) float64 {
	var v []float64
	for _, f := range c.rounds {
		v = append(v, of(f))
	}
	return median(v)
}

// ratio is the gate's CPU a call over another's, pair by pair.
type ratio struct {
	Over             string
	Median, Min, Max float64
}

func cpuRatio(gate, other *candidate) ratio {
	var v []float64
	for i := range gate.rounds {
		v = append(v, gate.rounds[i].CPU/other.rounds[i].CPU)
	}
	return ratio{Over: other.name, Median: median(v), Min: slices.Min(v), Max: slices.Max(v)}
}

// report prints the medians and the ratios. The last candidate is the gate.
func report(w io.Writer, p plan, all []*candidate, pinned bool) error {
	gate := all[len(all)-1]
	var ratios []ratio
	for _, other := range all[:len(all)-1] {
		ratios = append(ratios, cpuRatio(gate, other))
	}
	if p.json {
		out := struct {
			Rounds map[string][]figures
			Ratios []ratio
			Target float64
			Pinned bool
		}{map[string][]figures{}, ratios, target, pinned}
		for _, c := range all {
			out.Rounds[c.name] = c.rounds
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(out)
	}
	fmt.Fprintf(w, "%d streams on one unix socket, %d callers, %d rules, %d headers, %d%% denials; medians of %d rounds of %v", p.streams, callers, rules, headerFields, denyPercent, p.rounds, p.round)
	if pinned {
		fmt.Fprint(w, "; server on one core, client on another")
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "calls/s\tp50 µs\tp99 µs\tserver CPU µs/call\tallocs/call\t\t")
	for _, c := range all {
		fmt.Fprintf(t, "%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%s\t\n",
			c.median(func(f figures) float64 { return f.Calls }),
			c.median(func(f figures) float64 { return f.P50 }),
			c.median(func(f figures) float64 { return f.P99 }),
			c.median(func(f figures) float64 { return f.CPU }),
			c.median(func(f figures) float64 { return f.Allocs }), c.name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for i, r := range ratios {
		fmt.Fprintf(w, "CPU a call over the %s: %.2f (%.2f to %.2f)", r.Over, r.Median, r.Min, r.Max)
		if i == 0 {
			fmt.Fprintf(w, "; the target is at most %.1f", target)
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintln(w, "Every verdict was checked.")
	return err
}
