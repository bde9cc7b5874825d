// Package envoy generates the configuration of the Envoy that asks the gate. It
// is built from Envoy's own types, so that a field that Envoy does not know
// cannot be written, and from the settings and the policy that the gate runs
// with, so that the two cannot disagree. docs/envoy.md gives the reason for each
// setting.
package envoy
