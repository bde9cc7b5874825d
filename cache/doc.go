// Package cache owns what a sidecar knows: the snapshot that a check reads with
// one atomic load, the caches of verified tokens, client keys and grants, and the
// change feed that keeps them true.
//
// Correctness never rests on a cache's Set or Del. Every cached value carries the
// revision that was read in the same store snapshot as its rows, and is used only
// if no change to it came after that revision (its slots) and if it is not newer
// than the check's snapshot. So a late, lost or reordered cache write can never
// resurrect a revoked grant; see docs/design/one-law.md.
package cache
