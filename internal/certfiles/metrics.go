package certfiles

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics carry the listener's name as a fixed label, so that listeners share their
// names.
type metrics struct {
	reloads  *prometheus.CounterVec
	current  prometheus.Gauge
	notAfter prometheus.Gauge
}

func newMetrics(cfg Config) (*metrics, error) {
	labels := prometheus.Labels{"listener": cfg.Listener}
	m := &metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_tls_reloads_total", ConstLabels: labels,
			Help: "Changed TLS files of a listener that were read, by result: ok, or failed (what they held before stays in force).",
		}, []string{"result"}),
		current: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_tls_last_reload_ok", ConstLabels: labels,
			Help: "1 if the TLS files of a listener are what is in force, 0 if they were refused.",
		}),
		notAfter: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_tls_certificate_not_after_seconds", ConstLabels: labels,
			Help: "When the certificate in force at a listener expires, in seconds since 1970.",
		}),
	}
	for _, result := range []string{"ok", "failed"} {
		m.reloads.WithLabelValues(result) // there from the start, for alerts
	}
	if cfg.Registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.reloads, m.current, m.notAfter} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of %s's TLS: %w", cfg.Listener, err)
		}
	}
	return m, nil
}
