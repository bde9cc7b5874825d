package policy

import (
	"fmt"
	"strings"
)

// The longest names, in bytes.
const (
	maxRuleName   = 64
	maxRoleName   = 64
	maxTenantName = 64
	maxPermission = 128
)

// checkRuleName returns what is wrong with a rule's name, or "".
func checkRuleName(text string) string {
	return checkName(text, "a rule name", maxRuleName, "_-")
}

// checkRole returns what is wrong with a role's name, or "".
func checkRole(text string) string {
	return checkName(text, "a role name", maxRoleName, "_-")
}

// checkTenant returns what is wrong with a tenant's name, or "".
func checkTenant(text string) string {
	return checkName(text, "a tenant name", maxTenantName, "_.-")
}

// checkPermission returns what is wrong with a permission's name, or "".
func checkPermission(text string) string {
	return checkName(text, "a permission name", maxPermission, "_.:/-")
}

// checkName holds a name to letters, digits and a few marks.
func checkName(text, what string, most int, marks string) string {
	good := text != "" && len(text) <= most
	for i := 0; good && i < len(text); i++ {
		good = isAlnum(text[i]) || strings.IndexByte(marks, text[i]) >= 0
	}
	if good {
		return ""
	}
	return fmt.Sprintf("%q is not %s: 1 to %d letters, digits and %s", shorten(text), what, most, strings.Join(strings.Split(marks, ""), " "))
}
