package check

import (
	"errors"
	"fmt"
	"io/fs"
)

// Access adds the owner of the file and a remedy to a permission error; other errors are returned unchanged. An unreadable file is not damaged: it
// must be neither quarantined nor rewritten.
func Access(err error) error {
	var at *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at) {
		return err
	}
	return fmt.Errorf("%w (%s; was the service run as another user? Give it the file, for example with chown)", err, ownership(at.Path))
}
