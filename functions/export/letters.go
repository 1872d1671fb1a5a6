package export

// maxLetters bounds the messages of others that wait for a connection.
const maxLetters = 64

// Send sends a message of another part of the node over the connection of the exporter, once and at QoS 1. It does not block: without a
// connection the message waits for the next one, with too many waiting it is dropped and counted. One that was handed to a connection that ends is
// lost, so its sender has to know when to send it again. It may be called from anywhere.
func (x *Exporter) Send(topic string, message []byte) {
	select {
	case x.events <- func() {
		if len(x.letters) < maxLetters {
			x.letters = append(x.letters, job{topic: topic, message: message})
		} else {
			x.stats.failed("letters_full")
		}
	}:
	default:
		x.stats.failed("letters_full")
	}
}

// hearLetter gives a message on the topic of another part of the node to that part, and reports false without such a part.
func (x *Exporter) hearLetter(topic string, message []byte) bool {
	receive := x.deps.Topics()[topic]
	if receive == nil {
		return false
	}
	receive(message)
	return true
}
