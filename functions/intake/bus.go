package intake

import (
	"errors"

	"app-offload/functions/check"
	"app-offload/functions/mqtt"
)

// Credentials is what the secret of the MessageBus holds; which parts there must be depends on the AuthMode.
type Credentials = mqtt.Credentials

// Bus says where the MQTT MessageBus is and how to log in. The wiring fills it from what the SDK's own MessageBus and
// Trigger configuration says.
type Bus struct {
	URL      string   // see mqtt.ParseAddress
	Topics   []string // filters with their base prefix, e.g. edgex/events/#
	ClientID string   // used where Config.ClientID is empty

	// Remember is a file in which the topics of the session are kept, so that those no longer configured are unsubscribed from; "" keeps none.
	Remember string

	AuthMode       string // one of mqtt's Auth words; "" means "none"
	SkipCertVerify bool   // trust any certificate of the broker
	// Credentials is asked at each connection, so that a rotated secret applies from the next one on. nil where AuthMode is "none".
	Credentials func() (Credentials, error)
	// Skip names topics whose messages are acknowledged unread, such as the service's own results; nil skips none.
	Skip func(topic string) bool
}

func (b Bus) validate(cfg Config) error {
	p := check.In("MessageBus")
	if _, err := mqtt.ParseAddress(b.URL); errors.Is(err, mqtt.ErrScheme) {
		p.Addf("Protocol", b.URL, "%v", err)
	} else if err != nil {
		p.Addf("URL", mqtt.Redacted(b.URL), "%v", err)
	}
	if len(b.Topics) == 0 {
		p.Addf("SubscribeTopics", "", "at least one topic is needed")
	}
	if b.ClientID == "" && cfg.PersistentSession {
		p.Addf("ClientID", "", "a persistent session needs a fixed client id; set Intake.ClientID")
	}
	mode := b.auth().Mode
	p.OneOf("AuthMode", mode, mqtt.AuthModes()...)
	if mode != mqtt.AuthNone && b.Credentials == nil {
		p.Addf("AuthMode", b.AuthMode, "needs a secret")
	}
	return p.Err()
}

func (b Bus) auth() mqtt.Auth {
	mode := b.AuthMode
	if mode == "" {
		mode = mqtt.AuthNone
	}
	return mqtt.Auth{Mode: mode, Secret: "of the MessageBus", SkipCertVerify: b.SkipCertVerify, Credentials: b.Credentials}
}
