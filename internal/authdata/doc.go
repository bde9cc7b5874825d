// Package authdata reads the database of Auth 3.1, the Python server, into plain
// structs: tenants, settings, roles, permissions, memberships, API keys and the
// audit, from its SQLite file or its Postgres schema, field encryption included.
//
// It only reads. One read transaction, begun by Open, covers everything, so that
// what is read fits together while Auth goes on running. A row that cannot be
// read is a *RowError that names it; nothing is dropped in silence.
package authdata
