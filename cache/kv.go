package cache

import "github.com/dgraph-io/ristretto/v2"

// kv is a lossy cache: a Set may be lost, late or out of order, and a value may
// stay after it was replaced. Nothing here relies on it for correctness, and the
// model test gives it its worst.
type kv[K ristretto.Key, V any] interface {
	Get(K) (V, bool)
	Set(k K, v V, bytes int64) bool
}

// newRistretto makes a cache bounded to the given number of bytes, of entries of
// about entryBytes each. hash may be nil: then an integer key is its own hash, and
// the entry holds the full key to be compared.
func newRistretto[K ristretto.Key, V any](bytes, entryBytes int64, hash func(K) (uint64, uint64)) (*ristretto.Cache[K, V], error) {
	return ristretto.NewCache(&ristretto.Config[K, V]{
		NumCounters:        max(1024, 10*bytes/entryBytes),
		MaxCost:            bytes,
		BufferItems:        64,
		KeyToHash:          hash,
		IgnoreInternalCost: true,
		Metrics:            true,
	})
}
