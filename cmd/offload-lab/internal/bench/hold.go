package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// slack is by how much a ratio to the floor may exceed the recorded one.
const slack = 1.15

// readRatios reads the recorded ratios of the service's CPU to the floor's: a line for each row, with its name and the ratio. Lines that begin
// with # say more. No file has none.
func readRatios(path string) (map[string]float64, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path) // #nosec G304 -- the user names it
	if err != nil {
		return nil, fmt.Errorf("-hold: %w", err)
	}
	defer f.Close()
	ratios := map[string]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		var row string
		var ratio float64
		if _, err := fmt.Sscanf(line, "%s %g", &row, &ratio); err != nil || !(ratio > 0) {
			return nil, fmt.Errorf("-hold %s: %q must be a row's name and a ratio", path, line)
		}
		ratios[row] = ratio
	}
	return ratios, nil
}

// holdTo is an error for each median ratio that exceeds the recorded one by more than the slack, and for each row that was not measured.
func holdTo(recorded map[string]float64, medians []Result) error {
	var errs []error
	for row, most := range recorded {
		measured := false
		for i := range medians {
			r := &medians[i]
			if r.Row != row || r.CPURatio == 0 || r.Subject == "floor" {
				continue
			}
			measured = true
			if r.CPURatio > slack*most {
				errs = append(errs, fmt.Errorf("%s: CPU to the floor %.2f exceeds the recorded %.2f by more than %.0f %%; foreign CPU %.0f %% of a core",
					row, r.CPURatio, most, 100*(slack-1), r.Foreign))
			}
		}
		if !measured {
			errs = append(errs, fmt.Errorf("%s: the recorded ratio is not held, because the row was not measured in more than one round", row))
		}
	}
	return errors.Join(errs...)
}
