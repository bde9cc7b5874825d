package duration

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		form string // as it is written back
	}{
		{"15m", 15 * time.Minute, "15m"},
		{"90s", 90 * time.Second, "1m30s"},
		{"12h", 12 * time.Hour, "12h"},
		{"90d", 90 * day, "90d"},
		{"1d12h", 36 * time.Hour, "1d12h"},
		{"36h", 36 * time.Hour, "1d12h"},
		{"24h", day, "1d"},
		{"1d1s", day + time.Second, "1d1s"},
		{"1h0m5s", time.Hour + 5*time.Second, "1h0m5s"},
		{"1500ms", 1500 * time.Millisecond, "1.5s"},
		{"10s", 10 * time.Second, "10s"},
		{"20m", 20 * time.Minute, "20m"},
	} {
		got, err := Parse(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", c.text, got, err, c.want)
		}
		if form := Format(c.want); form != c.form {
			t.Errorf("%v is written %q, want %q", c.want, form, c.form)
		}
	}
	for _, text := range []string{
		"", "d", "0", "0d", "0s", "-1d", "-5m", "1d-1h", "d12h", "1dd", "1.5d", " 1d", "1d ", "90", "9999999999d", "106751d24h", "1w", "forever",
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"15m", "90d", "1d12h", "106751d", "1d-1h", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		if d <= 0 {
			t.Fatalf("%q is %v", text, d)
		}
		again, err := Parse(Format(d))
		if err != nil || again != d {
			t.Fatalf("%q is %v, written %q, read as %v, %v", text, d, Format(d), again, err)
		}
	})
}
