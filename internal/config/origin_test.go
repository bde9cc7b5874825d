package config

import (
	"strings"
	"testing"
)

func TestOriginsAreWhatBrowsersWrite(t *testing.T) {
	on := []string{"AUTH_ALLOW_CORS=true"}
	for _, value := range []string{
		"https://app.example.com", "https://app.example.com:8443", "http://localhost:3000", "http://[::1]:3000", "https://xn--bcher-kva.example",
		"https://app.example.com,https://admin.example.com", "https://app.example.com, https://admin.example.com",
	} {
		cfg, warnings, err := load(t, "", append(on, "AUTH_CORS_ORIGINS="+value))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", value, warnings, err)
			continue
		}
		if got := strings.Join(cfg.CORS.Origins, ","); got != strings.ReplaceAll(value, " ", "") || cfg.CORS.AnyOrigin {
			t.Errorf("%s: %+v", value, cfg.CORS)
		}
	}
	for value, why := range map[string]string{
		"null":                                "sandboxed",
		"app.example.com":                     "a scheme, a host",
		"https://":                            "a scheme, a host",
		"ftp://app.example.com":               "a scheme, a host",
		"file:///":                            "a scheme, a host",
		"https://user@app.example.com":        "a scheme, a host",
		"https://app.example.com/":            "as https://app.example.com)",
		"https://app.example.com/app":         "as https://app.example.com)",
		"https://app.example.com?":            "as https://app.example.com)",
		"https://App.Example.com":             "as https://app.example.com)",
		"HTTPS://app.example.com":             "as https://app.example.com)",
		"https://app.example.com:443":         "as https://app.example.com)",
		"http://app.example.com:80":           "as http://app.example.com)",
		"https://*.example.com":               "without wildcards",
		"https://bücher.example":              "xn--",
		"https://a.example,":                  "a scheme, a host",
		"https://a.example,*":                 "stands alone",
		"*,https://a.example":                 "stands alone",
		"https://a.example,null":              "sandboxed",
		"https://a.example,https://a.example": "twice",
		"https://a.example https://b.example": "a scheme, a host",
	} {
		for _, allow := range []string{"true", "false"} {
			_, _, err := load(t, "", []string{"AUTH_ALLOW_CORS=" + allow, "AUTH_DEBUG_MODE=true", "AUTH_CORS_ORIGINS=" + value})
			wantProblem(t, err, "AUTH_CORS_ORIGINS: ")
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v, want %q", value, err, why)
			}
		}
	}
}

func TestAllowingCORSNeedsOrigins(t *testing.T) {
	for _, more := range [][]string{nil, {"AUTH_CORS_ORIGINS="}} {
		_, _, err := load(t, "", append([]string{"AUTH_ALLOW_CORS=true"}, more...))
		wantProblem(t, err, "AUTH_CORS_ORIGINS: is missing, and AUTH_ALLOW_CORS is true")
	}
	cfg, warnings, err := load(t, "", []string{"AUTH_CORS_ORIGINS=https://app.example.com"})
	if err != nil || cfg.CORS.Enabled {
		t.Errorf("origins without AUTH_ALLOW_CORS: %+v, %v", cfg, err)
	}
	wantWarning(t, warnings, "AUTH_CORS_ORIGINS: has no effect")
}

func TestEveryOriginIsForDebugModeOnly(t *testing.T) {
	for _, allow := range []string{"AUTH_ALLOW_CORS=true", "AUTH_ALLOW_CORS=false"} {
		_, _, err := load(t, "", []string{allow, "AUTH_CORS_ORIGINS=*"})
		wantProblem(t, err, "AUTH_CORS_ORIGINS: is *, which lets every web page read the answers")
	}
	cfg, warnings, err := load(t, "", []string{"AUTH_ALLOW_CORS=true", "AUTH_CORS_ORIGINS=*", "AUTH_DEBUG_MODE=true"})
	if err != nil || !cfg.CORS.AnyOrigin {
		t.Errorf("in debug mode: %+v, %v", cfg, err)
	}
	wantWarning(t, warnings, "AUTH_CORS_ORIGINS: is *")
	_, warnings, err = load(t, "", []string{"AUTH_ALLOW_CORS=true", "AUTH_CORS_ORIGINS=http://app.example.com"})
	if err != nil {
		t.Error(err)
	}
	wantWarning(t, warnings, "AUTH_CORS_ORIGINS: http://app.example.com is in the clear")
}

func TestClientCertificatesOfTheAdminAPINeedTLS(t *testing.T) {
	_, _, err := load(t, "", []string{"AUTH_SERVER_TLS_CLIENT_CA=ca.pem"})
	wantProblem(t, err, "AUTH_SERVER_TLS_CLIENT_CA: client certificates need TLS")
	cfg, _, err := load(t, "", []string{"AUTH_SERVER_TLS_CLIENT_CA=~/ca.pem", "AUTH_SERVER_TLS_CERT=c", "AUTH_SERVER_TLS_KEY=k"})
	if err != nil || cfg.ServerTLS.ClientCA != "/home/gate/ca.pem" {
		t.Errorf("%+v, %v", cfg, err)
	}
}
