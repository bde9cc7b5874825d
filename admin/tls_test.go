package admin_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"portcullis/admin"
)

// TestANewCertificateDropsNothing replaces the pair while a request is in hand and a
// connection is idle: both go on, and new connections see the new certificate.
func TestANewCertificateDropsNothing(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, _, _ := run(t, admin.ServerConfig{TLSCert: certFile, TLSKey: keyFile, CertificatesEvery: 5 * time.Millisecond, Grace: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				close(entered)
				<-leave
			}
			io.WriteString(w, r.RemoteAddr)
		})})
	for _, h2 := range []bool{false, true} {
		protocols := &http.Protocols{}
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: protocols}}
		get := func(path string) (from string) {
			response, err := old.Get("https://" + addr + path)
			must(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			must(t, err)
			return string(body)
		}
		first := get("/")
		var held sync.WaitGroup
		if h2 {
			held.Go(func() { get("/hold") })
			<-entered
		}

		newCert, newKey, newRoots := certificate(t)
		must(t, os.Rename(newCert, certFile))
		must(t, os.Rename(newKey, keyFile))
		eventually(t, "the new certificate is shown", func() bool {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: newRoots})
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		if again := get("/"); again != first {
			t.Errorf("HTTP/2 %t: the connection was dropped: %s, before %s", h2, again, first)
		}
		if h2 {
			close(leave)
			held.Wait()
		}
		old.CloseIdleConnections()
		roots = newRoots
	}
}

func TestClientCertificates(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	ours, oursKey, _ := certificate(t)
	theirs, theirsKey, _ := certificate(t)
	addr, _, _ := run(t, admin.ServerConfig{Handler: http.NotFoundHandler(), TLSCert: certFile, TLSKey: keyFile, ClientCA: ours})
	asks := func(files ...string) bool {
		t.Helper()
		cfg := &tls.Config{RootCAs: roots}
		if files != nil {
			pair, err := tls.LoadX509KeyPair(files[0], files[1])
			must(t, err)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
		defer client.CloseIdleConnections()
		response, err := client.Get("https://" + addr)
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	}
	if !asks(ours, oursKey) {
		t.Error("a client of ours is not served")
	}
	if asks() {
		t.Error("a client without a certificate is served")
	}
	if asks(theirs, theirsKey) {
		t.Error("a client of another authority is served")
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		conn.SetDeadline(time.Now().Add(patience))
		if body, _ := io.ReadAll(conn); len(body) > 0 && string(body[:12]) != "HTTP/1.0 400" {
			t.Errorf("plain text is answered: %s", body)
		}
		conn.Close()
	}
}
