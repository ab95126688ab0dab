package main

import (
	"fmt"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"

	"sessiond.example/backend/gen/sessiond"
)

// figures count what went up and down.
type figures struct {
	begunAt                                      time.Time
	upMessages, upBytes, downMessages, downBytes int
	refused                                      int
	latencies                                    []time.Duration
}

func (f *figures) begin() { f.begunAt = time.Now() }

func (f *figures) up(request *sessiond.GatewayRequest) {
	f.upMessages++
	f.upBytes += proto.Size(request)
}

func (f *figures) down(response *sessiond.GatewayResponse) {
	f.downMessages++
	f.downBytes += proto.Size(response)
}

func (f *figures) acked(sentAt time.Time) {
	f.latencies = append(f.latencies, time.Since(sentAt))
}

func (f *figures) print(users int) {
	seconds := time.Since(f.begunAt).Seconds()
	line := func(what string, messages, bytes int) {
		say("%-5s %6d messages, %5.1f a second, %6.1f kB a second", what, messages,
			float64(messages)/seconds, float64(bytes)/1000/seconds)
	}
	say("users %6d, in %.1f s; %d writes crossed the end of a user", users, seconds, f.refused)
	line("up", f.upMessages, f.upBytes)
	line("down", f.downMessages, f.downBytes)
	sort.Slice(f.latencies, func(one, other int) bool { return f.latencies[one] < f.latencies[other] })
	if count := len(f.latencies); count > 0 {
		at := func(share float64) float64 {
			return f.latencies[int(share*float64(count-1))].Seconds() * 1000
		}
		say("acks  %6d, after %.1f ms (p50) and %.1f ms (p99)", count, at(0.5), at(0.99))
	}
}

func say(format string, args ...any) {
	fmt.Printf("go: "+format+"\n", args...)
}
