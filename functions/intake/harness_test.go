package intake

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/stretchr/testify/require"
)

// sealed is a message as EdgeX's MQTT client publishes it.
func sealed(t testing.TB, payload []byte, contentType string) []byte {
	env := types.NewMessageEnvelope(payload, context.Background())
	env.CorrelationID, env.ContentType = "9ba11c8e-59d7-4c4a-8d4d-1f0c1ee30b64", contentType
	msg, err := json.Marshal(env)
	require.NoError(t, err)
	return msg
}

// small is the shortest possible event, as a base for invalid ones.
const small = `{"apiVersion":"v3","id":"82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc","deviceName":"d","profileName":"p","sourceName":"s",` +
	`"origin":1,"readings":[{"origin":1,"deviceName":"d","profileName":"p","resourceName":"r","valueType":"Int8","value":"1"}]}`
