package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"app-offload/functions/atomicfile"
	"app-offload/functions/mqtt"
)

// subscribe changes the session's subscriptions to the configured ones. A persistent session keeps those of earlier configurations, and MQTT cannot
// list them, so the file Bus.Remember has every topic that was subscribed and not unsubscribed since.
func (s *Subscriber) subscribe(session *mqtt.Session) error {
	before := s.remembered()
	s.remember(union(s.bus.Topics, before))
	filters := make(map[string]byte, len(s.bus.Topics))
	for _, topic := range s.bus.Topics {
		filters[topic] = 1
	}
	refused, err := session.Subscribe(s.ctx, filters)
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		return fmt.Errorf("the broker refuses topic %q; its access list must allow it", refused[0])
	}
	gone := slices.DeleteFunc(before, func(topic string) bool { return slices.Contains(s.bus.Topics, topic) })
	if len(gone) == 0 {
		return nil
	}
	if err := session.Unsubscribe(s.ctx, gone...); err != nil {
		return fmt.Errorf("unsubscribing from %q: %w", gone, err)
	}
	s.log.Infof("unsubscribed from topics that are no longer configured: topics=%q", strings.Join(gone, ", "))
	s.remember(s.bus.Topics)
	return nil
}

// rememberedSession is the content of Bus.Remember. The topics of another session are ignored.
type rememberedSession struct {
	Broker, ClientID string
	Topics           []string
}

func (s *Subscriber) remembered() []string {
	if s.bus.Remember == "" || !s.cfg.PersistentSession {
		return nil
	}
	var was rememberedSession
	text, err := atomicfile.Read(s.bus.Remember)
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warnf("cannot read the topics of earlier configurations; messages on them are counted, not processed: file=%s error=%q", s.bus.Remember, err)
	}
	if was.Broker != s.bus.URL || was.ClientID != s.bus.ClientID {
		return nil
	}
	return was.Topics
}

// remember replaces the file if it changes. A failed write does not stop the intake.
func (s *Subscriber) remember(topics []string) {
	if s.bus.Remember == "" || !s.cfg.PersistentSession || slices.Equal(topics, s.remembered()) {
		return
	}
	text, err := json.Marshal(rememberedSession{s.bus.URL, s.bus.ClientID, topics})
	if err == nil {
		err = atomicfile.Replace(s.bus.Remember, text)
	}
	if err != nil {
		s.log.Warnf("cannot save the list of subscriptions; topics removed from the configuration will stay subscribed: file=%s error=%q", s.bus.Remember, err)
	}
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, topic := range b {
		if !slices.Contains(all, topic) {
			all = append(all, topic)
		}
	}
	return all
}

// expected reports whether a configured filter matches the topic. A group of shared subscriptions receives the topics of its filter.
func (b Bus) expected(topic string) bool {
	return slices.ContainsFunc(b.Topics, func(filter string) bool {
		if group, ok := strings.CutPrefix(filter, "$share/"); ok {
			_, filter, _ = strings.Cut(group, "/")
		}
		return MatchTopic(filter, topic)
	})
}

const (
	whyUnmatched = "message matches no configured topic, acknowledging it unread; the session at the broker has an older subscription, see OPERATING.md"
	whyRetained  = "retained message, acknowledging it unread: the broker's copy of an earlier event"
)
