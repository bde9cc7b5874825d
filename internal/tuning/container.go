package tuning

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// ContainerLimit reads the memory limit of the control group that the process
// is in, version 2 or 1, from the file system root (os.DirFS("/")). It returns
// 0 where there is none, or none can be read.
func ContainerLimit(root fs.FS) int64 {
	group := "/"
	if text, err := fs.ReadFile(root, "proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(text)) {
			if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				group = own
			}
		}
	}
	// Every group above limits the ones below it. Inside a container the group's
	// own path may lie outside what is mounted; then the mount's root is the group.
	lowest := int64(0)
	keep := func(limit int64) {
		if limit > 0 && (lowest == 0 || limit < lowest) {
			lowest = limit
		}
	}
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		keep(readLimit(root, "sys/fs/cgroup"+strings.TrimSuffix(dir, "/")+"/memory.max"))
		if dir == "/" {
			break
		}
	}
	keep(readLimit(root, "sys/fs/cgroup/memory/memory.limit_in_bytes"))
	return lowest
}

func readLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	// "max", and version 1's number near 2^63, mean none.
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 || n >= 1<<60 {
		return 0
	}
	return n
}
