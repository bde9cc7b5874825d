package admin

// Routes lists the route table as "METHOD pattern", for the tests that must
// cover every row of it.
func (a *API) Routes() []string {
	var out []string
	for _, r := range a.allRoutes() {
		out = append(out, r.method+" "+r.pattern)
	}
	return out
}
