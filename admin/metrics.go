package admin

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/internal/store"
	"portcullis/policy"
)

// metrics are the API's own. Every label is from a closed list: a route's
// pattern, a known method, a status, a reason, an action.
type metrics struct {
	requests     *prometheus.CounterVec
	authFailures *prometheus.CounterVec
	auditEvents  *prometheus.CounterVec
	waits        *prometheus.CounterVec
	panics       prometheus.Counter
	limited      *prometheus.CounterVec
	failuresLost prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admin_requests_total",
			Help: "Requests to the admin API by route pattern, method and status code.",
		}, []string{"route", "method", "code"}),
		authFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admin_auth_failures_total",
			Help: "Requests to the admin API that brought no valid client key, by reason.",
		}, []string{"reason"}),
		auditEvents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_audit_events_total",
			Help: "Audit rows committed for requests to the admin API, by action.",
		}, []string{"action"}),
		waits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admin_waits_total",
			Help: "Writes that waited for every live sidecar, by outcome (applied, timeout).",
		}, []string{"outcome"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_admin_panics_total",
			Help: "Requests to the admin API that ended in a recovered panic.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admin_rate_limited_total",
			Help: "Requests to the admin API that were answered 429, by limit: reads and writes of a key, failures and unauthenticated of an address.",
		}, []string{"limit"}),
		failuresLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_admin_auth_failures_lost_total",
			Help: "Failed authentications that could not be written to the audit.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.authFailures, m.auditEvents, m.waits, m.panics, m.limited, m.failuresLost} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	// There from the start at 0, so that an alert sees the first one too.
	for reason := range authFailures {
		m.authFailures.WithLabelValues(reason.String())
	}
	for _, limit := range []string{limitReads, limitWrites, limitFailures, limitUnauthenticated} {
		m.limited.WithLabelValues(limit)
	}
	return m, nil
}

func (m *metrics) request(pattern, method string, code int) {
	if pattern == "" {
		pattern = "none"
	}
	m.requests.WithLabelValues(pattern, knownMethod(method), strconv.Itoa(code)).Inc()
}

// knownMethod is the method, or "other": a caller may write anything there.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func (m *metrics) authFailure(reason policy.Reason) {
	m.authFailures.WithLabelValues(reason.String()).Inc()
}

func (m *metrics) audited(action store.Action) { m.auditEvents.WithLabelValues(string(action)).Inc() }

// auditedMany is audited for rows that no single request made.
func (m *metrics) auditedMany(action store.Action, rows int) {
	m.auditEvents.WithLabelValues(string(action)).Add(float64(rows))
}

func (m *metrics) wait(outcome string) { m.waits.WithLabelValues(outcome).Inc() }
