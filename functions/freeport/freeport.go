// Package freeport finds ports for programs that tests and the lab start.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below those that Linux gives to connections and to listeners on port 0: one of these could take the port before its program listens.
const (
	lowest = 20000
	ports  = 12000
)

// Address returns a loopback address, host:port, without a listener. It is safe for concurrent use.
func Address() (string, error) {
	var err error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(ports)) // #nosec G404 -- not a secret
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("looking for a free port: %w", err)
}
