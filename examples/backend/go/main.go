// A backend that drives the users of many sessions over one Gateway stream. It runs until it gets
// SIGINT or SIGTERM, or until another process of the same gateway_id takes over. The exit code is not
// 0 if anything is not as it should be.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	backend := &backend{address: argument(1, "localhost:7000"), app: argument(2, "backend")}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	err := backend.run(stop)
	if err != nil && !errors.Is(err, errTakenOver) {
		fmt.Fprintf(os.Stderr, "go: FAILED: %v\n", err)
		os.Exit(1)
	}
	if err != nil {
		say("%v", err)
	}
	backend.figures.print(len(backend.world))
}

func argument(at int, otherwise string) string {
	if len(os.Args) > at {
		return os.Args[at]
	}
	return otherwise
}
