package intake

import (
	"fmt"
	"strings"
	"time"

	"app-offload/functions/mqtt"
)

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 30 * time.Second // for an acknowledgement; a broker that takes none for so long is hung
	maxBackOff     = 10 * time.Second
)

// keeper holds the connection.
func (s *Subscriber) keeper() (*mqtt.Keeper, error) {
	at, err := mqtt.ParseAddress(s.bus.URL)
	if err != nil {
		return nil, err
	}
	keepAlive := duration(s.cfg.KeepAlive)
	return &mqtt.Keeper{
		Options: mqtt.Options{
			Brokers: []mqtt.Address{at}, ClientID: s.bus.ClientID, Clean: !s.cfg.PersistentSession, Login: s.bus.auth().Login,
			KeepAlive: keepAlive, PingTimeout: keepAlive, ConnectTimeout: connectTimeout, Stall: writeTimeout,
			ReadBuffer: s.cfg.ReadBufferKiB << 10, MaxPacket: s.cfg.maxPacket(), ManualAck: true, Frees: true,
			Opened: s.acks.Renew, Receive: s.receive,
		},
		Backoff: mqtt.Backoff{Low: time.Second, High: maxBackOff},
		Up:      s.connected, Down: s.lost,
		Failed: func(err error) { s.report(fmt.Errorf("connecting: %w", err)) },
	}, nil
}

// Rotate renews the connection, which reads the credentials anew. Events under way are delivered again and recognised.
func (s *Subscriber) Rotate() { s.connection.Renew() }

// report logs a problem of the connection, but not the same one again until there was none.
func (s *Subscriber) report(problem error) {
	if s.ctx.Err() == nil && s.once.Changed("connection", problem) {
		s.log.Errorf("cannot connect to the MQTT MessageBus, still trying: url=%s error=%q", s.bus.URL, problem)
	}
}

func (s *Subscriber) lost(session *mqtt.Session, lived time.Duration) {
	err := session.Cause()
	s.mu.Lock()
	rival := s.counts.Subscribed && s.rival.Lost(lived, err)
	s.counts.Subscribed, s.since = false, time.Time{}
	s.mu.Unlock()
	s.log.Warnf("lost the connection to the MQTT MessageBus, reconnecting: url=%s error=%q", s.bus.URL, err)
	if rival {
		if _, due := s.seldom.Due("rival"); due {
			s.log.Errorf("%s", s.rivalText())
		}
	}
}

func (s *Subscriber) rivalText() string {
	return fmt.Sprintf("the MessageBus keeps closing connections that worked: another client uses ClientID %q, such as a second service with the same service key; "+
		"give this one its own key (-sk) or Intake.ClientID", s.bus.ClientID)
}

// Rival says, as a sentence, that another client of the broker uses the same client id; "" while there is no sign of one.
func (s *Subscriber) Rival() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lived := time.Duration(0)
	if !s.since.IsZero() {
		lived = time.Since(s.since)
	}
	if !s.rival.Suspected(lived) {
		return ""
	}
	return s.rivalText()
}

// connected subscribes, also where the session is known to the broker, because the topics may have changed since.
func (s *Subscriber) connected(session *mqtt.Session) {
	s.mu.Lock()
	if s.counts.Connections++; s.counts.Connections == 1 {
		close(s.first)
	}
	s.since = time.Now()
	s.mu.Unlock()
	for wait := time.Second; session.Alive(); wait = min(2*wait, maxBackOff) {
		err := s.subscribe(session)
		if s.ctx.Err() != nil {
			return
		}
		if err == nil {
			s.report(nil)
			s.count(func(c *SubscriberCounts) { c.Subscribed = true })
			s.log.Infof("subscribed to the MQTT MessageBus: url=%s clientID=%q topics=%q", s.bus.URL, s.bus.ClientID, strings.Join(s.bus.Topics, ", "))
			return
		}
		s.report(fmt.Errorf("subscribing: %w", err))
		select {
		case <-time.After(wait):
		case <-session.Lost():
		case <-s.ctx.Done():
			return
		}
	}
}
