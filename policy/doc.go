// Package policy owns the rules and the role-based permissions: it reads the
// policy file, compiles it, matches a request to its rule and decides. It is
// pure: time, request and data come in as arguments, nothing but Load touches a
// file, and no mutable state is held, so everything in it is safe for concurrent
// use.
package policy
