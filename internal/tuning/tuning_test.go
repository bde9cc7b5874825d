package tuning

import (
	"io"
	"log/slog"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

const mib = 1 << 20

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		what                       string
		alive, floor, ceiling, out int64
	}{
		{"idle: the floor", 10 * mib, 256 * mib, 0, 256 * mib},
		{"more alive than foreseen: twice that", 300 * mib, 256 * mib, 0, 600 * mib},
		{"the container has less", 10 * mib, 256 * mib, 100 * mib, 100 * mib},
		{"the container bounds growth", 300 * mib, 256 * mib, 400 * mib, 400 * mib},
	} {
		if got := limitFor(c.alive, c.floor, c.ceiling); got != c.out {
			t.Errorf("%s: %d MiB, want %d", c.what, got/mib, c.out/mib)
		}
	}
}

func TestTheLimitFollowsWhatIsAlive(t *testing.T) {
	var sets []int64
	live := int64(10 * mib)
	tuner := &Tuner{
		floor:  256 * mib,
		set:    func(n int64) int64 { sets = append(sets, n/mib); return 0 },
		alive:  func() int64 { return live },
		logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	tuner.adjust()
	live = 130 * mib // 260: a sliver
	tuner.adjust()
	live = 500 * mib
	tuner.adjust()
	live = 10 * mib
	tuner.adjust()
	if len(sets) != 3 || sets[0] != 256 || sets[1] != 1000 || sets[2] != 256 {
		t.Errorf("limits set: %v MiB, want [256 1000 256]", sets)
	}
}

func TestTheUsersChoiceStands(t *testing.T) {
	percent := debug.SetGCPercent(123)
	limit := debug.SetMemoryLimit(1 << 40)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()

	apply := func(env map[string]string) (gotPercent int, gotLimit int64) {
		debug.SetGCPercent(123)
		debug.SetMemoryLimit(1 << 40)
		Apply(Config{
			Lookup:      func(name string) (string, bool) { v, ok := env[name]; return v, ok },
			CacheMemory: 1 << 30, // far above what a test holds, so that the floor decides
			Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		gotPercent = debug.SetGCPercent(123)
		return gotPercent, debug.SetMemoryLimit(-1)
	}
	for _, c := range []struct {
		env     map[string]string
		percent int
		limit   int64
	}{
		{map[string]string{}, Percent, 4 << 30},
		{map[string]string{"GOGC": "123"}, 123, 4 << 30},
		{map[string]string{"GOMEMLIMIT": "1TiB"}, Percent, 1 << 40},
		{map[string]string{"GOGC": "123", "GOMEMLIMIT": "1TiB"}, 123, 1 << 40},
	} {
		if p, l := apply(c.env); p != c.percent || l != c.limit {
			t.Errorf("%v: percent %d, limit %d; want %d, %d", c.env, p, l, c.percent, c.limit)
		}
	}
}

func TestAliveIsMeasured(t *testing.T) {
	if n := alive(); n < 64<<10 || n > 1<<34 {
		t.Errorf("alive() = %d bytes", n)
	}
}

func TestContainerLimit(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, c := range []struct {
		what string
		root fstest.MapFS
		want int64
	}{
		{"no control groups", fstest.MapFS{}, 0},
		{"no limit", fstest.MapFS{"sys/fs/cgroup/memory.max": file("max\n")}, 0},
		{"a container", fstest.MapFS{
			"proc/self/cgroup":         file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("134217728\n"),
		}, 128 * mib},
		{"a container whose path lies outside of what it sees", fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../pod/x\n"),
			"sys/fs/cgroup/memory.max": file("134217728\n"),
		}, 128 * mib},
		{"a systemd unit under a smaller slice", fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/portcullis.service\n"),
			"sys/fs/cgroup/system.slice/portcullis.service/memory.max": file("536870912\n"),
			"sys/fs/cgroup/system.slice/memory.max":                    file("268435456\n"),
		}, 256 * mib},
		{"version 1", fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("67108864\n")}, 64 * mib},
		{"version 1 without a limit", fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
		{"nonsense", fstest.MapFS{"sys/fs/cgroup/memory.max": file("lots\n")}, 0},
	} {
		if got := ContainerLimit(c.root); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
