//go:build unix

package check

import (
	"fmt"
	"os"
	"syscall"
)

// ownership says whose a file is, and who asks.
func ownership(path string) string {
	me := fmt.Sprintf("this process is user %d", os.Geteuid())
	info, err := os.Lstat(path)
	if err != nil {
		return me
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("it belongs to user %d with mode %v, and %s", st.Uid, info.Mode().Perm(), me)
	}
	return me
}
