// device is a device service on EdgeX's device SDK, for the end-to-end test alone: its autoEvents are what drives everything.
// A level rises by one with every reading, a wave is an array, a frame is binary; while the file that DEVICE_PAUSE names
// exists, every reading fails, so that nothing is published and the test can count.
package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/edgexfoundry/device-sdk-go/v3/pkg/interfaces"
	sdk "github.com/edgexfoundry/device-sdk-go/v3/pkg/models"
	"github.com/edgexfoundry/device-sdk-go/v3/pkg/startup"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/models"
)

func main() {
	startup.Bootstrap(os.Getenv("DEVICE_KEY"), "3.1.0", &driver{pause: os.Getenv("DEVICE_PAUSE")})
}

// driver makes its readings up. It is safe for concurrent use, as autoEvents need.
type driver struct {
	pause string
	count atomic.Int64
}

var _ interfaces.ProtocolDriver = (*driver)(nil)

var (
	errPaused   = errors.New("the device is paused by the test")
	errReadOnly = errors.New("the device takes no commands")
)

// HandleReadCommands answers an autoEvent.
func (d *driver) HandleReadCommands(_ string, _ map[string]models.ProtocolProperties, requests []sdk.CommandRequest) ([]*sdk.CommandValue, error) {
	if _, err := os.Stat(d.pause); err == nil {
		return nil, errPaused
	}
	values := make([]*sdk.CommandValue, len(requests))
	for i, r := range requests {
		value, err := d.read(r)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", r.DeviceResourceName, err)
		}
		values[i] = value
	}
	return values, nil
}

func (d *driver) read(r sdk.CommandRequest) (*sdk.CommandValue, error) {
	n := d.count.Add(1)
	switch r.Type {
	case common.ValueTypeFloat64:
		return sdk.NewCommandValue(r.DeviceResourceName, r.Type, float64(n))
	case common.ValueTypeFloat32Array:
		wave := make([]float32, 32)
		for i := range wave {
			wave[i] = float32(int(n)+i) / 8
		}
		return sdk.NewCommandValue(r.DeviceResourceName, r.Type, wave)
	case common.ValueTypeBinary:
		frame := make([]byte, 2048)
		for i := range frame {
			frame[i] = byte(int(n) * i)
		}
		return sdk.NewCommandValue(r.DeviceResourceName, r.Type, frame)
	}
	return nil, fmt.Errorf("the device has nothing of type %s", r.Type)
}

// HandleWriteCommands refuses: this device has no actuators.
func (*driver) HandleWriteCommands(string, map[string]models.ProtocolProperties, []sdk.CommandRequest, []*sdk.CommandValue) error {
	return errReadOnly
}

// Discover finds nothing: the devices are core-metadata's.
func (*driver) Discover() error { return errReadOnly }

// The rest of the SDK's interface has nothing to do here.

func (*driver) Initialize(interfaces.DeviceServiceSDK) error { return nil }
func (*driver) Start() error                                 { return nil }
func (*driver) Stop(bool) error                              { return nil }
func (*driver) RemoveDevice(string, map[string]models.ProtocolProperties) error {
	return nil
}

func (*driver) AddDevice(string, map[string]models.ProtocolProperties, models.AdminState) error {
	return nil
}

func (*driver) UpdateDevice(string, map[string]models.ProtocolProperties, models.AdminState) error {
	return nil
}
func (*driver) ValidateDevice(models.Device) error { return nil }
