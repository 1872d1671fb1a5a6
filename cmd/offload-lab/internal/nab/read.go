package nab

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const stamp = "2006-01-02 15:04:05"

// Read reads a corpus in the layout of NAB's repository: data/GROUP/NAME.csv, and labels/combined_windows.json. Series are in the order of their
// names. A series without labels, or with a window outside its rows, is an error.
func Read(dir string) ([]Series, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the corpus: %w", err)
	}
	defer root.Close() //nolint:errcheck // read only
	raw, err := root.ReadFile("labels/combined_windows.json")
	if err != nil {
		return nil, fmt.Errorf("reading the labels of %s (a copy of NAB's repository is expected): %w", dir, err)
	}
	var labels map[string][][2]string
	if err := json.Unmarshal(raw, &labels); err != nil {
		return nil, fmt.Errorf("reading labels/combined_windows.json: %w", err)
	}
	names, _ := fs.Glob(root.FS(), "data/*/*.csv") // the pattern is valid
	if len(names) == 0 {
		return nil, fmt.Errorf("no series in %s: data/GROUP/NAME.csv are expected", dir)
	}
	slices.Sort(names)
	series := make([]Series, 0, len(names))
	for _, name := range names {
		s := Series{Name: strings.TrimPrefix(name, "data/")}
		windows, ok := labels[s.Name]
		if !ok {
			return nil, fmt.Errorf("series %s has no entry in labels/combined_windows.json", s.Name)
		}
		raw, err := root.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := s.read(bytes.NewReader(raw), windows); err != nil {
			return nil, fmt.Errorf("reading series %s: %w", s.Name, err)
		}
		series = append(series, s)
	}
	return series, nil
}

func (s *Series) read(r io.Reader, windows [][2]string) error {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord = 2
	if _, err := rows.Read(); err != nil {
		return err
	}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		at, err := time.Parse(stamp, row[0])
		if err != nil {
			return err
		}
		v, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			return err
		}
		s.Times, s.Values = append(s.Times, at.UnixNano()), append(s.Values, v)
	}
	for _, w := range windows {
		first, err := s.row(w[0])
		if err != nil {
			return err
		}
		last, err := s.row(w[1])
		if err != nil {
			return err
		}
		s.Windows = append(s.Windows, [2]int{first, last})
	}
	return nil
}

// row returns the first row of a time, as NAB does for repeated times.
func (s *Series) row(text string) (int, error) {
	at, err := time.Parse(stamp+".000000", text)
	if err != nil {
		return 0, fmt.Errorf("window %q: %w", text, err)
	}
	i := slices.Index(s.Times, at.UnixNano())
	if i < 0 {
		return 0, fmt.Errorf("window %q does not begin or end at a row", text)
	}
	return i, nil
}
