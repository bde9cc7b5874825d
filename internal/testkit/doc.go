// Package testkit starts the real parts that tests and the demo run against:
// Envoy, Postgres, and upstreams that echo what they received. It finds or
// fetches their programs by itself, and whatever it starts ends with the process
// that started it.
//
// Functions that take a testing.TB skip the test where a program cannot be had,
// with the reason, or fail it where the matching PORTCULLIS_REQUIRE_ variable is
// 1. The others return errors and serve programs that are no tests.
package testkit
