package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Workload is one entry of the policy file's workloads section: who a program is
// whose certificate bears the SPIFFE id. Its fields are read-only.
type Workload struct {
	SPIFFE    string    // the id as written, compared byte by byte
	Principal Principal // of KindWorkload
	Index     int       // position in the file, from 0
	Line      int       // where the entry begins in the file, from 1
}

// workloadTable is the workloads of a policy. The zero table has none.
type workloadTable struct {
	workloads []*Workload
	bySPIFFE  map[string]*Workload
}

func newWorkloadTable(list []*Workload) workloadTable {
	t := workloadTable{workloads: list, bySPIFFE: make(map[string]*Workload, len(list))}
	for _, w := range list {
		t.bySPIFFE[w.SPIFFE] = w
	}
	return t
}

// Workloads returns the workloads in the order of the file. The caller must not
// change them.
func (t *workloadTable) Workloads() []*Workload { return t.workloads }

// Workload returns the workload of exactly this SPIFFE id, or nil. Text that is no
// SPIFFE id, such as a certificate's DNS name or subject, has none. It allocates
// nothing and keeps nothing of the text.
func (t *workloadTable) Workload(spiffe string) *Workload { return t.bySPIFFE[spiffe] }

// Bounds in bytes: of SPIFFE ids by the SPIFFE ID specification, sections 2.1 and
// 2.3, and of a workload's id by what a header and a membership hold.
const (
	maxSPIFFE      = 2048
	maxTrustDomain = 255
	maxWorkloadID  = 255
)

var workloadKeys = []string{"spiffe", "tenant", "id"}

// readWorkloads reads the workloads section.
func (y *yamlReader) readWorkloads(at *yaml.Node) []*Workload {
	if at == nil || !y.isKind(at, yaml.SequenceNode, "workloads", "a list") {
		return nil
	}
	var list []*Workload
	first := make(map[string]int, len(at.Content)) // lines by SPIFFE id
	for i, item := range at.Content {
		w := y.readWorkload(item, fmt.Sprintf("workload #%d", i+1))
		if w == nil {
			continue
		}
		if line := first[w.SPIFFE]; line > 0 {
			y.fail(item, "workload #%d: spiffe: %q is on line %d already", i+1, shorten(w.SPIFFE), line)
			continue
		}
		first[w.SPIFFE] = w.Line
		w.Index = len(list)
		list = append(list, w)
	}
	return list
}

// readWorkload reads one entry; nil after a problem.
func (y *yamlReader) readWorkload(at *yaml.Node, what string) *Workload {
	f, ok := y.mapping(at, what, workloadKeys...)
	if !ok {
		return nil
	}
	w := &Workload{Principal: Principal{Tenant: DefaultTenant, Kind: KindWorkload}, Line: at.Line}
	good := true
	read := func(key string, check func(string) string, into *string) {
		text, ok := y.word(f[key], what+": "+key)
		if ok {
			if wrong := check(text); wrong != "" {
				y.fail(f[key], "%s: %s: %s", what, key, wrong)
				ok = false
			}
		}
		*into, good = text, good && ok
	}
	for _, key := range []string{"spiffe", "id"} {
		if f[key] == nil {
			y.fail(at, "%s: %s is missing", what, key)
			good = false
		}
	}
	if f["spiffe"] != nil {
		read("spiffe", checkSPIFFE, &w.SPIFFE)
	}
	if f["id"] != nil {
		read("id", checkWorkloadID, &w.Principal.ID)
	}
	if f["tenant"] != nil {
		read("tenant", checkTenant, &w.Principal.Tenant)
	}
	if !good {
		return nil
	}
	return w
}

func (y *yamlReader) readMTLS(rule *Rule, at *yaml.Node) {
	if at == nil {
		return
	}
	if rule.MTLS = y.boolean(at, "mtls"); rule.MTLS && rule.Access == AccessAnonymous {
		y.fail(at, "mtls: an anonymous rule asks nobody for a certificate; leave mtls out")
	}
}

// checkWorkloadID returns what is wrong with a workload's id, or "". It becomes a
// header and names a membership, as a token's subject does.
func checkWorkloadID(text string) string {
	good := text != "" && len(text) <= maxWorkloadID
	for i := 0; good && i < len(text); i++ {
		good = text[i] > ' ' && text[i] <= '~'
	}
	if good {
		return ""
	}
	return fmt.Sprintf("%q is no id: 1 to %d visible ASCII characters without spaces", shorten(text), maxWorkloadID)
}

// checkSPIFFE returns what is wrong with a workload's SPIFFE id, or "". It holds to
// the SPIFFE ID specification, section 2, and to
// that of X.509-SVIDs, by which the certificate of a workload has an id with a path.
func checkSPIFFE(text string) string {
	const scheme = "spiffe://"
	wrong := func(what string) string { return fmt.Sprintf("%q %s", shorten(text), what) }
	if len(text) > maxSPIFFE {
		return wrong(fmt.Sprintf("has %d bytes, more than the %d of a SPIFFE id", len(text), maxSPIFFE))
	}
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return wrong("is no SPIFFE id: it begins with spiffe://, in small letters")
	}
	if strings.ContainsAny(rest, "?#") {
		return wrong("has a query or a fragment, which no SPIFFE id has")
	}
	domain, path, hasPath := strings.Cut(rest, "/")
	switch {
	case domain == "":
		return wrong("has no trust domain")
	case len(domain) > maxTrustDomain:
		return wrong(fmt.Sprintf("has a trust domain of more than %d bytes", maxTrustDomain))
	case !onlyOf(domain, isTrustDomainByte):
		return wrong("has a trust domain with other characters than small letters, digits and . - _ (no port and no user either)")
	case !hasPath || path == "":
		return wrong("names a trust domain; a workload's id has a path")
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "":
			return wrong("has an empty path segment or a slash at the end")
		case segment == "." || segment == "..":
			return wrong("has a dot segment in its path")
		case !onlyOf(segment, isSPIFFEPathByte):
			return wrong("has a path with other characters than letters, digits and . - _ (no percent-encoding either)")
		}
	}
	return ""
}

func onlyOf(text string, good func(byte) bool) bool {
	for i := range len(text) {
		if !good(text[i]) {
			return false
		}
	}
	return true
}

func isTrustDomainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

func isSPIFFEPathByte(c byte) bool { return isAlnum(c) || c == '.' || c == '-' || c == '_' }
