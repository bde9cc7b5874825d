// Package admin owns the admin REST API: roles, permissions and memberships of
// the caller's tenant, permission checks, and the reading of the audit. It
// speaks the /api of Auth 3.1; docs/api.md is its reference.
//
// A request passes in this order, and each step is in one place: its route (a
// row of routeTable), its client key (gate.go), its scope (scope.go), its names
// (names.go), its handler, and for a write the wait for its revision (wait.go).
// Checks answer from the gate's own cache and role tables, so that the API and
// the gate cannot disagree.
package admin
