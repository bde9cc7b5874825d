package main

import (
	"bytes"
	"testing"
	"time"
)

func TestProgressOfLongWork(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		every    time.Duration
		want     string
	}{
		{"in a log", false, 0, "copying: 3 of 12 pages (25%)\nverifying\n"},
		{"on a terminal", true, 0, "\r\x1b[Kcopying: 3 of 12 pages (25%)\r\x1b[Kverifying\r\x1b[K"},
		{"soon done", false, time.Hour, ""},
		{"soon done, on a terminal", true, time.Hour, ""},
	} {
		var out bytes.Buffer
		p := newProgress(&out)
		p.terminal, p.every, p.next = c.terminal, c.every, time.Now().Add(c.every)
		p.show("copying", 3, 12)
		p.show("verifying", 0, 0)
		p.end()
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, out.String(), c.want)
		}
	}
}
