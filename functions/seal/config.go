package seal

import "app-offload/functions/check"

// The forms, ciphers and compressions, as configuration and attributes name them.
const (
	FormJSON     = "json"
	FormProtobuf = "protobuf"

	CipherAuto = "auto"
	CipherNone = "none"
	CipherGCM  = "aes-256-gcm"
	CipherEAX  = "aes-eax"

	CompressionZstd = "zstd"
	CompressionGzip = "gzip"
	CompressionNone = "none"
)

// Config says how batches become messages.
type Config struct {
	// Form of the message: "json" can be read by people and by any tool, "protobuf" is compressed and several times smaller.
	Form string
	// Cipher that seals the payload: "aes-256-gcm" (needs a 32-byte key), "aes-eax" (16, 24 or 32 bytes; slower, but its longer
	// nonce has no practical limit of messages a key), "none", or "auto": aes-256-gcm as soon as there is a key, and none before.
	Cipher string
	// KeyID names the key to seal with. Empty takes the one that the secret store calls current.
	KeyID string
	// Compression of the payload: "zstd", "gzip" (for readers without zstd) or "none". Unsealed json is never compressed.
	Compression string
	// Fold takes ids, digits and base64 out of the text before it is compressed: a fifth to a third fewer bytes, in less time.
	// Off gives payloads that zstd or gzip alone can unpack.
	Fold bool
	// CompressionLevel trades CPU for bytes, from 1 (fastest) to 4 (smallest).
	CompressionLevel int `within:"1 4"`
	// MaxMessageKiB is the largest message in KiB that the broker takes; a batch that comes out larger is refused and has to be cut.
	MaxMessageKiB int `within:"4 262144"`
	// MaxDataMiB is the largest payload in MiB before compression; keep it at or below what the consumer is ready to unpack.
	MaxDataMiB int `within:"1 1024"`
}

// DefaultConfig works out of the box: readable, and sealed as soon as there is a key.
func DefaultConfig() Config {
	return Config{
		Form:             FormJSON,
		Cipher:           CipherAuto,
		Compression:      CompressionZstd,
		Fold:             true,
		CompressionLevel: 2,
		MaxMessageKiB:    1024,
		MaxDataMiB:       64,
	}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	p := check.Fields("Seal", c)
	p.OneOf("Form", c.Form, FormJSON, FormProtobuf)
	p.OneOf("Cipher", c.Cipher, CipherAuto, CipherGCM, CipherEAX, CipherNone)
	p.OneOf("Compression", c.Compression, CompressionZstd, CompressionGzip, CompressionNone)
	if c.KeyID != "" && !isText(c.KeyID) {
		p.Addf("KeyID", c.KeyID, "must be printable UTF-8")
	}
	if c.KeyID != "" && c.Cipher == CipherNone {
		p.Addf("KeyID", c.KeyID, "is useless with Cipher none; clear it or choose a cipher")
	}
	return p.Err()
}

// LargestRecord is the size in bytes of data that fit into a message of their own in either form, sealed or not, even if nothing of them
// can be compressed.
func (c Config) LargestRecord() int {
	return min(max(c.MaxMessageKiB<<10*3/4-recordOverhead, 1<<10), c.MaxDataMiB<<20*3/4)
}

// recordOverhead is ample for what a message says beside its data.
const recordOverhead = 8 << 10

// Limits bound what an Opener accepts. The zero value of a field takes the default.
type Limits struct {
	MaxMessageKiB int // message as received; default 16 MiB
	MaxDataMiB    int // payload once decompressed; default 64 MiB
	MaxRecords    int // records of a batch, ranges of a receipt; default 65,536
	// MaxStatementKiB bounds receipts, gone statements and announcements, as received and as unpacked; default 2 MiB.
	MaxStatementKiB int
	AllowPlain      bool // accept unsealed messages although there are keys; for the time of a migration only
}

func (l Limits) withDefaults() Limits {
	if l.MaxMessageKiB <= 0 {
		l.MaxMessageKiB = 16 << 10
	}
	if l.MaxDataMiB <= 0 {
		l.MaxDataMiB = 64
	}
	if l.MaxStatementKiB <= 0 {
		l.MaxStatementKiB = 2 << 10
	}
	if l.MaxRecords <= 0 {
		l.MaxRecords = 1 << 16
	}
	return l
}
