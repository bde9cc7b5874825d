package policy

import "testing"

func TestPatternWithin(t *testing.T) {
	tests := []struct {
		narrow, wide  string
		inside, other bool // narrow within wide, wide within narrow
	}{
		{"/a", "/a", true, true},
		{"/a", "/b", false, false},
		{"/a", "/a/", false, false},
		{"/a", "/{x}", true, false},
		{"/{y}", "/{x}", true, true},
		{"/", "/{x}", false, false},
		{"/", "/{x...}", false, false},
		{"/a/", "/a/{x...}", false, false},
		{"/a//", "/a/{x...}", true, false},
		{"/a//", "/a/{x}/", false, false},
		{"/a", "/a/{x...}", false, false},
		{"/a/b", "/a/{x...}", true, false},
		{"/a/{y}", "/a/{x...}", true, false},
		{"/a/{y...}", "/a/{x...}", true, true},
		{"/a/b/{y...}", "/a/{x...}", true, false},
		{"/a/b/{y...}", "/a/{z}/{x...}", true, false},
		{"/a/{z}/{x...}", "/{x...}", true, false},
		{"/a/{x}/c", "/a/b/{y}", false, false},
		{"/{x}/{y}", "/{z...}", true, false},
		{"/{x}/{y}", "/{x}", false, false},
	}
	for _, test := range tests {
		a, wrongA := parsePattern(test.narrow)
		b, wrongB := parsePattern(test.wide)
		if wrongA != nil || wrongB != nil {
			t.Fatal(wrongA, wrongB)
		}
		if got := a.within(b); got != test.inside {
			t.Errorf("%s within %s: %v", test.narrow, test.wide, got)
		}
		if got := b.within(a); got != test.other {
			t.Errorf("%s within %s: %v", test.wide, test.narrow, got)
		}
	}
}
