package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestHeaderTwins(t *testing.T) {
	if got, want := HeaderTwins("x-api-key"), []string{"x_api_key", "x-api_key", "x_api-key"}; !slices.Equal(got, want) {
		t.Errorf("HeaderTwins(x-api-key) = %q, want %q", got, want)
	}
	if got := HeaderTwins("authorization"); len(got) != 0 {
		t.Errorf("a name without dashes has twins: %q", got)
	}
	for _, name := range append(ManagedHeaders(), KeyHeaders()...) {
		twins := HeaderTwins(name)
		if want := 1<<strings.Count(name, "-") - 1; len(twins) != want {
			t.Errorf("%s has %d twins, want %d", name, len(twins), want)
		}
		if twins[0] != strings.ReplaceAll(name, "-", "_") {
			t.Errorf("%s: the first twin is %q, want the all-underscore one", name, twins[0])
		}
		seen := map[string]bool{name: true}
		for _, twin := range twins {
			if seen[twin] {
				t.Errorf("%s: twin %q twice", name, twin)
			}
			seen[twin] = true
			if !IsHeaderTwin([]byte(strings.ToUpper(twin)), name) {
				t.Errorf("IsHeaderTwin does not know %q as a twin of %q", strings.ToUpper(twin), name)
			}
		}
	}
}

func TestIsHeaderTwin(t *testing.T) {
	for received, want := range map[string]bool{
		"x-auth-roles":         true,
		"X_Auth-Roles":         true,
		"x-auth-roles-omitted": false,
		"x-auth-role":          false,
		"x auth roles":         false,
		"xxauth-roles":         false,
		"":                     false,
	} {
		if got := IsHeaderTwin([]byte(received), HeaderRoles); got != want {
			t.Errorf("IsHeaderTwin(%q, x-auth-roles) = %v, want %v", received, got, want)
		}
	}
	received := []byte("x_auth-decision_id")
	if n := testing.AllocsPerRun(100, func() { IsHeaderTwin(received, HeaderDecisionID) }); n != 0 {
		t.Errorf("IsHeaderTwin allocates %v times", n)
	}
}
