package store

import (
	"reflect"
	"testing"
	"time"
)

// The last word of a sidecar says which master keys it holds: one that lost a
// master must not pass for one that has it.
func TestOfASidecarsMastersTheLastWordCounts(t *testing.T) {
	at := time.Unix(1000, 0)
	beat := func(masters ...string) Report {
		return Report{Sidecar: "a", Kind: ReportHeartbeat, At: at, Applied: 3, Staleness: time.Minute, PolicyDigest: "aa", Masters: masters}
	}
	var s Sidecar
	for _, step := range []struct {
		name   string
		report Report
		want   []string
	}{
		{"its first word", beat("old"), []string{"old"}},
		{"a new one before it", beat("new", "old"), []string{"new", "old"}},
		{"an applied revision", Report{Sidecar: "a", Kind: ReportApplied, At: at, Applied: 4, Masters: []string{"new", "old"}}, []string{"new", "old"}},
		{"key uses", Report{Sidecar: "a", Kind: ReportUses, At: at, Masters: []string{"other"}}, []string{"new", "old"}},
		{"the old one taken out", beat("new"), []string{"new"}},
		{"none", beat(), nil},
		{"one again", beat("new"), []string{"new"}},
		{"a sidecar of a release that lists none", Report{Sidecar: "a", Kind: ReportApplied, At: at, Applied: 5}, nil},
	} {
		s = s.After(step.report)
		if !reflect.DeepEqual(s.Masters, step.want) {
			t.Errorf("after %s it holds %q, want %q", step.name, s.Masters, step.want)
		}
	}
	if s.Staleness != time.Minute || s.PolicyDigest != "aa" {
		t.Errorf("the bound and the digest were lost: %+v", s)
	}
}
