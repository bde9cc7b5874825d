// Command portcullis is the gate beside Envoy, and everything that an operator
// does on its host. docs/cli.md lists the commands; testdata/script holds a
// script for each that is its documentation and its test.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // neither is lost, however fast they come
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go end(signals, cancel)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// end asks for an orderly end at the first signal. The second one ends the process
// at once, as the system does where nobody handles it.
func end(signals <-chan os.Signal, cancel context.CancelFunc) {
	<-signals
	cancel()
	second := <-signals
	signal.Reset(second)
	self, err := os.FindProcess(os.Getpid())
	if err != nil || self.Signal(second) != nil {
		os.Exit(int(exitUnavailable))
	}
}

// process is what a command has of the world outside.
type process struct {
	stdin   io.Reader
	stdout  io.Writer // answers, and nothing else
	stderr  io.Writer // facts, logs, errors
	environ []string  // NAME=value, as os.Environ gives them

	settingsOf   map[*cobra.Command]commandSettings
	settingFlags map[*cobra.Command]*pflag.FlagSet
}

func newProcess(stdin io.Reader, stdout, stderr io.Writer, environ []string) *process {
	return &process{
		stdin: stdin, stdout: stdout, stderr: stderr, environ: environ,
		settingsOf:   map[*cobra.Command]commandSettings{},
		settingFlags: map[*cobra.Command]*pflag.FlagSet{},
	}
}

// run runs one command line, without the program's name, until it is done or
// ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	p := newProcess(stdin, stdout, stderr, environ)
	root := newRootCommand(p)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return int(exitOK)
	}
	code, text := judge(err)
	for line := range strings.Lines(text) {
		fmt.Fprintln(stderr, "portcullis: "+strings.TrimSuffix(line, "\n"))
	}
	return int(code)
}

// lookupEnv reads a variable of the process's environment.
func (p *process) lookupEnv(name string) (string, bool) {
	for _, entry := range p.environ { // of two the first counts, as for os.Getenv
		if key, value, ok := strings.Cut(entry, "="); ok && key == name {
			return value, true
		}
	}
	return "", false
}
