package sqlite

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the metrics of the connections, for the caller to register.
// Those that Postgres has as well bear the same names.
func (s *Store) Collector() prometheus.Collector { return newCollector(s) }

type collector struct {
	store *Store

	connections, limit, acquires, waits, waitTime, canceled, busy, unreadable *prometheus.Desc
}

func newCollector(s *Store) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("portcullis_store_"+name, help, labels, nil)
	}
	return &collector{
		store:       s,
		connections: desc("pool_connections", "Connections to the database by state: in_use or idle.", "state"),
		limit:       desc("pool_max_connections", "How many connections the pool may have."),
		acquires:    desc("pool_acquires_total", "Connections taken from the pool."),
		waits:       desc("pool_waits_total", "Connections that had to be waited for, because none was idle."),
		waitTime:    desc("pool_wait_seconds_total", "Time spent waiting for a connection."),
		canceled:    desc("pool_canceled_total", "Waits that ended with their caller's context."),
		busy:        desc("busy_total", "Attempts that found the file locked by another process and were made again."),
		unreadable:  desc("unreadable_total", "Sealed values that did not open.", "table", "column"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	metric := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	var limit, used, acquires, waits, canceled, waited int64
	for _, p := range []*pool{c.store.reader, c.store.writer} {
		limit += int64(cap(p.idle))
		used += p.used.Load()
		acquires += p.acquires.Load()
		waits += p.waits.Load()
		canceled += p.canceled.Load()
		waited += p.waited.Load()
	}
	metric(c.connections, prometheus.GaugeValue, float64(used), "in_use")
	metric(c.connections, prometheus.GaugeValue, float64(limit-used), "idle")
	metric(c.limit, prometheus.GaugeValue, float64(limit))
	metric(c.acquires, prometheus.CounterValue, float64(acquires))
	metric(c.waits, prometheus.CounterValue, float64(waits))
	metric(c.waitTime, prometheus.CounterValue, float64(waited)/1e9)
	metric(c.canceled, prometheus.CounterValue, float64(canceled))
	metric(c.busy, prometheus.CounterValue, float64(c.store.busy.Load()))
	for i, p := range sealedColumns {
		metric(c.unreadable, prometheus.CounterValue, float64(c.store.unreadable[i].Load()), p.Table, p.Column)
	}
}
