package cache

import (
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg                    prometheus.Registerer // nil: not exported
	tokenHits, tokenMisses prometheus.Counter
	keyHits, keyMisses     prometheus.Counter
	userKeyHits            prometheus.Counter
	userKeyMisses          prometheus.Counter
	grantHits, grantMisses prometheus.Counter
	loadErrors             *prometheus.CounterVec
	feedErrors             prometheus.Counter
	reloads                prometheus.Counter
	reportErrors           prometheus.Counter
}

// newMetrics makes the metrics and registers them on reg, which may be nil.
func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portcullis_cache_lookups_total", Help: "Look-ups in a cache, by cache and result.",
	}, []string{"cache", "result"})
	m := &metrics{
		reg:       reg,
		tokenHits: lookups.WithLabelValues("token", "hit"), tokenMisses: lookups.WithLabelValues("token", "miss"),
		keyHits: lookups.WithLabelValues("key", "hit"), keyMisses: lookups.WithLabelValues("key", "miss"),
		userKeyHits: lookups.WithLabelValues("user_key", "hit"), userKeyMisses: lookups.WithLabelValues("user_key", "miss"),
		grantHits: lookups.WithLabelValues("grant", "hit"), grantMisses: lookups.WithLabelValues("grant", "miss"),
		loadErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_cache_load_errors_total", Help: "Loads from the store that failed, by what was loaded.",
		}, []string{"kind"}),
		feedErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_feed_errors_total", Help: "Reads of the change feed that failed.",
		}),
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_feed_full_reloads_total", Help: "Full loads because the store's history was not the one followed.",
		}),
		reportErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_report_errors_total", Help: "Reports to the store that failed.",
		}),
	}
	for _, kind := range []string{"key", "user_key", "grant", "roles", "index", "catch_up", "panic"} {
		m.loadErrors.WithLabelValues(kind)
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	collectors := []prometheus.Collector{
		lookups, m.loadErrors, m.feedErrors, m.reloads, m.reportErrors,
		gauge("portcullis_applied_revision", "The newest revision that checks see.", func() float64 {
			return float64(c.Applied())
		}),
		gauge("portcullis_feed_lag_revisions", "How many revisions the store has told of that checks do not see yet.", func() float64 {
			return float64(c.heard.Load() - c.Applied())
		}),
		gauge("portcullis_store_word_age_seconds", "Seconds since the store last confirmed that nothing was missed; -1 before the first load.", func() float64 {
			word := c.word.Load()
			if word == nil {
				return -1
			}
			return time.Duration(c.clock().Mono - word.Mono).Seconds()
		}),
		gauge("portcullis_snapshot_tenants", "Tenants in the snapshot.", func() float64 {
			if s := c.Snapshot(); s != nil {
				return float64(s.Tenants())
			}
			return 0
		}),
		gauge("portcullis_snapshot_role_tables", "Role tables held.", func() float64 {
			if s := c.Snapshot(); s != nil {
				return float64(s.roles.len())
			}
			return 0
		}),
		gauge("portcullis_key_fingerprints", "Live client keys and user API keys known by fingerprint.", func() float64 {
			if s := c.Snapshot(); s != nil {
				return float64(s.keys.Len())
			}
			return 0
		}),
		gauge("portcullis_cache_loads_in_flight", "Loads from the store that run now.", func() float64 {
			return float64(len(c.grantLoads.gate))
		}),
	}
	if reg != nil {
		reg.MustRegister(collectors...)
	}
	return m
}

// size exports how full a cache is.
func (m *metrics) size(cache string, of *ristretto.Metrics) {
	if m.reg == nil {
		return
	}
	labels := prometheus.Labels{"cache": cache}
	m.reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "portcullis_cache_bytes", Help: "About how many bytes a cache holds.", ConstLabels: labels,
		}, func() float64 { return float64(of.CostAdded()) - float64(of.CostEvicted()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "portcullis_cache_entries", Help: "How many entries a cache holds.", ConstLabels: labels,
		}, func() float64 { return float64(of.KeysAdded()) - float64(of.KeysEvicted()) }),
	)
}
