package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// steps is an app-offload built with a steppable wall clock. Only Go's time.Now is compiled from a changed copy, which adds the seconds stored in a
// file. Monotonic time is unchanged.
type steps struct {
	bin  string // folder of the program
	file string // eight bytes: the seconds to add
	boot string // boot id shown to the program; "" is the machine's
}

// stepVariable names the file to the program.
const stepVariable = "OFFLAB_CLOCK_STEP"

const stepSource = `package time

import (
	"syscall"
	"unsafe"
)

var step = new(int64)

func init() {
	path, ok := syscall.Getenv("` + stepVariable + `")
	if !ok {
		return
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic("opening " + path + ": " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("mapping " + path + ": " + err.Error())
	}
	step = (*int64)(unsafe.Pointer(&page[0]))
}
`

// buildStepped builds app-offload with a steppable clock. The first build takes minutes, since it compiles everything.
func (s *system) buildStepped(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("kind clock needs Go to build app-offload with a steppable clock: %w", err)
	}
	lib := filepath.Join(string(bytes.TrimSpace(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(lib, "time.go"))
	if err != nil {
		return fmt.Errorf("reading Go's clock: %w", err)
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	stepped := bytes.Replace(source, []byte(reads), []byte(reads+"\tsec += *step\n"), 1)
	if bytes.Equal(stepped, source) {
		return errors.New("this Go version reads its clock in an unknown way; exclude kind clock with -kind")
	}
	c := &steps{bin: filepath.Join(s.cfg.Dir, "stepped"), file: filepath.Join(s.cfg.Dir, "step")}
	// Not in the run's folder, whose name differs each time: the build cache depends on names.
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("finding a folder for Go's changed clock: %w", err)
	}
	overlay := filepath.Join(cache, "offload-lab", "clock")
	if err := os.MkdirAll(overlay, 0o750); err != nil {
		return fmt.Errorf("creating the folder for Go's changed clock: %w", err)
	}
	own := func(name string) string { return filepath.Join(overlay, name) }
	list, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(lib, "time.go"): own("time.go"), filepath.Join(lib, "step.go"): own("step.go"),
	}})
	if err != nil {
		return err
	}
	// #nosec G703 -- the user's own cache
	err = errors.Join(os.WriteFile(own("time.go"), stepped, 0o600), os.WriteFile(own("step.go"), []byte(stepSource), 0o600),
		os.WriteFile(own("overlay.json"), list, 0o600), os.WriteFile(c.file, make([]byte, 8), 0o600))
	if err != nil {
		return fmt.Errorf("writing Go's changed clock: %w", err)
	}
	fmt.Fprintln(s.cfg.Out, "building app-offload with a steppable clock")
	// #nosec G204 -- our own command
	build := exec.CommandContext(ctx, "go", "build", "-overlay", own("overlay.json"), "-o", c.bin+string(filepath.Separator), "app-offload/cmd/app-offload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building app-offload with a steppable clock: %w: %s", err, out)
	}
	s.clock = c
	return nil
}

func (s *system) edgeBin() string {
	if s.clock == nil {
		return s.cfg.Bin
	}
	return s.clock.bin
}

func (c *steps) env() []string {
	if c == nil {
		return nil
	}
	return []string{stepVariable + "=" + c.file}
}

// wrap starts the program in a mount namespace with another boot id.
func (c *steps) wrap() []string {
	if c == nil || c.boot == "" {
		return nil
	}
	const bind = `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`
	return []string{"unshare", "--mount", "sh", "-c", bind, c.boot}
}

// to sets the clock to the true time plus step.
func (c *steps) to(step time.Duration) error {
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("stepping the clock: %w", err)
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(step/time.Second))), 0) // the same bits
	return errors.Join(err, f.Close())
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// stepClock steps the clock while records wait behind a cut link. As root, it sometimes simulates a reboot as well.
func (s *system) stepClock(ctx context.Context) error {
	return inTurn(ctx, s.cut, s.pausing(2*time.Second), func(ctx context.Context) error {
		beside := []time.Duration{0, time.Hour, -time.Hour, day, -day, 30 * year, -30 * year}
		step := beside[s.random.IntN(len(beside))]
		if s.random.IntN(3) == 0 && os.Geteuid() == 0 {
			return s.reboot(ctx, step)
		}
		return s.clock.to(step)
	}, s.pausing(2*time.Second), s.heal)
}

// reboot is a power cut: the next start has another boot id and a clock that may have lost its time.
func (s *system) reboot(ctx context.Context, by time.Duration) error {
	return inTurn(ctx, s.endEdge, func(context.Context) error {
		s.clock.boot = filepath.Join(s.cfg.Dir, "boot")
		if err := os.WriteFile(s.clock.boot, []byte(uuid.NewString()+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing another boot id: %w", err)
		}
		return s.clock.to(by)
	}, s.startEdge, s.awaitEdge)
}
