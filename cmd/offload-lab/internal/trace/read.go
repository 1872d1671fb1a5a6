package trace

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rttSlice is the duration of one line of a round-trip file: the published set has 688 slices in three hours.
const rttSlice = 3 * 3600.0 / 688

// maxFile bounds one recording, so that a wrong folder does not fill the memory.
const maxFile = 64 << 20

// Read reads a folder with link/, rtt/ and nab/, each with plain files or .tar.gz archives. In nab/, only the series with "cpu" in their names are
// CPU loads; other series are ignored.
func Read(dir string) (*Set, error) {
	set := &Set{}
	for _, part := range []struct {
		folder string
		read   func(name string, r io.Reader) error
	}{
		{"link", set.readLink}, {"nab", set.readCPU}, {"rtt", set.readRTT},
	} {
		if err := walk(filepath.Join(dir, part.folder), func(name string, r io.Reader) {
			if err := part.read(name, io.LimitReader(r, maxFile)); err != nil {
				set.Skipped = append(set.Skipped, err.Error())
			}
		}); err != nil {
			return nil, fmt.Errorf("reading recordings from %s: %w", dir, err)
		}
	}
	for _, all := range [][]Series{set.Links, set.CPUs, set.RTTs} {
		slices.SortStableFunc(all, func(a, b Series) int { return strings.Compare(a.Name, b.Name) })
	}
	if err := set.Validate(); err != nil {
		return nil, fmt.Errorf("reading recordings from %s: %w", dir, err)
	}
	return set, nil
}

// walk visits every file below dir, and every file in archives.
func walk(dir string, visit func(name string, r io.Reader)) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(name) // #nosec G304 G122 -- the user's own folder
		if err != nil {
			return err
		}
		defer f.Close()
		if strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz") {
			return unpack(f, visit)
		}
		visit(filepath.Base(name), f)
		return nil
	})
}

func unpack(f *os.File, visit func(name string, r io.Reader)) error {
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if h.Typeflag == tar.TypeReg {
			visit(path.Base(h.Name), t)
		}
	}
}

// readLink reads lines of `seconds Mbit/s`.
func (set *Set) readLink(name string, r io.Reader) error {
	if document(name) {
		return nil
	}
	s := Series{Name: name}
	n := 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		n++
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || !s.add(fields[0], fields[1]) {
			return fmt.Errorf("%s: line %d is not `seconds Mbit/s`", name, n)
		}
	}
	return keep(&set.Links, s)
}

// readCPU reads lines of `timestamp,value`, the value in percent.
func (set *Set) readCPU(name string, r io.Reader) error {
	if !strings.HasSuffix(name, ".csv") || !strings.Contains(name, "cpu") {
		return nil
	}
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s := Series{Name: name}
	for i, row := range rows[min(len(rows), 1):] {
		at, err := time.Parse(time.DateTime, row[0])
		if err != nil || len(row) < 2 {
			return fmt.Errorf("%s: line %d is not `timestamp,value`", name, i+2)
		}
		seconds := float64(at.Unix())
		// If the clock was set back, as at the end of summer time, continue with the usual step.
		if n := len(s.Times); n > 1 && seconds <= s.Times[n-1] {
			seconds = 2*s.Times[n-1] - s.Times[n-2]
		}
		if !s.add(strconv.FormatFloat(seconds, 'f', -1, 64), row[1]) {
			return fmt.Errorf("%s: line %d is not `timestamp,value`", name, i+2)
		}
	}
	return keep(&set.CPUs, s)
}

// readRTT reads one column per pair of hosts, in seconds, with the pairs in the first line.
func (set *Set) readRTT(name string, r io.Reader) error {
	if !strings.HasSuffix(name, ".csv") {
		return nil
	}
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(rows) < 2 {
		return fmt.Errorf("%s: has no slices", name)
	}
	for column, pair := range rows[0] {
		s := Series{Name: name + ":" + pair}
		for i, row := range rows[1:] {
			if !s.add(strconv.FormatFloat(float64(i)*rttSlice, 'f', -1, 64), row[column]) {
				return fmt.Errorf("%s: slice %d of %s is %q, not a number", name, i+1, pair, row[column])
			}
		}
		if err := keep(&set.RTTs, s); err != nil {
			return err
		}
	}
	return nil
}

// document reports whether a file only accompanies recordings, such as a licence or a README.
func document(name string) bool {
	upper := strings.ToUpper(name)
	for _, word := range []string{"LICENSE", "LICENCE", "README", "NOTICE", "."} {
		if strings.HasPrefix(upper, word) {
			return true
		}
	}
	return false
}

func (s *Series) add(at, value string) bool {
	t, err1 := strconv.ParseFloat(at, 64)
	v, err2 := strconv.ParseFloat(strings.TrimSpace(value), 64)
	s.Times, s.Values = append(s.Times, t), append(s.Values, v)
	return err1 == nil && err2 == nil
}

func keep(all *[]Series, s Series) error {
	if err := s.check(); err != nil {
		return err
	}
	*all = append(*all, s)
	return nil
}
