package intake

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultConfigIsValid(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
}

func TestValidateNamesEveryProblem(t *testing.T) {
	err := Config{ReorderWindow: "soon", KeepAlive: "1ms", ClientID: "gw\n"}.Validate()
	for _, key := range []string{"MaxPayloadKiB", "MaxDepth", "MaxEvents", "MaxMiB", "ReorderWindow", "QuarantineKiB", "MaxSlice", "RetryAfter", "KeepAlive", "ReadBufferKiB", "ClientID"} {
		require.ErrorContains(t, err, "Intake."+key)
	}
}

// TestConfigFitsEdgeX: its configuration provider supports neither lists nor durations.
func TestConfigFitsEdgeX(t *testing.T) {
	for field := range reflect.TypeFor[Config]().Fields() {
		require.Contains(t, []reflect.Kind{reflect.String, reflect.Int, reflect.Bool, reflect.Float64}, field.Type.Kind(), field.Name)
	}
}
