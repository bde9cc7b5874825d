package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

// A page's examples are run. What is run is marked by a comment on the line
// before the block:
//
//	<!-- run -->          a console block: lines that begin with "$ " are commands,
//	                      the others are what they print. "..." stands for anything
//	                      within a line, and alone for any number of lines
//	<!-- file: NAME -->   the block is the content of a file that the commands use
//
// The blocks of one page are one session, in one empty directory, from top to
// bottom. Listeners are moved out of the way by the environment.

// session is what a page has to run.
type session struct {
	files map[string]string
	steps []step
}

type step struct {
	line    int
	command string
	output  []string
}

func TestPagesSayWhatHappens(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s := readPage(string(text))
		if len(s.steps) == 0 {
			continue
		}
		ran++
		t.Run(filepath.Base(page), func(t *testing.T) { s.run(t) })
	}
	if ran == 0 {
		t.Error("no page has anything to run")
	}
}

func readPage(text string) session {
	s := session{files: map[string]string{}}
	mark, fence := "", ""
	var block []string
	for number, line := range strings.Split(text, "\n") {
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence, block = "```", nil
		case fence != "" && line == fence:
			if name, ok := strings.CutPrefix(mark, "file: "); ok {
				s.files[name] = strings.Join(block, "\n") + "\n"
			} else if mark == "run" {
				s.add(block, number-len(block))
			}
			fence, mark = "", ""
		case fence != "":
			block = append(block, line)
		case strings.HasPrefix(line, "<!-- ") && strings.HasSuffix(line, " -->"):
			mark = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- "), " -->")
		case strings.TrimSpace(line) != "":
			mark = ""
		}
	}
	return s
}

func (s *session) add(block []string, line int) {
	for i, text := range block {
		if command, ok := strings.CutPrefix(text, "$ "); ok {
			s.steps = append(s.steps, step{line: line + i + 1, command: command})
			continue
		}
		if n := len(s.steps); n > 0 {
			s.steps[n-1].output = append(s.steps[n-1].output, text)
		}
	}
}

// run runs the session in one shell.
func (s session) run(t *testing.T) {
	p := newPlace(t)
	for name, text := range s.files {
		p.write(name, text)
	}
	shell := exec.Command("sh")
	shell.Dir, shell.Env = p.dir, p.env
	input, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	shell.Stdout, shell.Stderr = write, write
	exited, err := testkit.StartBound(shell)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		io.WriteString(input, "[ -f pids ] && kill $(cat pids); wait; exit\n")
		input.Close()
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			shell.Process.Kill()
			t.Error("the session does not end")
		}
	}()
	lines := bufio.NewScanner(read)
	for _, step := range s.steps {
		const mark = "--- end of step"
		command := step.command
		background := strings.HasSuffix(command, "&")
		if background { // its own output belongs to no step
			command = strings.TrimSuffix(command, "&") + " >>background.log 2>&1 & echo $! >>pids"
		}
		fmt.Fprintf(input, "%s\necho '%s'\n", command, mark)
		var got []string
		for lines.Scan() && lines.Text() != mark {
			got = append(got, lines.Text())
		}
		if background {
			p.awaitReady()
		}
		if want := strings.Join(step.output, "\n"); !matches(want, strings.Join(got, "\n")) {
			t.Errorf("line %d: $ %s\ngot\n%s\nwant\n%s", step.line, step.command, strings.Join(got, "\n"), want)
		}
	}
}

// awaitReady waits for what serves in the place.
func (p *place) awaitReady() {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		status, _, err := getUnix(filepath.Join(p.dir, "metrics.sock"), "/readyz", "")
		if err == nil && status == http.StatusOK {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(p.dir, "background.log"))
	p.t.Fatalf("never ready:\n%s", log)
}

// matches reports whether the output is what the page shows.
func matches(want, got string) bool {
	pattern := regexp.QuoteMeta(want)
	pattern = regexp.MustCompile(`(?m)^\\\.\\\.\\\.$`).ReplaceAllString(pattern, "(?s:.*)")
	pattern = strings.ReplaceAll(pattern, `\.\.\.`, ".*")
	return regexp.MustCompile(`\A` + pattern + `\z`).MatchString(got)
}

func TestMatchesWhatAPageShows(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a\nb", "a\nb", true},
		{"a\nb", "a\nc", false},
		{"a", "a\nb", false},
		{"id ...", "id 5f55", true},
		{"id ...", "id 5f55\nmore", false},
		{"a\n...\nc", "a\nb\nb\nc", true},
		{"a.c", "abc", false},
		{"", "", true},
		{"", "x", false},
	} {
		if got := matches(c.want, c.got); got != c.ok {
			t.Errorf("%q shows %q: %v", c.want, c.got, got)
		}
	}
}
