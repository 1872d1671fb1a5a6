package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/stretchr/testify/require"
)

// metadata is the only fake of the stack: the part of core-metadata's REST API that a device service uses at its start. It knows one device for each
// service, of the profile with the service's name.
type metadata struct{ *httptest.Server }

// newMetadata starts it on a port.
func newMetadata(t *testing.T, port string) metadata {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(code int, body any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { reply(w, code, body) }
	}
	created := []any{map[string]any{"apiVersion": "v3", "statusCode": http.StatusCreated, "id": "11111111-1111-4111-8111-111111111111"}}
	mux.HandleFunc("GET /api/v3/ping", answer(http.StatusOK, map[string]any{"apiVersion": "v3"}))
	mux.HandleFunc("GET /api/v3/device/service/name/{service}", devices)
	mux.HandleFunc("GET /api/v3/deviceprofile/name/{profile}", profile)
	mux.HandleFunc("GET /api/v3/provisionwatcher/service/name/{service}", answer(http.StatusOK,
		map[string]any{"apiVersion": "v3", "statusCode": http.StatusOK, "totalCount": 0, "provisionWatchers": []any{}}))
	mux.HandleFunc("GET /api/v3/deviceservice/name/{service}", answer(http.StatusNotFound,
		map[string]any{"apiVersion": "v3", "statusCode": http.StatusNotFound, "message": "not registered yet"}))
	mux.HandleFunc("POST /api/v3/deviceservice", answer(http.StatusMultiStatus, created))
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(mux)
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return metadata{server}
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}

// sources are the device's resources with their types and the interval at which an autoEvent reads each.
var sources = []struct{ name, kind, every string }{
	{"Level", "Float64", "100ms"},
	{"Wave", "Float32Array", "250ms"},
	{"Frame", "Binary", "500ms"},
}

func devices(w http.ResponseWriter, r *http.Request) {
	service := r.PathValue("service")
	var events []dtos.AutoEvent
	for _, s := range sources {
		events = append(events, dtos.AutoEvent{Interval: s.every, SourceName: s.name})
	}
	device := dtos.Device{
		Name: service + "-1", ServiceName: service, ProfileName: service, AdminState: "UNLOCKED", OperatingState: "UP",
		Protocols: map[string]dtos.ProtocolProperties{"none": {"address": "here"}}, AutoEvents: events,
	}
	reply(w, http.StatusOK, map[string]any{"apiVersion": "v3", "statusCode": http.StatusOK, "totalCount": 1, "devices": []any{device}})
}

func profile(w http.ResponseWriter, r *http.Request) {
	var p dtos.DeviceProfile
	p.Name = r.PathValue("profile")
	for _, s := range sources {
		properties := dtos.ResourceProperties{ValueType: s.kind, ReadWrite: "R"}
		if s.kind == "Binary" {
			properties.MediaType = "application/octet-stream"
		}
		p.DeviceResources = append(p.DeviceResources, dtos.DeviceResource{Name: s.name, Properties: properties})
	}
	reply(w, http.StatusOK, map[string]any{"apiVersion": "v3", "statusCode": http.StatusOK, "profile": p})
}
