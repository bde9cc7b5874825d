package identity

import (
	"github.com/prometheus/client_golang/prometheus"
)

// issuerMetrics are the metrics of outside issuers. The label `issuer` has one
// value for each entry of the policy file, which are at most 64.
type issuerMetrics struct {
	fetches *prometheus.CounterVec
	shed    prometheus.Counter
	age     *prometheus.Desc
	of      *Verifiers
}

func newIssuerMetrics(reg prometheus.Registerer, of *Verifiers) *issuerMetrics {
	m := &issuerMetrics{
		of: of,
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_jwks_fetches_total", Help: "Fetches of an outside issuer's keys, by issuer and result: ok or error.",
		}, []string{"issuer", "result"}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_token_verifications_shed_total", Help: "Tokens with asymmetric signatures that were denied as overloaded, since too many signatures were being verified.",
		}),
		age: prometheus.NewDesc("portcullis_jwks_age_seconds", "Seconds since an outside issuer's keys were last fetched; -1 before the first time.", []string{"issuer"}, nil),
	}
	if reg != nil {
		reg.MustRegister(m.fetches, m.shed, m, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "portcullis_token_verifications_running", Help: "Asymmetric signatures that are being verified now.",
		}, func() float64 { return float64(len(of.permits.running)) }))
	}
	return m
}

// begin makes an issuer's counters, so that a rate has a zero to rise from.
func (m *issuerMetrics) begin(issuer string) {
	m.fetches.WithLabelValues(issuer, "ok")
	m.fetches.WithLabelValues(issuer, "error")
}

// end forgets an issuer.
func (m *issuerMetrics) end(issuer string) {
	m.fetches.DeletePartialMatch(prometheus.Labels{"issuer": issuer})
}

// Describe is prometheus.Collector's.
func (m *issuerMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.age }

// Collect is prometheus.Collector's.
func (m *issuerMetrics) Collect(out chan<- prometheus.Metric) {
	for name, o := range m.of.table.Load().byName {
		age := -1.0
		if at := o.source.fetched.Load(); at != 0 {
			age = float64(m.of.cfg.Now().UnixNano()-at) / 1e9
		}
		out <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, age, name)
	}
}
