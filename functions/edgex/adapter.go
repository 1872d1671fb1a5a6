package edgex

import (
	"fmt"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"

	"app-offload/functions"
	"app-offload/functions/receive"
)

// Adapter is the one function that the SDK's pipeline has, for the SDK's own triggers. It wants the raw target and ends
// the SDK's pipeline: what comes after is typed, and the pipeline's last stage has already answered for the event.
func Adapter(s *functions.Service) interfaces.AppFunction {
	return func(ctx interfaces.AppFunctionContext, data any) (bool, any) {
		payload, ok := data.([]byte)
		if !ok {
			return false, fmt.Errorf("an event came as %T instead of bytes: the service must be made with target type &[]byte{}", data)
		}
		topic, _ := ctx.GetValue(interfaces.RECEIVEDTOPIC)
		return false, s.Receive(receive.Message{
			Topic: topic, ContentType: ctx.InputContentType(), CorrelationID: ctx.CorrelationID(), Payload: payload,
		})
	}
}
