package extauthz

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// metrics counts decisions. Its labels are the closed lists of effects and
// reasons, and the names of the policy's rules; never anything that a caller
// chose.
type metrics struct {
	decisions   *prometheus.CounterVec
	duration    prometheus.Histogram
	ruleless    [policy.NumReasons]prometheus.Counter // decisions without a rule
	credentials [policy.NumReasons]prometheus.Counter // of the reasons that are 401; nil for the others
	panics      prometheus.Counter
	retakes     prometheus.Counter
	malformed   prometheus.Counter
	shadows     *prometheus.CounterVec

	table atomic.Pointer[counterTable]
	mu    sync.Mutex // guards the making of tables and counters
}

// counterTable keeps the counters of one compiled policy by rule and reason, so
// that a decision costs no look-up by label.
type counterTable struct {
	policy *policy.Policy
	rows   [][policy.NumReasons]atomic.Pointer[prometheus.Counter]
}

// newMetrics registers the metrics where reg is not nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "portcullis_decisions_total",
			Help: "Decisions by effect, reason and rule; rule is empty where none was found."}, []string{"effect", "reason", "rule"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "portcullis_check_duration_seconds",
			Help:    "Time from a request's bytes to its response's bytes.",
			Buckets: []float64{1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.15, 0.25}}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "portcullis_check_panics_total",
			Help: "Panics in a check, each answered by the denial internal."}),
		retakes: prometheus.NewCounter(prometheus.CounterOpts{Name: "portcullis_check_retakes_total",
			Help: "Checks that took the snapshot again because the store was ahead of it."}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "portcullis_malformed_requests_total",
			Help: "Messages that are no CheckRequest, answered by a gRPC error."}),
	}
	m.shadows = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "portcullis_shadow_decisions_total",
		Help: "What shadow rules would have decided, by rule, effect and reason."}, []string{"rule", "effect", "reason"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "portcullis_credential_failures_total",
		Help: "Requests denied for want of a good credential, by reason."}, []string{"reason"})
	for i := range m.ruleless {
		m.ruleless[i] = m.decisions.WithLabelValues(policy.Reason(i).Effect().String(), policy.Reason(i).String(), "")
	}
	for i := range m.credentials {
		if reason := policy.Reason(i); outcomeOf(reason).status == 401 {
			m.credentials[i] = failures.WithLabelValues(reason.String())
		}
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.decisions, m.duration, failures, m.panics, m.retakes, m.malformed, m.shadows} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts one decision that took elapsed nanoseconds. It allocates nothing
// for a rule and reason that were counted before.
func (m *metrics) observe(k *check, elapsed int64) {
	m.duration.Observe(float64(elapsed) / 1e9)
	reason := k.answer.reason
	if reason >= policy.NumReasons {
		reason = policy.ReasonInternal
	}
	if failure := m.credentials[reason]; failure != nil {
		failure.Inc()
	}
	m.counter(k, reason).Inc()
}

// counter finds the counter of a decision.
func (m *metrics) counter(k *check, reason policy.Reason) prometheus.Counter {
	if k.named == nil {
		return m.ruleless[reason]
	}
	t := m.table.Load()
	if t == nil || t.policy != k.snapshot.Policy {
		t = m.tableOf(k.snapshot.Policy)
	}
	cell := &t.rows[k.named.Index][reason]
	if c := cell.Load(); c != nil {
		return *c
	}
	c := m.decisions.WithLabelValues(reason.Effect().String(), reason.String(), k.named.Name)
	cell.Store(&c)
	return c
}

// tableOf makes the table of a policy that was loaded since.
func (m *metrics) tableOf(p *policy.Policy) *counterTable {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.table.Load(); t != nil && t.policy == p {
		return t
	}
	t := &counterTable{policy: p, rows: make([][policy.NumReasons]atomic.Pointer[prometheus.Counter], p.Len())}
	m.table.Store(t)
	return t
}
