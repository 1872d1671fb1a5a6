package oracle

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

// The results of the search never change, including the number of labels and whether it is exact.
func TestTheSearchFindsWhatItAlwaysFound(t *testing.T) {
	var b strings.Builder
	for _, s := range []Search{DefaultSearch(), {Limit: 400, Beam: 40}, {Limit: 60, Beam: 10}} {
		for _, rate := range []float64{1, 3, 6} {
			w := world(t, 80, [2]float64{rate, rate})
			for seed := range uint64(3) {
				p := s.Solve(w.Draw(seed))
				cloud := 0
				for i, c := range p.Cloud {
					if c {
						cloud += i + 1
					}
				}
				fmt.Fprintf(&b, "limit %d beam %d rate %g seed %d: cost %.9g bound %.9g labels %d cloud %d exact %v\n", s.Limit, s.Beam, rate, seed, p.Cost, p.Bound, p.Most, cloud, p.Exact())
			}
		}
	}
	golden.Require(t, "plans.golden", b.String())
}

func TestLabelsAreOrderedByLinkThenCost(t *testing.T) {
	less, more := label{link: 1, cost: 2}, label{link: 2, cost: 1}
	require.Equal(t, -1, byLink(less, more))
	require.Equal(t, 1, byLink(more, less))
	dear := label{link: 1, cost: 3}
	require.Equal(t, -1, byLink(less, dear))
	require.Equal(t, 1, byLink(dear, less))
	require.Equal(t, 0, byLink(less, less))
}

func TestTheTreeKnowsTheLeastSoFar(t *testing.T) {
	var tree fenwick
	for _, n := range []int{8, 3, 8} { // again and again, larger and smaller
		tree.reset(n)
		for i := range n {
			require.True(t, math.IsInf(tree.upTo(i), 1), "%d of %d", i, n)
		}
		tree.lower(2, 5)
		tree.lower(1, 7)
		require.True(t, math.IsInf(tree.upTo(0), 1))
		require.Equal(t, 7.0, tree.upTo(1))
		require.Equal(t, 5.0, tree.upTo(n-1))
		tree.lower(0, 1)
		require.Equal(t, 1.0, tree.upTo(n-1))
	}
}
