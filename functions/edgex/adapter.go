package edgex

import (
	"fmt"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"

	"app-offload/functions"
	"app-offload/functions/receive"
)

// Adapter is the only function of the SDK's pipeline, for the SDK's own triggers. It needs the raw target type and ends the SDK's pipeline: the
// following stages are typed, and the last of them has already answered for the event.
func Adapter(s *functions.Service) interfaces.AppFunction {
	return func(ctx interfaces.AppFunctionContext, data any) (bool, any) {
		payload, ok := data.([]byte)
		if !ok {
			return false, fmt.Errorf("event is %T instead of bytes: create the service with target type &[]byte{}", data)
		}
		topic, _ := ctx.GetValue(interfaces.RECEIVEDTOPIC)
		return false, s.Receive(receive.Message{
			Topic: topic, ContentType: ctx.InputContentType(), CorrelationID: ctx.CorrelationID(), Payload: payload,
		})
	}
}
