package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// router finds the route of a request. It is not a ServeMux: that one cleans
// paths and redirects, and a name such as ".." must be refused, not obeyed.
type router struct {
	resources []resource
}

// resource is the routes of one pattern, by method.
type resource struct {
	pattern  string
	segments []string // a parameter is ""
	methods  []string // sorted, HEAD and OPTIONS included
	routes   map[string]*route
}

// newRouter refuses a table whose rows contradict each other, or whose names and
// parameters do not pair.
func newRouter(table []route) (*router, error) {
	rt := &router{}
	for i := range table {
		r := &table[i]
		segments := strings.Split(strings.TrimPrefix(r.pattern, "/"), "/")
		parameters := 0
		for j, s := range segments {
			if strings.HasPrefix(s, "{") {
				segments[j] = ""
				parameters++
			}
		}
		if parameters != len(r.names) {
			return nil, fmt.Errorf("route %s %s: %d parameters, %d name rules", r.method, r.pattern, parameters, len(r.names))
		}
		res := rt.resource(r.pattern, segments)
		if res.routes[r.method] != nil {
			return nil, fmt.Errorf("route %s %s: declared twice", r.method, r.pattern)
		}
		res.routes[r.method] = r
	}
	for i := range rt.resources {
		rt.resources[i].close()
	}
	return rt, nil
}

func (rt *router) resource(pattern string, segments []string) *resource {
	for i := range rt.resources {
		if rt.resources[i].pattern == pattern {
			return &rt.resources[i]
		}
	}
	rt.resources = append(rt.resources, resource{pattern: pattern, segments: segments, routes: map[string]*route{}})
	return &rt.resources[len(rt.resources)-1]
}

// close adds what follows from the routes: HEAD where there is GET, and OPTIONS.
func (res *resource) close() {
	if get := res.routes[http.MethodGet]; get != nil {
		res.routes[http.MethodHead] = get
	}
	for m := range res.routes {
		res.methods = append(res.methods, m)
	}
	res.methods = append(res.methods, http.MethodOptions)
	slices.Sort(res.methods)
}

// find returns the resource that the decoded segments name, and the values of
// its parameters; nil if there is none.
func (rt *router) find(segments []string) (*resource, []string) {
	for i := range rt.resources {
		if values, ok := rt.resources[i].match(segments); ok {
			return &rt.resources[i], values
		}
	}
	return nil, nil
}

func (res *resource) match(segments []string) (values []string, ok bool) {
	if len(segments) != len(res.segments) {
		return nil, false
	}
	for i, want := range res.segments {
		switch {
		case want == "" && segments[i] != "":
			values = append(values, segments[i])
		case want == "" || want != segments[i]:
			return nil, false
		}
	}
	return values, true
}
