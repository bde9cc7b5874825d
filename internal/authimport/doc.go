// Package authimport moves the data of Auth 3.1, the Python server, into a store:
// tenants with their client keys, roles, permissions, memberships, API keys and the
// audit. It can be cut off at any point and run again: what is there is left as it is,
// and the rest follows.
package authimport
