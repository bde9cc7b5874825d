package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/admin"
	"portcullis/internal/store"
)

// pagedStore says what happens before a page of the audit is read: page 1 is the
// first after armed is set.
type pagedStore struct {
	store.Store
	armed  atomic.Bool
	page   atomic.Int32
	before func(ctx context.Context, page int) error
}

func (s *pagedStore) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, int, error) {
	if s.armed.Load() {
		if err := s.before(ctx, int(s.page.Add(1))); err != nil {
			return nil, 0, err
		}
	}
	return s.Store.Audit(ctx, q)
}

// pagedHouse is a house on SQLite with rows for three pages of an export and more.
func pagedHouse(t *testing.T, before func(h *house, ctx context.Context, page int) error) (*house, *pagedStore) {
	t.Helper()
	s := &pagedStore{}
	h := newHouse(t, options{wrap: func(inner store.Store) store.Store { s.Store = inner; return s }})
	s.before = func(ctx context.Context, page int) error { return before(h, ctx, page) }
	h.recorded("default", 3500)
	s.armed.Store(true)
	return h, s
}

func (h *house) exportRequest(ctx context.Context, base, caller, query string) *http.Request {
	h.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", base+"/api/audit/export?"+query, nil)
	must(h.t, err)
	request.Header.Set("Authorization", "Bearer "+h.keys[caller])
	return request
}

// exporting reads an export through a client, and returns its whole lines and how it
// ended.
func (h *house) exporting(client *http.Client, base, caller, query string) (rows []entry, err error) {
	h.t.Helper()
	response, err := client.Do(h.exportRequest(h.t.Context(), base, caller, query))
	must(h.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" || response.Header.Get("Cache-Control") != "no-store" {
		h.t.Fatalf("%s: %d %v %.300s", query, response.StatusCode, response.Header, body)
	}
	whole := body[:bytes.LastIndexByte(body, '\n')+1]
	if err == nil && len(whole) != len(body) {
		h.t.Fatalf("%s: the last line is cut: %q", query, body[len(whole):])
	}
	var lines []json.RawMessage
	for line := range bytes.Lines(whole) {
		lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
	}
	return entries(h.t, lines), err
}

// export is a whole one.
func (h *house) export(caller, query string) []entry {
	h.t.Helper()
	rows, err := h.exporting(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+h.addr, caller, query)
	must(h.t, err)
	return rows
}

// TestTheExportIsTheAudit: its lines are the entries of /api/audit, all of the
// tenant's and nobody else's.
func TestTheExportIsTheAudit(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		other := h.recorded("globex", 20)
		all := h.recorded("default", 5000)
		var paged []entry
		for target := "/api/audit?limit=500"; target != ""; {
			var rows []entry
			rows, _, target = h.page("audit", target)
			paged = append(paged, rows...)
		}
		exported := h.export("audit", "")
		if len(exported) != len(all) || !slices.EqualFunc(exported, paged, func(a, b entry) bool { return bytes.Equal(a.raw, b.raw) }) {
			t.Errorf("%d lines, %d entries, %d rows", len(exported), len(paged), len(all))
		}
		if !slices.EqualFunc(exported, all, func(a entry, b store.AuditEntry) bool { return a.id == b.ID }) {
			t.Error("the lines are not the store's rows, newest first")
		}
		if got := h.export("stranger", ""); !slices.EqualFunc(got, other, func(a entry, b store.AuditEntry) bool { return a.id == b.ID }) {
			t.Errorf("another tenant's key exports %d rows, want its own %d", len(got), len(other))
		}
		if got := h.export("audit", "subject=nobody"); len(got) != 0 {
			t.Errorf("%d rows about nobody", len(got))
		}
		if got := h.ask("audit", "HEAD", "/api/audit/export"); got.status != 200 || got.body != "" || got.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("HEAD: %d %v", got.status, got.header)
		}
	})
}

func TestTheExportIsRecorded(t *testing.T) {
	h := newHouse(t, options{auditChecks: true})
	lines := len(h.export("audit", ""))
	newest := h.audit("default")[0]
	if lines == 0 || newest.Action != store.ActionGetAudit || newest.Resource != "audit/export" || newest.Actor != "client:audit" || newest.Outcome != "done" {
		t.Errorf("%d lines, then %+v", lines, newest)
	}
}

