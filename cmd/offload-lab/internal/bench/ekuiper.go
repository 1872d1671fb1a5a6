package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

const (
	peer      = "ekuiper"       // the subject
	peerTopic = "bench/ekuiper" // topic of its rule's messages
)

// peerRules returns the stream and the rule: envelopes are forwarded unchanged, in batches like those of the floor. eKuiper decodes and encodes the
// envelope but not the event inside, which is less than the floor does, and keeps nothing on disk.
func peerRules(broker string) ([]byte, error) {
	rule, err := json.Marshal(map[string]any{
		"id": "bench", "sql": "SELECT * FROM bench",
		"actions": []any{map[string]any{"mqtt": map[string]any{
			"server": "tcp://" + broker, "topic": peerTopic, "qos": 1, "sendSingle": false, "batchSize": batchSize, "lingerInterval": 200,
		}}},
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]map[string]string{
		"streams": {"bench": `CREATE STREAM bench () WITH (DATASOURCE="edgex/events/device/#", FORMAT="JSON", TYPE="mqtt")`},
		"rules":   {"bench": string(rule)},
	})
}

// startPeer starts eKuiper 1.x from a folder with its bin and etc, and returns when its rule runs.
func startPeer(ctx context.Context, o Options, qos int, broker, dir string, log io.Writer) (*stack.Process, error) {
	rules, err := peerRules(broker)
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(filepath.Join(dir, peer))
	if err != nil {
		return nil, err
	}
	etc, err := filepath.Abs(filepath.Join(o.EKuiper, "etc"))
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"data", "plugins/sources", "plugins/sinks", "plugins/functions", "plugins/portable", "plugins/wasm"} {
		if err := os.MkdirAll(filepath.Join(base, folder), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.CopyFS(filepath.Join(base, "etc"), os.DirFS(etc)); err != nil {
		return nil, fmt.Errorf("copying eKuiper's configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(base, "data", "init.json"), rules, 0o600); err != nil {
		return nil, err
	}
	var ports [3]string
	for i := range ports {
		addr, err := stack.FreeAddr()
		if err != nil {
			return nil, err
		}
		if _, ports[i], err = net.SplitHostPort(addr); err != nil {
			return nil, err
		}
	}
	env := append([]string{
		"KuiperBaseKey=" + base, "KUIPER__BASIC__FILELOG=false", "KUIPER__BASIC__CONSOLELOG=true", "KUIPER__BASIC__LOGLEVEL=warn",
		"KUIPER__BASIC__IP=127.0.0.1", "KUIPER__BASIC__RESTIP=127.0.0.1", "KUIPER__BASIC__RESTPORT=" + ports[0], "KUIPER__BASIC__PORT=" + ports[1],
		"KUIPER__SOURCE__HTTPSERVERPORT=" + ports[2],
		"MQTT_SOURCE__DEFAULT__SERVER=tcp://" + broker, "MQTT_SOURCE__DEFAULT__QOS=" + strconv.Itoa(qos),
	}, o.Env...)
	p, err := stack.StartProgram("kuiperd", log, env, filepath.Join(o.EKuiper, "bin", "kuiperd"))
	if err != nil {
		return nil, err
	}
	if err := awaitRule(ctx, p, "http://127.0.0.1:"+ports[0]+"/rules/bench/status"); err != nil {
		_ = p.Stop(time.Second) // the reason why it did not run says more
		return nil, err
	}
	return p, nil
}

func awaitRule(ctx context.Context, p *stack.Process, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var rule struct{ Status string }
		if stack.Get(ctx, url, &rule) == nil && rule.Status == "running" {
			return nil
		}
		select {
		case <-p.Done():
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s was not running within a minute; the log has the reason", url)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takePeer counts a batch of eKuiper.
func (c *consumer) takePeer(message []byte) error {
	var batch []struct{ Payload []byte }
	if err := json.Unmarshal(message, &batch); err != nil {
		return err
	}
	numbers := make([]int, len(batch))
	for i := range batch {
		var r struct{ Event struct{ ID string } }
		if err := json.Unmarshal(batch[i].Payload, &r); err != nil {
			return err
		}
		numbers[i] = numberOf(r.Event.ID)
	}
	c.tally.take(numbers, time.Now())
	return nil
}
