package seal

import "app-offload/functions/check"

// The forms, ciphers and compressions, as named in the configuration and the attributes.
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

// Config configures how batches become messages.
type Config struct {
	// Form is the form of the message: "json" is readable for people and any tool, "protobuf" is compressed and several times smaller.
	Form string
	// Cipher encrypts the payload: "aes-256-gcm" (needs a 32-byte key), "aes-eax" (16, 24 or 32 bytes; slower, but its longer nonce has no practical
	// limit of messages a key), "none", or "auto": aes-256-gcm once there is a key, and none before.
	Cipher string
	// KeyID is the id of the key to seal with. Empty means the key that the secret store marks as current.
	KeyID string
	// Compression is the compression of the payload: "zstd", "gzip" (for readers without zstd) or "none". Unsealed json is never compressed.
	Compression string
	// Fold moves ids, digits and base64 out of the text before compression: a fifth to a third fewer bytes, in less time. If off, zstd or gzip alone
	// can decompress the payload.
	Fold bool
	// CompressionLevel trades CPU for size, from 1 (fastest) to 4 (smallest).
	CompressionLevel int `within:"1 4"`
	// MaxMessageKiB is the largest message that the broker accepts, in KiB. A batch whose message is larger is rejected and must be cut.
	MaxMessageKiB int `within:"4 262144"`
	// MaxDataMiB is the largest payload before compression, in MiB. It must not exceed what the consumer accepts.
	MaxDataMiB int `within:"1 1024"`
}

// DefaultConfig returns a configuration that works without setup: readable, and sealed once there is a key.
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

// Validate returns all problems together.
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

// LargestRecord returns the size in bytes of data that fit into a message of their own in either form, sealed or not, even if they cannot be
// compressed.
func (c Config) LargestRecord() int {
	return min(max(c.MaxMessageKiB<<10*3/4-recordOverhead, 1<<10), c.MaxDataMiB<<20*3/4)
}

// recordOverhead is an upper bound of a message's content besides its data.
const recordOverhead = 8 << 10

// Limits limit what an Opener accepts. A zero field means the default.
type Limits struct {
	MaxMessageKiB int // message as received; default 16 MiB
	MaxDataMiB    int // payload after decompression; default 64 MiB
	MaxRecords    int // records of a batch, ranges of a receipt; default 65,536
	// MaxStatementKiB limits receipts, gone statements and announcements, as received and as decompressed; default 2 MiB.
	MaxStatementKiB int
	AllowPlain      bool // accept unsealed messages although there are keys; only during a migration
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
