package main

import (
	"strings"
	"testing"
	"time"
)

// Text that came from outside must neither move the cursor nor pass for another
// column or line.
func TestWhatATerminalIsShown(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "-"},
		{"amy", "amy"},
		{"Zoë 田中", "Zoë 田中"},
		{"a\tb", `"a\tb"`},
		{"a\nb", `"a\nb"`},
		{"\x1b[2J", `"\x1b[2J"`},
		{"\u202egpj.exe", `"\u202egpj.exe"`},
		{"bad\xff", `"bad\xff"`},
	} {
		if got := visible(c.in); got != c.want {
			t.Errorf("visible(%q) = %s, want %s", c.in, got, c.want)
		}
	}
	var b strings.Builder
	if err := printTable(&b, []string{"NAME", "END"}, [][]string{{"x\n\x1b[31mroot", "never"}, {"y", ""}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME                  END\n\"x\\n\\x1b[31mroot\"  never\ny                     -\n"
	if strings.Join(strings.Fields(b.String()), " ") != strings.Join(strings.Fields(want), " ") || strings.Contains(b.String(), "\x1b") {
		t.Errorf("table:\n%s", b.String())
	}
}

func TestTimes(t *testing.T) {
	if got := showTime(time.Time{}, "never"); got != "never" {
		t.Errorf("the zero time: %s", got)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.FixedZone("", 3600))
	if got := showTime(at, ""); got != "2026-03-01 11:00:00Z" {
		t.Errorf("got %s", got)
	}
	if jsonTime(time.Time{}) != nil || !jsonTime(at).Equal(at) {
		t.Error("jsonTime")
	}
}
