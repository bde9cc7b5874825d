package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry holds what every process tells: the build, the Go runtime, the
// process. The parts add theirs.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	b := thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "portcullis_build_info",
		Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{
			"version": b.Version, "commit": b.Commit, "modified": strconv.FormatBool(b.Modified), "go_version": b.Go,
		},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}
