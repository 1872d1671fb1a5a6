package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/environment"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/clients/logger"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"app-offload/functions/config"
)

func shippedFile(t *testing.T) map[string]any {
	t.Helper()
	raw, err := os.ReadFile("../../res/configuration.yaml")
	require.NoError(t, err)
	file := map[string]any{}
	require.NoError(t, yaml.Unmarshal(raw, &file))
	return file
}

// EdgeX takes the type of an override from the value in the shipped file: every key accepts every value of its type there.
func TestEveryKeyOfTheShippedFileCanBeOverridden(t *testing.T) {
	given := config.Default()
	require.NoError(t, config.Walk(&given, func(k config.Key) error {
		value := map[reflect.Kind]string{reflect.Float64: "0.28", reflect.Int: "7", reflect.Bool: "true", reflect.String: "text"}[k.Value.Kind()]
		if k.Value.Kind() == reflect.Bool && k.Value.Bool() {
			value = "false"
		}
		require.NotEmpty(t, value, "%v of kind %v", k.Path, k.Value.Kind())
		t.Setenv(k.Env(), value)
		return nil
	}))
	secret := "WRITABLE_INSECURESECRETS_MQTT_EXPORT_SECRETDATA_PASSWORD"
	t.Setenv(secret, "pass")
	file := shippedFile(t)
	_, err := environment.NewVariables(logger.NewMockClient()).OverrideConfigMapValues(file)
	require.NoError(t, err)
	require.NoError(t, config.Walk(&given, func(k config.Key) error {
		var at any = file
		for _, name := range k.Path {
			at = at.(map[string]any)[name]
		}
		require.Equal(t, k.Value.Kind() == reflect.Float64, reflect.TypeOf(at).Kind() == reflect.Float64, "%v = %v", k.Path, at)
		require.Contains(t, []any{0.28, 7, "text", true, false}, at, "%s", strings.Join(k.Path, "."))
		return nil
	}))
	secrets := file["Writable"].(map[string]any)["InsecureSecrets"].(map[string]any)
	require.Equal(t, "pass", secrets["mqtt-export"].(map[string]any)["SecretData"].(map[string]any)["password"])
}

// With --registry the SDK waits for the address of every client that is not on the MessageBus.
func TestNoClientIsWaitedFor(t *testing.T) {
	clients := shippedFile(t)["Clients"].(map[string]any)
	require.Equal(t, map[string]any{"UseMessageBus": true}, clients["core-metadata"])
}
