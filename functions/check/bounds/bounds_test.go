package bounds

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

type inner struct{ Depth int32 }

type sample struct {
	Count, Free int
	Share       float64
	Open        float64
	Age, Name   string
	Few         int // 0, or 4 to 9
	In          inner
}

func (s sample) Validate() error {
	fits := s.Count >= 1 && s.Count <= 100_000 && s.Share >= 0 && s.Share <= 0.9 && s.Open > 0 && s.Open < 2 &&
		(s.Few == 0 || s.Few >= 4 && s.Few <= 9) && s.In.Depth >= -3 && s.Age != "-1ns" && s.Age[0] != '-'
	if !fits {
		return errors.New("out of bounds")
	}
	return nil
}

func TestOf(t *testing.T) {
	require.Equal(t, `Count 1 to 100000
Share 0 to 0.9
Open >0 to <2
Age 0s to …
Few 0 or 4 to 9
In.Depth -3 to …`, Of(sample{Count: 5, Share: 0.3, Open: 1, Age: "2s", Name: "x"}))
	require.Equal(t, "the configuration is not valid", Of(sample{Age: "1s"}))
}
