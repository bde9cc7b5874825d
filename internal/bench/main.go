// Command bench measures a gate beside an always-allow stub server, interleaved on
// this machine: calls a second, latency, the server's CPU a call by the operating
// system's accounting, allocations, and the ratios pair by pair. Every verdict is
// checked. Then it measures the admin API's has_permission beside Auth's own rate;
// -json leaves that out. docs/performance.md says how to read it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	stub := fs.String("stub", "", "serve the always-allow stub on this unix socket instead of measuring")
	tuned := fs.Bool("tuned", false, "with -stub: the gRPC and collector settings that Portcullis ships with")
	checks := fs.Bool("checks", false, "measure the admin API's has_permission alone")
	cfg := plan{}
	fs.IntVar(&cfg.rounds, "rounds", 5, "measured rounds of each candidate, 1 to 50")
	fs.DurationVar(&cfg.round, "time", 3*time.Second, "length of a round, 200ms to 1m")
	fs.DurationVar(&cfg.warm, "warm", 2*time.Second, "warm-up of each candidate, 0 to 1m")
	fs.IntVar(&cfg.streams, "streams", 64, "calls under way at once on the one connection, 1 to 1000")
	fs.BoolVar(&cfg.json, "json", false, "print the figures as JSON")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *stub != "" {
		err = serveStub(ctx, *stub, *tuned, stdout)
	} else if err = cfg.check(); err == nil {
		if !*checks {
			err = measure(ctx, cfg, stdout, stderr)
		}
		if err == nil && !cfg.json {
			err = measureChecks(ctx, cfg, stdout, stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// plan is what to measure.
type plan struct {
	rounds      int
	round, warm time.Duration
	streams     int
	json        bool
}

func (p plan) check() error {
	switch {
	case p.rounds < 1 || p.rounds > 50:
		return fmt.Errorf("-rounds is %d: give 1 to 50", p.rounds)
	case p.round < 200*time.Millisecond || p.round > time.Minute:
		return fmt.Errorf("-time is %v: give 200ms to 1m", p.round)
	case p.warm < 0 || p.warm > time.Minute:
		return fmt.Errorf("-warm is %v: give 0 to 1m", p.warm)
	case p.streams < 1 || p.streams > 1000:
		return fmt.Errorf("-streams is %d: give 1 to 1000", p.streams)
	}
	return nil
}
