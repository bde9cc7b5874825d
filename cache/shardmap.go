package cache

import (
	"hash/maphash"
	"maps"
)

const shardCount = 64

// shardMap is an immutable map whose changed copies share what did not change: a
// change copies one shard in 64, so that an edit of one tenant does not copy a
// hundred thousand. The zero shardMap is empty but cannot be read; make one with
// newShardMap.
type shardMap[K comparable, V any] struct {
	seed   maphash.Seed
	shards *[shardCount]map[K]V
	size   int
}

func newShardMap[K comparable, V any](entries map[K]V) shardMap[K, V] {
	m := shardMap[K, V]{seed: maphash.MakeSeed(), shards: new([shardCount]map[K]V)}
	return m.with(entries, nil)
}

func (m shardMap[K, V]) shard(k K) int {
	return int(maphash.Comparable(m.seed, k) % shardCount)
}

func (m shardMap[K, V]) get(k K) (V, bool) {
	v, ok := m.shards[m.shard(k)][k]
	return v, ok
}

// with returns a copy that holds set and lacks drop.
func (m shardMap[K, V]) with(set map[K]V, drop []K) shardMap[K, V] {
	if len(set) == 0 && len(drop) == 0 {
		return m
	}
	next := *m.shards
	var copied [shardCount]bool
	own := func(k K) map[K]V {
		i := m.shard(k)
		if !copied[i] {
			copied[i] = true
			if next[i] = maps.Clone(next[i]); next[i] == nil {
				next[i] = make(map[K]V)
			}
		}
		return next[i]
	}
	for _, k := range drop {
		s := own(k)
		if _, ok := s[k]; ok {
			delete(s, k)
			m.size--
		}
	}
	for k, v := range set {
		s := own(k)
		if _, ok := s[k]; !ok {
			m.size++
		}
		s[k] = v
	}
	m.shards = &next
	return m
}

func (m shardMap[K, V]) len() int { return m.size }

// keys lists the keys, in no order.
func (m shardMap[K, V]) keys() []K {
	out := make([]K, 0, m.size)
	for _, s := range m.shards {
		for k := range s {
			out = append(out, k)
		}
	}
	return out
}
