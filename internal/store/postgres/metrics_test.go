package postgres

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	st := openTest(t, migrated(t))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(st.Collector())
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	value := func(name, state string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				if state == "" || m.GetLabel()[0].GetValue() == state {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		t.Fatalf("no metric %s %s", name, state)
		return 0
	}

	conn, err := st.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := value("portcullis_store_pool_connections", "in_use"); n != 1 {
		t.Errorf("%v connections in use, want 1", n)
	}
	conn.Release()
	if n := value("portcullis_store_pool_connections", "idle"); n < 1 {
		t.Errorf("%v connections idle, want one at least", n)
	}
	if n := value("portcullis_store_listening", ""); n != 0 {
		t.Errorf("listening is %v before the first Wait", n)
	}
	waiter(t, st)
	if n := value("portcullis_store_listening", ""); n != 1 {
		t.Errorf("listening is %v while a Wait waits", n)
	}
	if opened, max := value("portcullis_store_pool_opened_total", ""), value("portcullis_store_pool_max_connections", ""); opened < 1 || max < 4 {
		t.Errorf("%v opened, %v at most", opened, max)
	}
}
