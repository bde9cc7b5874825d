package policy_test

import (
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	const site = "name: site, path: '/{x...}', allow: anonymous"
	for name, test := range map[string]struct {
		rules []string
		want  string
	}{
		"nothing wider":                  {[]string{"name: a, path: /admin, require: p"}, ""},
		"wider, but it asks for as much": {[]string{"name: a, path: /admin, require: p", "name: b, path: '/{x...}', require: q"}, ""},
		"a slash at the end": {[]string{"name: a, path: /admin, require: p", site},
			`line 3: rule "a": GET /admin/, with a slash at the end, finds rule "site" (line 4), which asks for less (nothing); if your server answers both alike, write a rule for it`},
		"the other way round": {[]string{"name: a, path: '/admin/{id}/', methods: [PUT], require: p", "name: site, path: '/{x...}', methods: [GET, PUT], allow: authenticated"},
			`line 3: rule "a": PUT /admin/x, without the slash at the end, finds rule "site" (line 4), which asks for less (any caller of its tenants); if your server answers both alike, write a rule for it`},
		"what lies under a prefix, but not the prefix": {[]string{"name: a, hosts: ['*.a.com'], path: '/admin/{x...}', allow: authenticated", site},
			`line 3: rule "a": GET x.a.com/admin/, without anything after the slash, finds rule "site" (line 4), which asks for less (nothing); if your server answers both alike, write a rule for it
line 3: rule "a": GET x.a.com/admin, without the slash, finds rule "site" (line 4), which asks for less (nothing); if your server answers both alike, write a rule for it`},
		"HEAD beside GET": {[]string{"name: a, path: '/doc/{x...}', methods: [GET], require: p", "name: b, path: '/doc/{x...}', methods: [GET, HEAD], allow: authenticated"},
			`line 3: rule "a": HEAD /doc/x, HEAD instead of GET, finds rule "b" (line 4), which asks for less (any caller of its tenants); if your server answers both alike, write a rule for it`},
		"all of them written": {[]string{"name: a, path: '/admin/{x...}', require: p", "name: b, path: /admin, require: p", "name: c, path: /admin/, require: p", site}, ""},
		"the root": {[]string{"name: a, path: '/{x...}', require: p", "name: b, path: /, allow: anonymous"},
			`line 3: rule "a": GET /, without anything after the slash, finds rule "b" (line 4), which asks for less (nothing); if your server answers both alike, write a rule for it`},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, w := range mustCompile(t, policyOf(test.rules...)).Warnings() {
				got = append(got, w.String())
			}
			if text := strings.Join(got, "\n"); text != test.want {
				t.Errorf("got\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}
