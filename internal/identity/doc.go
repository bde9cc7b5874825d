// Package identity answers who is calling: it reads the credentials of a
// request, verifies tokens and client keys, and issues tokens of our own. It
// knows no database: what it holds, its callers hand to it. Everything in it is
// safe for concurrent use unless its comment says otherwise.
package identity
