package admin

import (
	"net/url"
	"testing"
	"time"
)

// FuzzForm: what is admitted holds each parameter once, printable and not empty, as
// the body has it; and credentials in the header never panic.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"", "a=b", "a=b&a=b", "a=&a=b", "a=%00", "a=%zz", "a;b=c", "grant_type=x&scope=%20", "=x", "a", "a=%F0%9F%98%80"} {
		f.Add(s, "Basic "+s)
	}
	f.Fuzz(func(t *testing.T, body, header string) {
		clientCredentials([]string{header}, form{})
		got, err := parseForm(body)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("%q was admitted: %v", body, err)
		}
		for name, values := range want {
			if len(values) != 1 || got[name] != values[0] || !printable(values[0]) {
				t.Fatalf("%q became %q", body, got)
			}
		}
		for name, value := range got {
			if value == "" || len(want[name]) != 1 {
				t.Fatalf("%q became %q", body, got)
			}
		}
	})
}

func TestPace(t *testing.T) {
	p := pace{most: 2}
	minute := int64(time.Minute)
	for i, step := range []struct {
		at   int64
		want bool
	}{{5, true}, {6, true}, {7, false}, {4 + minute, false}, {5 + minute, true}, {6 + minute, true}, {7 + minute, false}} {
		if got := p.take(step.at); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}
