package admin_test

import (
	"encoding/json"
	"testing"

	"portcullis/internal/clientaddr"
)

const hsts = "max-age=31536000; includeSubDomains"

func loopbackProxies(t *testing.T) clientaddr.Proxies {
	t.Helper()
	p, err := clientaddr.ParseProxies("127.0.0.0/8, ::1, 10.0.0.0/8")
	must(t, err)
	return p
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	for _, behindProxy := range []bool{false, true} {
		var o options
		want := map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "X-XSS-Protection": "1; mode=block",
			"Content-Security-Policy": "default-src 'self'", "Strict-Transport-Security": "",
		}
		if behindProxy {
			o.proxies = loopbackProxies(t)
			want["Strict-Transport-Security"] = hsts
		}
		h := newHouse(t, o)
		for _, r := range everywhere {
			got := h.ask(r.caller, r.method, r.target, "X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9")
			for name, value := range want {
				if values := got.header.Values(name); len(values) > 1 || got.header.Get(name) != value {
					t.Errorf("%s %.40s, behind a proxy %t: %s: %q, want %q", r.method, r.target, behindProxy, name, values, value)
				}
			}
		}
		if behindProxy {
			if got := h.ask("nobody", "GET", "/ping", "X-Forwarded-Proto: http"); got.header.Get("Strict-Transport-Security") != "" {
				t.Error("HSTS goes to a client that spoke http to the proxy")
			}
		}
	}
}

// The audit says where a write came from: the client that a trusted proxy tells of,
// else the peer, whatever it claims.
func TestTheAuditNamesTheClient(t *testing.T) {
	address := func(h *house, lines ...string) string {
		t.Helper()
		h.ask("manager", "DELETE", "/api/role/auditor") // so that what follows is a change
		if got := h.ask("manager", "POST", "/api/role/auditor", lines...); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		var page struct {
			Data struct {
				Entries []struct {
					Address string `json:"ip_address"`
				} `json:"entries"`
			} `json:"data"`
		}
		got := h.ask("manager", "GET", "/api/audit?limit=1")
		must(t, json.Unmarshal([]byte(got.body), &page))
		if len(page.Data.Entries) != 1 {
			t.Fatalf("the audit: %s", got.body)
		}
		return page.Data.Entries[0].Address
	}
	h := newHouse(t, options{proxies: loopbackProxies(t)})
	for forwarded, want := range map[string]string{
		"203.0.113.9":                            "203.0.113.9",
		"198.51.100.1, 203.0.113.9":              "203.0.113.9",
		"203.0.113.9, 10.0.0.7":                  "203.0.113.9",
		"2001:db8::9":                            "2001:db8::9",
		"::ffff:203.0.113.9":                     "203.0.113.9",
		"' OR 1=1--":                             "127.0.0.1",
		"<script>alert(1)</script>, 203.0.113.9": "203.0.113.9",
	} {
		if got := address(h, "X-Forwarded-For: "+forwarded); got != want {
			t.Errorf("%s: the audit says %s, want %s", forwarded, got, want)
		}
	}
	if got := address(newHouse(t, options{}), "X-Forwarded-For: 203.0.113.9"); got != "127.0.0.1" {
		t.Errorf("without trusted proxies the audit says %s", got)
	}
}
