//go:build !race

package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
)

// largest are messages of about 21 MB, the largest accepted by default, of the most expensive shapes: six of each arrive together.
var largest = map[string]func(reading func(kind, value string) map[string]any, ev map[string]any){
	"texts of 3 MB": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		ev["readings"] = repeated(5, func() any { return reading("String", strings.Repeat("x", 3<<20)) })
	},
	"escaped texts": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		ev["readings"] = repeated(5, func() any { return reading("String", strings.Repeat(`"`, 3<<19)) })
	},
	"an array of 3 million numbers": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		ev["readings"] = []any{reading("Float64Array", "["+strings.Repeat("1.5,", 3<<20)+"2]")}
	},
	"many readings": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		ev["readings"] = repeated(60_000, func() any { return reading("Float64", "1.5") })
	},
	"names of 3 MB": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		r := reading("String", "x")
		for _, name := range []string{"deviceName", "profileName", "resourceName"} {
			r[name] = strings.Repeat("n", 3<<20)
		}
		ev["deviceName"], ev["profileName"], ev["readings"] = r["deviceName"], r["profileName"], []any{r}
	},
	"tags of 3 MB": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		ev["tags"] = repeated(5, func() any { return strings.Repeat("t", 3<<20) })
		ev["tags"] = map[string]any{"a": ev["tags"]}
		ev["readings"] = []any{reading("String", "x")}
	},
	"a picture": func(reading func(kind, value string) map[string]any, ev map[string]any) {
		r := reading("Binary", "")
		r["binaryValue"], r["mediaType"] = make([]byte, 11<<20), "image/jpeg"
		ev["readings"] = []any{r}
	},
	"no event": func(_ func(kind, value string) map[string]any, ev map[string]any) {
		ev["readings"] = strings.Repeat("x", 15<<20)
	},
}

func repeated(n int, f func() any) (all []any) {
	for range n {
		all = append(all, f())
	}
	return all
}

func largestMessage(t *testing.T, fill func(reading func(kind, value string) map[string]any, ev map[string]any)) []byte {
	origin := time.Now().UnixNano()
	ev := map[string]any{"apiVersion": "v3", "id": uuid.NewString(), "deviceName": "big", "profileName": "P", "sourceName": "S", "origin": origin}
	n := 0
	fill(func(kind, value string) map[string]any {
		n++
		r := map[string]any{"id": uuid.NewString(), "origin": origin, "deviceName": "big", "profileName": "P", "resourceName": fmt.Sprint("R", n%10), "valueType": kind}
		if value != "" {
			r["value"] = value
		}
		return r
	}, ev)
	payload, err := json.Marshal(map[string]any{"apiVersion": "v3", "requestId": uuid.NewString(), "event": ev})
	require.NoError(t, err)
	return fmt.Appendf(nil, `{"apiVersion":"v3","correlationID":"c","contentType":"application/json","payload":"%s"}`, base64.StdEncoding.EncodeToString(payload))
}

// A container of the documented size is not killed by any message that the service accepts.
func TestTheLargestMessagesFitTheDocumentedMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil || testing.Short() {
		t.Skip("long, and only where the kernel keeps the highest use of memory")
	}
	c := config.Default()
	documented := (c.Spool.RingMiB+c.Spool.PendingMiB+c.Intake.MaxMiB+c.Local.SampleMiB+80)<<10 + c.Export.MaxInflightKiB + c.Writable.Policy.Decisions*6/10
	for name, fill := range largest {
		for _, policy := range []string{"cloud", "edge"} {
			t.Run(name+", "+policy, func(t *testing.T) {
				e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT="+policy)
				e.start()
				const messages = 6
				for range messages {
					e.client.Publish("edgex/events/device/svc/P/big/S", 1, false, largestMessage(t, fill)).Wait()
				}
				e.await("all are taken", func() bool {
					var status struct {
						Counts counts
						Events struct {
							Received    int64
							Quarantined map[string]int64
						}
					}
					e.get("/status", &status)
					taken := status.Events.Received
					for _, n := range status.Events.Quarantined {
						taken += n
					}
					return taken >= messages && status.Counts.InFlight == 0
				})
				have := peak(t, e.cmd.Process.Pid)
				t.Logf("%d MiB at most, of %d", have>>10, documented>>10)
				require.LessOrEqual(t, have, documented, "KiB")
			})
		}
	}
}

// peak returns the peak resident memory of a process, in KiB.
func peak(t *testing.T, pid int) (kib int) {
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	require.True(t, ok)
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib
}
