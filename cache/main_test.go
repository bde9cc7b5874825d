package cache

import (
	"flag"
	"os"
	"testing"
)

// TestMain gives the model test enough runs to prove something, where the command
// line does not say how many.
func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": "1500", "rapid.steps": "60"} {
		if !given[name] {
			flag.Set(name, value)
		}
	}
	os.Exit(m.Run())
}
