package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// throttle limits a process and its threads to a percentage of one core with a separate control group, and returns a function that lifts the limit.
// It needs root and writable control groups.
func throttle(pid, percent int) (lift func() error, err error) {
	root, period := "/sys/fs/cgroup", 100_000
	files := map[string]string{"cpu.max": fmt.Sprintf("%d %d", percent*period/100, period)}
	if _, err := os.Stat(filepath.Join(root, "cpu")); err == nil { // version 1
		root = filepath.Join(root, "cpu")
		files = map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": strconv.Itoa(percent * period / 100)}
	}
	dir, err := os.MkdirTemp(root, "offload-bench-")
	if err != nil {
		return nil, fmt.Errorf("creating a control group for the quota: %w", err)
	}
	lift = func() error { return os.Remove(dir) }
	files["cgroup.procs"] = strconv.Itoa(pid)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("setting the quota: %w", err), lift())
		}
	}
	return lift, nil
}
