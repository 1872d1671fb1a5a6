package local

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden fixes the form of each operator's results: users build rules and databases on names, types, texts, units and tags.
func TestGolden(t *testing.T) {
	for _, op := range operators {
		t.Run(op.Name, func(t *testing.T) {
			bus := &recorder{}
			w := still(t, class(op.Example), bus)
			for i := range 30 {
				number := 10 * math.Sin(float64(i)/3)
				if i == 29 {
					number = 100
				}
				v := []byte(decimal(number))
				at := time.Duration(i) * 5 * time.Second
				require.NoError(t, w.process(taskOf("press-1", at, task.Reading{Resource: "Force", Type: task.Float64, Units: "kN", Value: v})))
			}
			w.finish()
			var got bytes.Buffer
			for _, r := range bus.results[:min(3, len(bus.results))] {
				r.Event.Id = "00000000-0000-0000-0000-000000000000"
				for i := range r.Event.Readings {
					r.Event.Readings[i].Id = r.Event.Id
				}
				text, err := json.MarshalIndent(r.Event, "", "  ")
				require.NoError(t, err)
				got.Write(append(text, '\n'))
			}
			path := filepath.Join("testdata", op.Name+".golden.json")
			if *update {
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}
