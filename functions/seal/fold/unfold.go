package fold

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrTooLarge reports that the unfolded data exceeds the limit.
var ErrTooLarge = errors.New("data exceeds the limit")

var errShort = errors.New("unexpected end of a column")

// unfolder joins untrusted columns.
type unfolder struct {
	text, ids, digits, blobs []byte

	id, long []byte
	out      []byte
	limit    int64
}

// Unfold reverses Fold within limit bytes. It returns ErrTooLarge above the limit, and another error for inconsistent columns.
func Unfold(src []byte, limit int64) ([]byte, error) {
	u := unfolder{limit: limit}
	if err := u.split(src); err != nil {
		return nil, err
	}
	u.out = make([]byte, 0, min(limit, int64(len(src))*2))
	for len(u.text) > 0 {
		n := 0
		for n < len(u.text) && u.text[n] < markEscape {
			n++
		}
		if err := u.append(u.text[:n]); err != nil {
			return nil, err
		}
		if u.text = u.text[n:]; len(u.text) == 0 {
			break
		}
		mark := u.text[0]
		u.text = u.text[1:]
		if err := u.mark(mark); err != nil {
			return nil, err
		}
	}
	if len(u.ids)+len(u.digits)+len(u.blobs) > 0 {
		return nil, errors.New("unused data in a column")
	}
	return u.out, nil
}

// split splits the columns. The lengths have 32 bits each, so their sum cannot overflow.
func (u *unfolder) split(src []byte) error {
	if len(src) < Header {
		return errShort
	}
	ids := uint64(binary.LittleEndian.Uint32(src[0:]))
	digits := uint64(binary.LittleEndian.Uint32(src[4:]))
	blobs := uint64(binary.LittleEndian.Uint32(src[8:]))
	src = src[Header:]
	if ids+digits+blobs > uint64(len(src)) {
		return errShort
	}
	text := uint64(len(src)) - ids - digits - blobs
	u.text, src = src[:text], src[text:]
	u.ids, src = src[:ids], src[ids:]
	u.digits, u.blobs = src[:digits], src[digits:]
	return nil
}

func (u *unfolder) mark(mark byte) error {
	switch mark {
	case markEscape:
		return u.literal()
	case markID:
		id, err := take(&u.ids, 16)
		u.id = id
		return errors.Join(err, u.appendID())
	case markSameID:
		return u.appendID()
	case markBase64, markRaw:
		return u.blob(mark)
	case markSameDigits:
		return u.appendDigits(u.long)
	}
	n := uint64(mark-markDigits2) + 2
	if mark == markDigits9 {
		n = 9
	}
	if mark == markDigits {
		var err error
		if n, err = u.varint(); err != nil {
			return err
		}
	}
	digits, err := take(&u.digits, n)
	if err != nil {
		return err
	}
	if n >= minLong {
		u.long = digits
	}
	return u.appendDigits(digits)
}

func (u *unfolder) literal() error {
	b, err := take(&u.text, 1)
	if err != nil {
		return err
	}
	return u.append(b)
}

func (u *unfolder) blob(mark byte) error {
	n, err := u.varint()
	if err != nil {
		return err
	}
	if mark == markRaw {
		raw, err := take(&u.blobs, n)
		return errors.Join(err, u.append(raw))
	}
	if n > uint64(len(u.blobs)) { // before the multiplication, which might overflow
		return errShort
	}
	raw, err := take(&u.blobs, n*3)
	if err != nil {
		return err
	}
	if err := u.room(len(raw) / 3 * 4); err != nil {
		return err
	}
	u.out = base64.StdEncoding.AppendEncode(u.out, raw)
	return nil
}

func (u *unfolder) appendID() error {
	if len(u.id) != 16 {
		return errors.New("repeated id before the first id")
	}
	if err := u.room(36); err != nil {
		return err
	}
	for i, ends := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			u.out = append(u.out, '-')
		}
		starts := [...]int{0, 4, 6, 8, 10}[i]
		u.out = hex.AppendEncode(u.out, u.id[starts:ends])
	}
	return nil
}

func (u *unfolder) appendDigits(pairs []byte) error {
	if err := u.room(2 * len(pairs)); err != nil {
		return err
	}
	for _, p := range pairs {
		if p > 99 {
			return fmt.Errorf("%d is not a pair of digits", p)
		}
		u.out = append(u.out, '0'+p/10, '0'+p%10)
	}
	return nil
}

func (u *unfolder) append(b []byte) error {
	if err := u.room(len(b)); err != nil {
		return err
	}
	u.out = append(u.out, b...)
	return nil
}

// room limits the result: a mark of one byte may represent many.
func (u *unfolder) room(n int) error {
	if int64(len(u.out))+int64(n) > u.limit {
		return ErrTooLarge
	}
	return nil
}

func (u *unfolder) varint() (uint64, error) {
	v, n := binary.Uvarint(u.text)
	if n <= 0 {
		return 0, errShort
	}
	u.text = u.text[n:]
	return v, nil
}

// take removes n bytes from the front of a column.
func take(column *[]byte, n uint64) ([]byte, error) {
	if n > uint64(len(*column)) {
		return nil, errShort
	}
	b := (*column)[:n:n]
	*column = (*column)[n:]
	return b, nil
}
