package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// TLSFiles are PEM files for a Postgres server.
type TLSFiles struct {
	Cert, Key string
	ClientCA  string // "" asks clients for no certificate
}

// ListenTCP starts the server anew so that it listens on 127.0.0.1 as well, and
// returns the port; with TLS where files is not nil, else without. The rules are
// lines of pg_hba.conf, ahead of those that are there: they trust whoever comes.
func (p *PG) ListenTCP(ctx context.Context, files *TLSFiles, rules ...string) (port int, err error) {
	if err := p.Stop(); err != nil {
		return 0, err
	}
	settings := []string{"listen_addresses=127.0.0.1"}
	if files != nil {
		if settings, err = p.takeTLS(settings, *files); err != nil {
			return 0, err
		}
	}
	if err := p.addRules(rules); err != nil {
		return 0, err
	}
	// The port is free when it is looked for, and may be another's a moment later.
	for range 5 {
		if port, err = freePort(); err != nil {
			return 0, err
		}
		p.mu.Lock()
		p.port, p.settings = port, settings
		p.mu.Unlock()
		if err = p.startWithin(ctx, 15*time.Second); err == nil {
			return port, nil
		}
	}
	return 0, err
}

// Port is in the name of the server's socket, and the TCP port after ListenTCP.
func (p *PG) Port() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strconv.Itoa(p.port)
}

// Exec runs a statement as the superuser.
func (p *PG) Exec(ctx context.Context, database, sql string) error {
	return p.exec(ctx, database, sql)
}

func (p *PG) startWithin(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return p.Start(ctx)
}

// takeTLS copies the files to where the server's user may read them.
func (p *PG) takeTLS(settings []string, files TLSFiles) ([]string, error) {
	settings = append(settings, "ssl=on")
	for setting, file := range map[string]string{"ssl_cert_file": files.Cert, "ssl_key_file": files.Key, "ssl_ca_file": files.ClientCA} {
		if file == "" {
			continue
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		copied := filepath.Join(p.dir, setting+".pem")
		if err := os.WriteFile(copied, pem, 0o600); err != nil {
			return nil, err
		}
		if p.cred != nil {
			if err := os.Chown(copied, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
				return nil, err
			}
		}
		settings = append(settings, setting+"="+copied)
	}
	return settings, nil
}

func (p *PG) addRules(rules []string) error {
	path := filepath.Join(p.data(), "pg_hba.conf")
	there, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(strings.Join(rules, "\n")+"\n"), there...), 0o600)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
