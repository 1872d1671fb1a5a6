package golden

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDiffNamesTheLinesThatDiffer(t *testing.T) {
	require.Equal(t, "line 2\n\twant: b\n\thave: x\nline 4\n\twant: (no such line)\n\thave: d\n", diff("a\nb\nc", "a\nx\nc\nd"))
	require.Contains(t, diff(strings.Repeat("a\n", 15), strings.Repeat("b\n", 15)), "and 5 more lines differ")
}

func TestRequireAcceptsTheSameText(t *testing.T) {
	Require(t, "same.golden", "one\ntwo\n")
}
