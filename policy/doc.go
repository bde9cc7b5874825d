// Package policy owns the rules and the role-based permissions: it reads the
// policy file, compiles it, matches a request to its rule and decides. It is
// pure: time, request and data come in as arguments; it does no I/O and holds
// no mutable state, so everything in it is safe for concurrent use.
package policy
