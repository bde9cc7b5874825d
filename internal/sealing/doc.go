// Package sealing keeps fields at rest unreadable without a key: Fernet for what
// has to be read back, a blind index (HMAC-SHA256) for what has to be found.
//
// Each tenant has random keys of its own. They lie in the database, wrapped under
// the master keys of AUTH_ENCRYPTION_KEY: another master means wrapping them
// again, not sealing every row again. Fernet has no associated data, so a sealed
// text begins with the place that it was sealed for, which is compared on opening:
// a value that was moved from another row does not open.
//
// The package knows no database: the stores hand in what they read. fields.go is
// the one list of what is sealed and what it is bound to.
package sealing
