//go:build !plant_panic

package extauthz

// plantPanic is true only in test builds with the tag plant_panic, in which a
// request with the header `x-plant-panic` makes the core panic.
const plantPanic = false
