package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"portcullis/internal/testkit"
)

// candidate is one server that is measured.
type candidate struct {
	name    string
	pid     int
	socket  string
	metrics string // host:port
	client  *client
	judge   func(*request, []byte) error
	at      int                  // where in the corpus it is
	rounds  map[string][]figures // by form
}

// figures is what one round of one candidate gave.
type figures struct {
	Calls    float64 // a second
	P50, P99 float64 // microseconds
	CPU      float64 // microseconds of the server a call
	Allocs   float64 // of the server a call
}

// measure runs the plan and prints the report.
func measure(ctx context.Context, p plan, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "portcullis-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(stderr, "building and furnishing ...")
	corpora := make([]*requests, len(forms))
	for i, f := range forms {
		if corpora[i], err = newCorpus(f); err != nil {
			return err
		}
	}
	candidates, stop, err := start(ctx, dir)
	defer stop()
	if err != nil {
		return err
	}
	pinned := pin(candidates)
	for _, c := range candidates {
		if c.client, err = dial(ctx, c.socket); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		defer c.client.close()
		fmt.Fprintf(stderr, "warming up %s ...\n", c.name)
		c.rounds = make(map[string][]figures)
		for _, corpus := range corpora {
			if _, err := c.round(ctx, corpus, whileCold(c.judge), p.streams, p.warm/time.Duration(len(corpora))); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	for r := range p.rounds {
		fmt.Fprintf(stderr, "round %d of %d ...\n", r+1, p.rounds)
		for n, form := range forms {
			for i := range candidates {
				// A different one goes first each time.
				c := candidates[(i+r)%len(candidates)]
				f, err := c.round(ctx, corpora[n], c.judge, p.streams, p.round)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				c.rounds[form.name] = append(c.rounds[form.name], f)
			}
		}
	}
	return report(stdout, p, candidates, pinned)
}

// round puts load on the candidate and reads its accounts before and after.
func (c *candidate) round(ctx context.Context, corpus *requests, judge func(*request, []byte) error, streams int, length time.Duration) (figures, error) {
	allocs, err := mallocs(c.metrics)
	if err != nil {
		return figures{}, err
	}
	cpu, err := cpuTime(c.pid)
	if err != nil {
		return figures{}, err
	}
	s, err := c.client.load(ctx, corpus, judge, streams, length, c.at)
	if err != nil {
		return figures{}, err
	}
	cpuAfter, err := cpuTime(c.pid)
	if err != nil {
		return figures{}, err
	}
	allocsAfter, err := mallocs(c.metrics)
	if err != nil {
		return figures{}, err
	}
	n := float64(len(s.latencies))
	c.at += len(s.latencies)
	slices.Sort(s.latencies)
	return figures{
		Calls:  n / s.took.Seconds(),
		P50:    micro(s.latencies[len(s.latencies)/2]),
		P99:    micro(s.latencies[len(s.latencies)*99/100]),
		CPU:    micro(cpuAfter-cpu) / n,
		Allocs: (allocsAfter - allocs) / n,
	}, nil
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// start builds and starts the servers. stop ends them; it is never nil.
func start(ctx context.Context, dir string) (all []*candidate, stop func(), err error) {
	var ends []func()
	stop = func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, stop, err
	}
	for _, tuned := range []bool{false, true} {
		c, end, err := startStub(ctx, self, dir, tuned)
		if err != nil {
			return nil, stop, err
		}
		ends = append(ends, end)
		all = append(all, c)
	}
	binary := filepath.Join(dir, "portcullis")
	if err := testkit.BuildPortcullis(ctx, binary, "-trimpath"); err != nil {
		return nil, stop, err
	}
	db, rulesFile, socket := filepath.Join(dir, "bench.sqlite3"), filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "gate.sock")
	if err := furnish(ctx, db); err != nil {
		return nil, stop, err
	}
	if err := writePolicy(rulesFile); err != nil {
		return nil, stop, err
	}
	gate, err := testkit.StartGate(ctx, testkit.GateConfig{Binary: binary, Dir: dir, Env: []string{
		"AUTH_SQLITE_PATH=" + db, "AUTH_POLICY_FILE=" + rulesFile, "AUTH_EXTAUTHZ_LISTEN=unix://" + socket,
		"AUTH_JWT_SECRET_KEY=" + tokenSecret, "AUTH_SERVER_PORT=0", "AUTH_METRICS_LISTEN=127.0.0.1:0",
	}})
	if err != nil {
		return nil, stop, err
	}
	ends = append(ends, func() { gate.Stop() })
	return append(all, &candidate{name: "portcullis, as shipped", pid: gate.Pid(), socket: socket, metrics: gate.Metrics(), judge: judgeGate()}), stop, nil
}

func startStub(ctx context.Context, self, dir string, tuned bool) (*candidate, func(), error) {
	name, socket := "always-allow stub, grpc-go's defaults", filepath.Join(dir, "stub.sock")
	args := []string{"-stub", socket}
	if tuned {
		name, socket = "always-allow stub, Portcullis's settings", filepath.Join(dir, "tuned.sock")
		args = []string{"-stub", socket, "-tuned"}
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	end := func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	metrics, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return &candidate{name: name, pid: cmd.Process.Pid, socket: socket, metrics: strings.TrimSpace(metrics), judge: judgeStub}, end, nil
}

// pin puts the servers on the first core and this client on the second, where
// taskset is there and there are two. It says whether it did.
func pin(candidates []*candidate) bool {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return false
	}
	for _, c := range candidates {
		if exec.Command(taskset, "-a", "-p", "-c", "0", strconv.Itoa(c.pid)).Run() != nil {
			return false
		}
	}
	return exec.Command(taskset, "-a", "-p", "-c", "1", strconv.Itoa(os.Getpid())).Run() == nil
}
