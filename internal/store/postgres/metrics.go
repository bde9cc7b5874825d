package postgres

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the metrics of the pool, of the LISTEN connection and of what
// does not open, for the caller to register.
func (s *Store) Collector() prometheus.Collector { return newCollector(s) }

type collector struct {
	store *Store

	connections, limit, acquires, waits, waitTime, canceled, opened, listening *prometheus.Desc
}

func newCollector(s *Store) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("portcullis_store_"+name, help, labels, nil)
	}
	return &collector{
		store:       s,
		connections: desc("pool_connections", "Connections to the database by state: in_use, idle or opening.", "state"),
		limit:       desc("pool_max_connections", "How many connections the pool may have."),
		acquires:    desc("pool_acquires_total", "Connections taken from the pool."),
		waits:       desc("pool_waits_total", "Connections that had to be waited for, because none was idle."),
		waitTime:    desc("pool_wait_seconds_total", "Time spent waiting for a connection, opening included."),
		canceled:    desc("pool_canceled_total", "Waits that ended with their caller's context."),
		opened:      desc("pool_opened_total", "Connections opened since the start."),
		listening:   desc("listening", "1 while the LISTEN connection is up (it hears nothing through a pooler in transaction mode), 0 while changes are found by polling alone."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	metric := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	stat := c.store.pool.Stat()
	metric(c.connections, prometheus.GaugeValue, float64(stat.AcquiredConns()), "in_use")
	metric(c.connections, prometheus.GaugeValue, float64(stat.IdleConns()), "idle")
	metric(c.connections, prometheus.GaugeValue, float64(stat.ConstructingConns()), "opening")
	metric(c.limit, prometheus.GaugeValue, float64(stat.MaxConns()))
	metric(c.acquires, prometheus.CounterValue, float64(stat.AcquireCount()))
	metric(c.waits, prometheus.CounterValue, float64(stat.EmptyAcquireCount()))
	metric(c.waitTime, prometheus.CounterValue, stat.EmptyAcquireWaitTime().Seconds())
	metric(c.canceled, prometheus.CounterValue, float64(stat.CanceledAcquireCount()))
	metric(c.opened, prometheus.CounterValue, float64(stat.NewConnsCount()))
	up := 0.0
	if c.store.listener.up.Load() {
		up = 1
	}
	metric(c.listening, prometheus.GaugeValue, up)
	c.store.unreadable.Collect(ch)
}
