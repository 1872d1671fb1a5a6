package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const refusedByBroker = 0x80 // the return code of a SUBACK

// subscribe makes the session's subscriptions what is configured. A persistent session keeps those of earlier configurations, and
// MQTT has no way to ask for them, so the file Bus.Remember names what was ever subscribed to and not unsubscribed from since.
func (s *Subscriber) subscribe(client paho.Client) error {
	before := s.remembered()
	s.remember(union(s.bus.Topics, before))
	filters := make(map[string]byte, len(s.bus.Topics))
	for _, topic := range s.bus.Topics {
		filters[topic] = 1
	}
	token := client.SubscribeMultiple(filters, nil) // nil: to the default handler
	if err := s.answered(token); err != nil {
		return err
	}
	for topic, code := range token.(*paho.SubscribeToken).Result() {
		if code == refusedByBroker {
			return fmt.Errorf("the broker refuses topic %q; its access list must allow it", topic)
		}
	}
	gone := slices.DeleteFunc(before, func(topic string) bool { return slices.Contains(s.bus.Topics, topic) })
	if len(gone) == 0 {
		return nil
	}
	if err := s.answered(client.Unsubscribe(gone...)); err != nil {
		return fmt.Errorf("unsubscribing from %q: %w", gone, err)
	}
	s.log.Infof("unsubscribed from topics that are no longer configured: topics=%s", strings.Join(gone, ", "))
	s.remember(s.bus.Topics)
	return nil
}

// answered waits for the broker. It is nil at the stop.
func (s *Subscriber) answered(token paho.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-time.After(connectTimeout):
		return fmt.Errorf("no answer within %s", connectTimeout)
	case <-s.ctx.Done():
		return nil
	}
}

// session is the content of Bus.Remember. Another session's filters are of no meaning.
type session struct {
	Broker, ClientID string
	Topics           []string
}

func (s *Subscriber) remembered() []string {
	if s.bus.Remember == "" || !s.cfg.PersistentSession {
		return nil
	}
	var was session
	text, err := os.ReadFile(s.bus.Remember)
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warnf("reading the topics of earlier configurations: file=%s error=%v; messages on such topics are counted and not processed", s.bus.Remember, err)
	}
	if was.Broker != s.bus.URL || was.ClientID != s.bus.ClientID {
		return nil
	}
	return was.Topics
}

// remember replaces the file, where it changes. A disk that takes none does not keep events from coming in.
func (s *Subscriber) remember(topics []string) {
	if s.bus.Remember == "" || !s.cfg.PersistentSession || slices.Equal(topics, s.remembered()) {
		return
	}
	text, err := json.Marshal(session{s.bus.URL, s.bus.ClientID, topics})
	if err == nil {
		err = replaceFile(s.bus.Remember, text)
	}
	if err != nil {
		s.log.Warnf("writing down the topics subscribed to, they will not be unsubscribed from when they are no longer configured: file=%s error=%v", s.bus.Remember, err)
	}
}

func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already where all went well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
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

// expected reports whether a configured filter selects the topic. A group of shared subscriptions gets the topics of its filter.
func (b Bus) expected(topic string) bool {
	return slices.ContainsFunc(b.Topics, func(filter string) bool {
		if group, ok := strings.CutPrefix(filter, "$share/"); ok {
			_, filter, _ = strings.Cut(group, "/")
		}
		return MatchTopic(filter, topic)
	})
}

// passOver acknowledges a message unread, and logs the first of its kind in a while.
func (s *Subscriber) passOver(t *ticket, why string, counter *uint64) {
	s.mu.Lock()
	*counter++
	total, last := *counter, s.passedOver[why]
	say := last.IsZero() || time.Since(last) >= passOverEvery
	if say {
		s.passedOver[why] = time.Now()
	}
	s.mu.Unlock()
	if say {
		s.log.Warnf("%s: topic=%.256q total=%d (similar messages suppressed for %s)", why, t.message.msg.Topic(), total, passOverEvery)
	}
	s.acks.handle(t)
}

const (
	passOverEvery = 10 * time.Minute
	whyUnmatched  = "message matches no configured topic, acknowledging it unread; the session at the broker has an older subscription, see OPERATING.md"
	whyRetained   = "retained message, acknowledging it unread: the broker's copy of an earlier event"
)
