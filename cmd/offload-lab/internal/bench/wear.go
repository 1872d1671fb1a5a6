package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// wear counts the writes to a disk during a case, by all processes: the kernel does not attribute synced writes to processes.
type wear struct {
	dir            string
	began          time.Time
	writes, kibyte int64
}

// newWear begins to count the writes of the device below a folder.
func newWear(dir string) wear {
	w := wear{dir: dir, began: time.Now()}
	w.writes, w.kibyte = deviceWrites(dir)
	return w
}

// rates are the writes and KiB per second since newWear, -1 if unknown.
func (w wear) rates() (writes, kibyte float64) {
	n, k := deviceWrites(w.dir)
	if n < 0 || w.writes < 0 {
		return -1, -1
	}
	spent := time.Since(w.began).Seconds()
	return float64(n-w.writes) / spent, float64(k-w.kibyte) / spent
}

// deviceWrites is the number of completed writes of the device below a folder since the machine's start, and their KiB; -1 if unknown, such as for a
// tmpfs.
func deviceWrites(dir string) (writes, kibyte int64) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return -1, -1
	}
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	fields := bytes.Fields(raw)
	if err != nil || len(fields) < 7 {
		return -1, -1
	}
	writes, err = strconv.ParseInt(string(fields[4]), 10, 64)
	sectors, err2 := strconv.ParseInt(string(fields[6]), 10, 64)
	if err != nil || err2 != nil {
		return -1, -1
	}
	return writes, sectors / 2
}
