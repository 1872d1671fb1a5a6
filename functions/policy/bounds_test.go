package policy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `WeightedThreshold 0 to 1
SizeWeight 0 to 1
SizeScaleKB 0.001 to 1000000
ComplexityWeight 0 to 1
ComplexityScale 0.001 to 100
CPUWeight 0 to 1
CPUScale 0.001 to 100
RandomShare 0.01 to 0.99
CostTime 0 to 1000000
CostKappa 1 to 100
CostMiss 0 to 1000000
CostEnergy 0 to 1000000
CostJoules 1e-06 to 1000000
CostMoney 0 to 1000000
CostPrice 0 to 1000000
CostMemory 0 to 1000000
CostBattery 0 to 1000
CostPatience 0.001 to 1000000
CostDoubt 0 to 10
CostTail 0 to 1000000
CostCaution 0.1 to 10
CostEdgePrice 0 to 1000000
CostEdgeWait 0 to 1000000
CostEdgeEase 0.001 to 1000000
CostLinkPrice 0 to 1000000
CostLinkWait 0 to 1000000
CostLinkEase 0.001 to 1000000
BanditOptimism 0 to 10
BanditForgetting 0.9 to 1
BanditExplore 0 to 0.5
PPOMargin 0 to 1
DeferTasks 1 to 10000
DeferMiB 1 to 4096
DeferLongest 1s to 24h0m0s
DeferAhead 0s to 10s
BacklogLimit 0 to 1
MemoryLimit 0 to 100
BatteryLimit 0 to 100
PriceLimit 0 to 1e+09
ShadowShare 0.001 to 1
CanaryShare 0.001 to 0.9
CanaryMarginMiss 0 to 1
CanaryMarginCost 0 to 1000000
CanaryConfidence 0.5 to 0.9999
Decisions 1 to 1000000`, bounds.Of(DefaultConfig()))
}
