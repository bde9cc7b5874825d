package policy

// KeyBacked reports whether a principal may do anything at all in a tenant that,
// where strict, requires its users to hold an active API key. until is when the
// last of the user's keys expires and now the moment of the request, both in Unix
// nanoseconds. Clients and workloads need no such key.
func KeyBacked(strict bool, kind Kind, until, now int64) bool {
	return !strict || kind != KindUser || now < until
}
