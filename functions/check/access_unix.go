//go:build unix

package check

import (
	"fmt"
	"os"
	"syscall"
)

// ownership describes the owner of a file and the user of this process.
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
