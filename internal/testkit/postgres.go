package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresReadyTimeout = 60 * time.Second
	postgresStopTimeout  = 20 * time.Second

	// postgresPort only names the socket: each server has a folder of its own.
	postgresPort = 5432

	// maxSocketDir keeps DIR/.s.PGSQL.5432 and its lock file below the 107 bytes
	// that Linux gives a unix socket's path (103 elsewhere).
	maxSocketDir = 80
)

// PG is a Postgres server on a unix socket in a temporary folder, for tests: it
// trusts everybody who reaches the socket and does not sync to disk. On Linux the
// folder is in memory where there is room, unless TMPDIR says another place: making
// a database takes a tenth of the time there. It ends,
// and its folder goes, when this process does, however that happens. Its methods
// are safe for concurrent use.
type PG struct {
	bin    string // folder of the programs
	dir    string // holds the socket, the data and the log
	cred   *syscall.Credential
	reaper *os.File // closing it sends the reaper to work

	mu        sync.Mutex // guards what follows
	exited    <-chan error
	process   *os.Process // nil while the server is ended
	killed    bool        // it left its shared memory behind
	port      int         // names the socket, and the TCP port after ListenTCP
	settings  []string    // more of the server's settings, NAME=value
	databases int
	templates map[string]string
}

// StartPostgres makes a database cluster and starts its server. The context
// bounds the start alone; Close ends the server and removes its folder.
func StartPostgres(ctx context.Context) (*PG, error) {
	p, err := newPG()
	if err != nil {
		return nil, err
	}
	if err := p.run(ctx, "initdb", "--pgdata", p.data(), "--username=postgres", "--auth=trust", "--no-sync",
		"--encoding=UTF8", "--locale=C"); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.Start(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// newPG makes the folder of a server, and the reaper that removes it.
func newPG() (*PG, error) {
	bin, err := FindPostgres()
	if err != nil {
		return nil, err
	}
	cred, err := serverUser()
	if err != nil {
		return nil, err
	}
	parent := serverParent()
	if len(parent) > maxSocketDir-len("/pcpg-1234567890") || cred != nil && !reachable(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "pcpg-")
	if err != nil {
		return nil, err
	}
	p := &PG{bin: bin, dir: dir, cred: cred, port: postgresPort, templates: make(map[string]string)}
	if err := p.prepareDir(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

func (p *PG) prepareDir() error {
	if p.cred != nil {
		if !reachable(p.bin) {
			// The repository lies under a folder that only root may enter. The programs
			// find their libraries from where they are, so all of them move.
			root := installRoot(p.bin)
			inner, err := filepath.Rel(root, p.bin)
			if err != nil {
				return err
			}
			programs := filepath.Join(p.dir, "programs")
			if err := os.CopyFS(programs, os.DirFS(root)); err != nil {
				return fmt.Errorf("copy postgres's programs to where the server's user reaches them: %w", err)
			}
			p.bin = filepath.Join(programs, inner)
		}
		if err := os.Chown(p.dir, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
			return err
		}
	}
	return p.startReaper()
}

// reaperScript waits for its standard input to end, which the kernel sees to
// when this process dies, and cleans up behind it. The number in postmaster.pid
// may be another process's by then, so its command line must name the folder.
const reaperScript = `
trap '' HUP INT TERM
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
	alive() { { tr '\0' ' ' <"/proc/$pid/cmdline" || ps -p "$pid" -o args=; } 2>/dev/null | grep -qF "$1/data"; }
	alive "$1" && kill -QUIT "$pid"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		alive "$1" || break
		sleep 0.5
	done
fi
rm -rf "$1"
`

// startReaper starts a shell, in a session of its own so that a Ctrl-C at the
// terminal does not reach it, that outlives this process just long enough.
func (p *PG) startReaper() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "portcullis-postgres-reaper", p.dir)
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the reaper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it ends with Close or after this process
	p.reaper = w
	return nil
}

func (p *PG) data() string { return filepath.Join(p.dir, "data") }

// run runs one of Postgres's programs to its end.
func (p *PG) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...)
	cmd.Dir = p.dir
	cmd.Env = serverEnv(p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// Start starts the server, after a Stop or a Crash, and returns once it takes
// connections. It does nothing to a running one.
func (p *PG) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgresReadyTimeout)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		return nil
	}
	for {
		err := p.start(ctx)
		if err == nil {
			return nil
		}
		// After a crash the new server may find the old one's children alive and
		// give up; they go within moments.
		select {
		case <-ctx.Done():
			return fmt.Errorf("start postgres: %w\n%s", err, p.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *PG) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", p.data(), "-k", p.dir, "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200",
		"-c", "shared_buffers=32MB", "-c", "max_wal_size=256MB", "-c", "timezone=UTC", "-c", "wal_level=replica", "-c", "max_wal_senders=5"}
	for _, setting := range p.settings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	cmd.Dir = p.dir
	cmd.Env = serverEnv(p.dir)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own keeps a Ctrl-C at the terminal from it: the order in
	// which things end is this process's to decide.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	started, exited := make(chan error, 1), make(chan error, 1)
	go func() {
		// The parent-death signal is sent when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	for {
		conn, err := pgx.Connect(ctx, p.URL("postgres"))
		if err == nil {
			p.process, p.exited, p.killed = cmd.Process, exited, false
			return conn.Close(ctx)
		}
		select {
		case exit := <-exited:
			return fmt.Errorf("the server ended at once: %v", exit)
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGQUIT)
			<-exited
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server as an administrator would: sessions are cut off, what
// was committed is on disk. It does nothing to a stopped one.
func (p *PG) Stop() error { return p.end(syscall.SIGINT) }

// Crash ends the server at once, without a checkpoint: the next Start recovers
// from the log.
func (p *PG) Crash() error { return p.end(syscall.SIGQUIT) }

// Kill ends the server's first process with SIGKILL; its children follow when
// they notice.
func (p *PG) Kill() error { return p.end(syscall.SIGKILL) }

func (p *PG) end(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return nil
	}
	if err := p.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(postgresStopTimeout):
		_ = p.process.Kill()
		<-p.exited
		return fmt.Errorf("postgres did not end %s after %s", postgresStopTimeout, sig)
	}
	p.process, p.killed = nil, sig == syscall.SIGKILL
	return nil
}

