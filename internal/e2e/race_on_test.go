//go:build race

package e2e

// raceFlags build Portcullis with the race detector where the tests have it.
var raceFlags = []string{"-race"}
