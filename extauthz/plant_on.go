//go:build plant_panic

package extauthz

// plantPanic makes a request with the header `x-plant-panic` panic in the core, so
// that a test can show that it is denied. See plant_off.go.
const plantPanic = true
