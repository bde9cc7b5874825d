package policyfile

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reloads *prometheus.CounterVec
	ok      prometheus.Gauge
	rules   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (metrics, error) {
	m := metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_policy_reloads_total",
			Help: "Changed versions of the policy file that were read, by result: ok, or failed (the last good one stays in force).",
		}, []string{"result"}),
		ok: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_policy_last_reload_ok",
			Help: "1 if the policy in force is what the file holds, 0 if the file could not be read or compiled.",
		}),
		rules: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_policy_rules",
			Help: "Rules of the policy in force.",
		}),
	}
	for _, c := range []prometheus.Collector{m.reloads, m.ok, m.rules} {
		if err := reg.Register(c); err != nil {
			return metrics{}, fmt.Errorf("register policy metrics: %w", err)
		}
	}
	// Both results are there from the start, so that a rate has a zero to rise from.
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("failed")
	return m, nil
}

func (m metrics) refuse() {
	m.reloads.WithLabelValues("failed").Inc()
	m.ok.Set(0)
}