// What is wrong before the first line has its status; and over HTTP/1.0, where a cut
// shows nothing, there is no export.
func TestAnExportThatDoesNotBegin(t *testing.T) {
	h, _ := pagedHouse(t, func(_ *house, _ context.Context, _ int) error { return store.ErrSchema })
	if got := h.ask("audit", "GET", "/api/audit/export"); got.status != 503 || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", got.status, got.body)
	}
	got := h.send("GET /api/audit/export HTTP/1.0", []string{"Authorization: Bearer " + h.keys["audit"]}, "")
	if err := got.match(400, "The export needs HTTP/1.1 or newer."); err != nil {
		t.Error(err)
	}
}

// TestACutExportDoesNotLookWhole: a fault of the store, a panic or a revoked key in
// the middle ends the connection, over HTTP/1.1 and HTTP/2.
func TestACutExportDoesNotLookWhole(t *testing.T) {
	for what, c := range map[string]struct {
		before func(h *house, ctx context.Context, page int) error
		most   int // rows that may have come
		log    string
	}{
		"a fault": {func(_ *house, _ context.Context, page int) error {
			if page == 3 {
				return errors.New("the disk is gone")
			}
			return nil
		}, 2000, "the disk is gone"},
		"a panic": {func(_ *house, _ context.Context, page int) error {
			if page == 2 {
				panic("a slip")
			}
			return nil
		}, 1000, "a slip"},
		"a key that is revoked": {func(h *house, ctx context.Context, page int) error {
			if page != 2 {
				return nil
			}
			_, _, err := h.store.RevokeKeys(ctx, store.Actor{Name: "cli"}, h.tenants["default"], "audit")
			if err != nil {
				return err
			}
			eventually(h.t, "the key opens nothing", func() bool { return h.ask("audit", "GET", "/api/roles").status == 401 })
			return nil
		}, 2000, "status=401"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(what, func(t *testing.T) {
				h, _ := pagedHouse(t, c.before)
				client, base := h.clientOf(t, h2)
				rows, err := h.exporting(client, base, "audit", "")
				if err == nil || len(rows) > c.most {
					t.Errorf("HTTP/2 %t: %d rows, error %v", h2, len(rows), err)
				}
				if log := h.log.String(); !strings.Contains(log, "an admin answer was cut off") || !strings.Contains(log, c.log) {
					t.Errorf("the log: %s", log)
				}
			})
		}
	}
}

// clientOf serves the API over TLS, and returns a client of one protocol.
func (h *house) clientOf(t *testing.T, h2 bool) (client *http.Client, base string) {
	t.Helper()
	cert, key, roots := certificate(t)
	addr, stop, stopped := run(t, admin.ServerConfig{Handler: h.api.Handler(), TLSCert: cert, TLSKey: key, Timeouts: admin.Timeouts{Write: 300 * time.Millisecond}})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: protocols}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}, "https://" + addr
}

// TestASlowPageIsWaitedFor: reading a page may take longer than a write of the answer
// may.
func TestASlowPageIsWaitedFor(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		h, _ := pagedHouse(t, func(_ *house, ctx context.Context, page int) error {
			if page == 2 {
				time.Sleep(time.Second)
			}
			return nil
		})
		client, base := h.clientOf(t, h2)
		if rows, err := h.exporting(client, base, "audit", ""); err != nil || len(rows) < 3500 {
			t.Errorf("HTTP/2 %t: %d rows, %v", h2, len(rows), err)
		}
	}
}

// TestACallerThatLeavesEndsTheExport: the handler does not go on for nobody, even
// within a page.
func TestACallerThatLeavesEndsTheExport(t *testing.T) {
	waiting, ended := make(chan struct{}), make(chan error, 1)
	h, s := pagedHouse(t, func(_ *house, ctx context.Context, page int) error {
		if page != 2 {
			return nil
		}
		close(waiting)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	conn, err := net.Dial("tcp", h.addr)
	must(t, err)
	defer conn.Close()
	must(t, h.exportRequest(t.Context(), "http://"+h.addr, "audit", "").Write(conn))
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	<-waiting
	must(t, conn.Close())
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the page ended with %v, want that the caller is gone", err)
	}
	eventually(t, "the handler has ended", func() bool { return strings.Contains(h.log.String(), "an admin answer was cut off") })
	if n := s.page.Load(); n != 2 {
		t.Errorf("%d pages were read", n)
	}
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Error("that a caller leaves is no error of ours")
	}
}
