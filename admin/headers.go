package admin

import "net/http"

// setSecurityHeaders sets what every response carries. HSTS goes only to a client
// that speaks TLS, here or to a trusted proxy: browsers ignore it elsewhere, and it
// is not this process's to promise.
func setSecurityHeaders(h http.Header, https bool) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("Content-Security-Policy", "default-src 'self'")
	if https {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	// Answers are about who may do what: no cache may keep them past a revocation.
	h.Set("Cache-Control", "no-store")
}