// Close ends the server and removes its folder.
func (p *PG) Close() error {
	var errs []error
	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()
	if killed {
		// The next start finds what a killed server left in shared memory, and
		// nobody else ever would.
		errs = append(errs, p.Start(context.Background()))
	}
	return errors.Join(append(errs, p.Crash(), p.reaper.Close(), os.RemoveAll(p.dir))...)
}

// URL is a connection URL for a database on this server, as its superuser.
func (p *PG) URL(database string) string {
	return "postgres://postgres@/" + url.PathEscape(database) + "?host=" + url.QueryEscape(p.dir) + "&port=" + strconv.Itoa(p.port)
}

// SocketDir is the folder of the server's socket: a host in a connection URL.
func (p *PG) SocketDir() string { return p.dir }

// Log is what the server has written to its log.
func (p *PG) Log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return ""
	}
	return string(text)
}

// Replica starts a streaming standby of this server.
func (p *PG) Replica(ctx context.Context) (*PG, error) {
	r, err := newPG()
	if err != nil {
		return nil, err
	}
	if err := r.run(ctx, "pg_basebackup", "--pgdata", r.data(), "--dbname", p.URL("postgres"), "--write-recovery-conf",
		"--wal-method=stream", "--checkpoint=fast", "--no-sync"); err != nil {
		r.Close()
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Promote makes a standby a primary.
func (p *PG) Promote(ctx context.Context) error {
	return p.exec(ctx, "postgres", "SELECT pg_promote()")
}

// CreateDatabase makes an empty database and returns its URL.
func (p *PG) CreateDatabase(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.createDatabase(ctx, "template0")
}

// CopyDatabase makes a database that prepare has filled and returns its URL.
// prepare runs once for each name and server; later calls copy what it made.
func (p *PG) CopyDatabase(ctx context.Context, name string, prepare func(url string) error) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	template, ok := p.templates[name]
	if !ok {
		template = fmt.Sprintf("template_%d", len(p.templates)+1)
		if err := p.exec(ctx, "postgres", "CREATE DATABASE "+template+" TEMPLATE template0"); err != nil {
			return "", err
		}
		if err := prepare(p.URL(template)); err != nil {
			_ = p.exec(ctx, "postgres", "DROP DATABASE "+template+" WITH (FORCE)")
			return "", fmt.Errorf("prepare the template %s: %w", name, err)
		}
		p.templates[name] = template
	}
	return p.createDatabase(ctx, template)
}

func (p *PG) createDatabase(ctx context.Context, template string) (string, error) {
	p.databases++
	name := fmt.Sprintf("test_%d", p.databases)
	if err := p.exec(ctx, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return "", err
	}
	return p.URL(name), nil
}

// DropDatabase drops the database of a URL that CreateDatabase or CopyDatabase
// returned, and ends its sessions.
func (p *PG) DropDatabase(ctx context.Context, databaseURL string) error {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return errors.New("drop database: the URL cannot be read")
	}
	return p.exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+pgx.Identifier{cfg.Database}.Sanitize()+" WITH (FORCE)")
}

func (p *PG) exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.URL(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
