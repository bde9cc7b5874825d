package cache

import (
	"log/slog"
	"math/rand/v2"
	"sync"
)

// chaosCache is the worst cache that kv allows: it loses writes, keeps old values
// over new ones, and lets writes take effect late and out of order.
type chaosCache[K comparable, V any] struct {
	mu   sync.Mutex // guards everything below
	rand *rand.Rand
	m    map[K]V
	late []func()
}

func newChaos[K comparable, V any](seed, stream uint64) *chaosCache[K, V] {
	return &chaosCache[K, V]{rand: rand.New(rand.NewPCG(seed, stream)), m: make(map[K]V)}
}

func (c *chaosCache[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.late) > 0 && c.rand.IntN(2) == 0 {
		i := c.rand.IntN(len(c.late))
		c.late[i]()
		c.late = append(c.late[:i], c.late[i+1:]...)
	}
	v, ok := c.m[k]
	return v, ok
}

func (c *chaosCache[K, V]) Set(k K, v V, _ int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.rand.IntN(5) {
	case 0: // lost
	case 1: // late
		c.late = append(c.late, func() { c.m[k] = v })
	default:
		c.m[k] = v
	}
	return true
}

// chaosBytes is a chaosCache with byte-slice keys.
type chaosBytes[V any] struct{ c *chaosCache[string, V] }

func (c chaosBytes[V]) Get(k []byte) (V, bool)             { return c.c.Get(string(k)) }
func (c chaosBytes[V]) Set(k []byte, v V, cost int64) bool { return c.c.Set(string(k), v, cost) }

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
