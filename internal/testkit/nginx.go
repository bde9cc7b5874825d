package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	nginxReadyTimeout = 30 * time.Second
	nginxStopTimeout  = 10 * time.Second
)

// FindNginx returns the path of an nginx binary: $NGINX_BIN, else nginx on PATH or in
// /usr/sbin, where Debian puts it. The error says what to install.
func FindNginx() (string, error) {
	if bin := os.Getenv("NGINX_BIN"); bin != "" {
		if _, err := exec.LookPath(bin); err != nil {
			return "", fmt.Errorf("NGINX_BIN: %w", err)
		}
		return bin, nil
	}
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if bin, err := exec.LookPath(name); err == nil {
			return bin, nil
		}
	}
	return "", errors.New("no nginx in $NGINX_BIN, on PATH or in /usr/sbin: install Debian's nginx-light")
}

// RequireNginx returns the path of an nginx binary. Where none can be had it skips
// the test with the reason, or fails it under PORTCULLIS_REQUIRE_NGINX=1.
func RequireNginx(tb testing.TB) string {
	tb.Helper()
	bin, err := FindNginx()
	if err != nil {
		Unavailable(tb, "PORTCULLIS_REQUIRE_NGINX", err)
	}
	return bin
}

// RunNginx runs nginx in dir for one test, with conf as what stands in its http
// block, once `nginx -t` has accepted it without a warning. It returns when addr,
// one of conf's listeners, takes connections. The log is shown if the test failed.
func RunNginx(tb testing.TB, dir, conf, addr string) {
	tb.Helper()
	bin := RequireNginx(tb)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // its workers must reach dir
	}
	main := user + `daemon off;
worker_processes 2;
pid ` + dir + `/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path ` + dir + `/body;
    client_body_buffer_size 2m;
    proxy_temp_path ` + dir + `/proxy;
    fastcgi_temp_path ` + dir + `/fastcgi;
    uwsgi_temp_path ` + dir + `/uwsgi;
    scgi_temp_path ` + dir + `/scgi;
` + conf + "\n}\n"
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(main), 0o600); err != nil {
		tb.Fatal(err)
	}
	args := []string{"-p", dir, "-e", "stderr", "-c", file}
	out, err := exec.CommandContext(tb.Context(), bin, append(args, "-t", "-q")...).CombinedOutput()
	if err != nil || len(out) > 0 {
		tb.Fatalf("nginx -t: %v\n%s", err, out)
	}

	var log safeBuffer
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	exited, err := StartBound(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(nginxStopTimeout):
			cmd.Process.Kill()
			tb.Error("nginx does not end")
		}
		if text := log.String(); tb.Failed() && text != "" {
			tb.Logf("nginx's log:\n%s", text)
		}
	})
	ctx, cancel := context.WithTimeout(tb.Context(), nginxReadyTimeout)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-exited:
			tb.Fatalf("nginx ended: %v\n%s", err, log.String())
		case <-ctx.Done():
			tb.Fatalf("nginx does not listen on %s\n%s", addr, log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// FreePort is a TCP port of loopback that nobody listens on just now, for programs
// that cannot pick one by themselves.
func FreePort() (int, error) { return freePort() }
