// Package e2e holds the tests that run the whole: a client's bytes, a real Envoy
// with the generated configuration, a real `portcullis serve` in its own process,
// a real store, and an upstream that tells what it received. Each test says who
// answers, Envoy or the gate, and asserts it by Envoy's counters.
package e2e
