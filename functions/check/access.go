package check

import (
	"errors"
	"fmt"
	"io/fs"
)

// Access adds to an error for want of permission whose the file is and what to do; other errors stay as they are. A file that may not
// be read is not damaged: it must be neither set aside nor written anew.
func Access(err error) error {
	var at *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at) {
		return err
	}
	return fmt.Errorf("%w (%s; was the service run as another user? Give it the file, for example with chown)", err, ownership(at.Path))
}
