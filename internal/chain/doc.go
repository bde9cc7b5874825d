// Package chain makes the audit's rows a chain that cannot be edited in silence.
//
// Each row of a tenant has a number, a commitment to what it says and a link, which
// is a MAC over the link before it, the number and the commitment. Whoever can write
// to the database and does not have the key can change, remove, insert or reorder
// no row without a link that no longer fits. What links cannot show is a tail that was
// cut off together with the chain's head: a Checkpoint that was kept elsewhere does.
//
// The commitment is over the row's plaintext, so that sealing rows anew changes
// nothing, and keyed, so that it tells nothing about a sealed row.
//
// The package decides and computes; it reads nothing and keeps nothing.
package chain
