//go:build race

package decisionlog

// raceEnabled: the race detector makes sync.Pool drop items at random.
const raceEnabled = true
