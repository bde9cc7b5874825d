package config

import (
	"regexp"
	"strings"
)

// suggestion returns "; did you mean X?" for a near miss, else "".
func suggestion(name string, known []string) string {
	best, least := "", 4 // a distance of 3 still looks like a slip
	for _, k := range known {
		if d := distance(strings.ToUpper(name), k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// kubernetesName matches the variables of a Service whose name begins with auth.
var kubernetesName = regexp.MustCompile(`^(AUTH(?:_[A-Z0-9]+)*?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$`)

func injectedByKubernetes(name string) bool { return kubernetesName.MatchString(name) }

// serviceOf returns the name of the Service behind such a variable.
func serviceOf(name string) string {
	return strings.ToLower(strings.ReplaceAll(kubernetesName.FindStringSubmatch(name)[1], "_", "-"))
}
