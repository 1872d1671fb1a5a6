package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
)

// Opener reads messages and trusts none of them.
type Opener struct {
	keys     Keys
	limits   Limits
	locks    locks
	unpacker unpacker
	keyed    atomic.Bool // a key has been there, so plain messages are over
}

// NewOpener prepares to open. As soon as there is a key every message must be sealed, unless the limits say otherwise;
// without keys (nil) only plain messages can be read.
func NewOpener(keys Keys, limits Limits) *Opener {
	limits = limits.withDefaults()
	return &Opener{keys: keys, limits: limits, unpacker: unpacker{limit: int64(limits.MaxDataMiB) << 20}}
}

// Open verifies and reads a batch of either form. Its tasks are still to be decoded, one by one. The error says how to handle the message: an UnknownKeyError may
// pass, ErrForged (errors.Is), a TooLargeError and a MalformedError will not.
func (o *Opener) Open(msg []byte) (*Batch, error) {
	e, data, err := o.open(msg, typeBatch, o.limits.MaxMessageKiB<<10, int64(o.limits.MaxDataMiB)<<20)
	if err != nil {
		return nil, err
	}
	b, first, count, err := batchFrom(e.attrs)
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, malformedf("attributes", "count %d is not positive", count)
	}
	if count > o.limits.MaxRecords {
		return nil, &TooLargeError{What: "records", Size: int64(count), Limit: int64(o.limits.MaxRecords)}
	}
	switch media := e.attrs.get("datacontenttype"); {
	case media == mediaProtobuf:
		err = b.readProtobuf(data, count)
	case media != mediaJSON:
		err = malformedf("attributes", "datacontenttype %q is not known", media)
	case !e.inline && !json.Valid(data): // what is inline was checked with the message
		err = malformed("batch", errNotJSON)
	default:
		err = b.readJSON(data, count)
	}
	if err != nil {
		return nil, err
	}
	if len(b.Tasks) != count || len(b.Sequences) != count || b.Sequences[0] != first {
		return nil, malformedf("batch", "it has %d tasks and %d sequences where its attributes promise %d from %d on",
			len(b.Tasks), len(b.Sequences), count, first)
	}
	return b, nil
}

// open verifies and unpacks a message of the wanted type, within a limit of the message and one of its data, in bytes.
func (o *Opener) open(msg []byte, want string, limit int, dataLimit int64) (*envelope, []byte, error) {
	if len(msg) > limit {
		return nil, nil, &TooLargeError{What: "message", Size: int64(len(msg)), Limit: int64(limit)}
	}
	e, err := parse(msg)
	if err != nil {
		return nil, nil, err
	}
	if typ := e.attrs.get("type"); typ != want {
		return nil, nil, malformedf("attributes", "type %q is not %s", typ, want)
	}
	packed, err := o.decrypt(e)
	if err != nil {
		return nil, nil, err
	}
	data, err := o.unpacker.unpack(e.attrs.get("contentencoding"), packed, dataLimit)
	return e, data, err
}

// decrypt checks who made the message.
func (o *Opener) decrypt(e *envelope) ([]byte, error) {
	name, id := e.attrs.get("cipher"), e.attrs.get("keyid")
	switch name {
	case CipherNone:
		return e.data, o.plainAllowed()
	case CipherGCM, CipherEAX:
	default:
		return nil, malformedf("attributes", "cipher %q is not known", name)
	}
	if e.inline {
		return nil, malformed("message", errors.New("sealed data must be in data_base64"))
	}
	if o.keys == nil {
		return nil, &UnknownKeyError{KeyID: id}
	}
	key, err := o.keys.Key(id)
	if err != nil {
		return nil, &UnknownKeyError{KeyID: id, Err: err}
	}
	k, err := o.locks.get(name, id, key)
	if err != nil {
		return nil, &UnknownKeyError{KeyID: id, Err: err}
	}
	o.keyed.Store(true)
	return k.open(e.data, e.attrs.appendAAD(nil))
}

// plainAllowed refuses plain messages where there are keys: to leave out the cipher would be the way around it.
func (o *Opener) plainAllowed() error {
	if o.keys == nil || o.limits.AllowPlain {
		return nil
	}
	id, _, err := o.keys.Current()
	switch {
	case err != nil:
		return &UnknownKeyError{KeyID: id, Err: err}
	case id != "" || o.keyed.Load():
		o.keyed.Store(true)
		return fmt.Errorf("it is not sealed: %w", ErrForged)
	}
	return nil
}
