package main

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
)

// profilePath is where profiles are served, and only in debug mode.
const profilePath = "/debug/pprof/"

// withProfiles is next with Go's profiles beside it, for callers on this machine. A
// heap holds secrets, so nobody else gets one: the connection must have come in on
// a loopback address or a unix socket, and must name this machine as the host, since
// a web page in a browser here could otherwise ask under a name of its own.
func withProfiles(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+profilePath, pprof.Index) // named profiles too
	mux.HandleFunc("GET "+profilePath+"cmdline", pprof.Cmdline)
	mux.HandleFunc("GET "+profilePath+"profile", pprof.Profile)
	mux.HandleFunc("GET "+profilePath+"symbol", pprof.Symbol)
	mux.HandleFunc("GET "+profilePath+"trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, profilePath):
			next.ServeHTTP(w, r)
		case fromThisMachine(r):
			mux.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

func fromThisMachine(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	if at.Network() == "unix" {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return onLoopback(at.String()) && onLoopback(r.RemoteAddr) && (strings.EqualFold(host, "localhost") || isLoopback(strings.Trim(host, "[]")))
}

// onLoopback reports whether a host:port is a loopback address.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopback(host)
}

func isLoopback(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.Unmap().IsLoopback()
}
