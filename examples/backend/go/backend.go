package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sessiond.example/backend/gen/sessiond"
)

const (
	gatewayID = "races"
	grace     = 20 * time.Second
	tick      = 50 * time.Millisecond

	// Each stream begins with it. The other messages have the numbers after it, and go on counting on
	// the next stream and in the next process.
	helloSeq = 1
	// With so many messages that are not acked the world waits: what has to be kept is bounded.
	mostUnacked = 40
	// After so long without a message up, a heartbeat.
	quiet = 10 * time.Second
)

// message is what may have to be sent once more.
type message struct {
	seq    uint64
	blocks []*sessiond.Block
	sentAt time.Time
}

// backend drives the runners over one stream, or over the next one after it.
type backend struct {
	address, app string

	// What it keeps from stream to stream.
	world   world // nil: a process that has just started does not know it
	copies  map[uint32]*copyOf
	seq     uint64
	unacked []message

	// The stream that it drives them over, and what belongs to this stream. nil: there is none.
	link     *link
	welcome  *sessiond.Welcome
	attached map[uint32]bool
	// How many of welcome.attached_users were named.
	listed int
	// The first message after hello was sent.
	isOpen bool
	// The world is read from the views once the first message is acked.
	isReading bool
	// All is done, and the stream is about to end.
	isLeaving bool
	acked     uint64

	// The next stream, until its first message comes. The other one goes on meanwhile.
	next     *link
	events   chan event
	again    <-chan time.Time
	attempts int
	delay    time.Duration
	heardAt  time.Time
	saidAt   time.Time

	isStopping bool
	figures    figures
}

var errTakenOver = errors.New("another process has taken over")

// run ends with nil when everybody has left, after a value came from `stop`.
func (b *backend) run(stop <-chan os.Signal) error {
	b.copies = map[uint32]*copyOf{}
	b.seq = helloSeq
	b.events = make(chan event, 1024)
	b.figures.begin()
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	b.open()
	for {
		var err error
		select {
		case <-stop:
			b.isStopping = true
			signal.Reset() // The next one ends it at once.
		case <-ticks.C:
			b.tick()
		case <-b.again:
			b.open()
		case event := <-b.events:
			switch {
			case event.link != b.link && event.link != b.next: // It was replaced.
			case event.err == io.EOF && b.isLeaving:
				return nil
			case event.err != nil:
				err = b.lost(event)
			default:
				err = b.take(event)
			}
		}
		if err == nil && b.isStopping && b.isOpen && !b.isReading && len(b.unacked) == 0 && !b.isLeaving {
			err = b.leave()
		}
		if err != nil {
			return err
		}
	}
}

// open begins to open the next stream.
func (b *backend) open() {
	if b.next != nil {
		b.next.cancel()
	}
	b.next = dial(b.address, &sessiond.GatewayHello{
		GatewayId: gatewayID, App: b.app, Grace: durationpb.New(grace),
	}, b.events)
	b.again, b.heardAt = nil, time.Now()
}

// turn goes over to the next stream: it has taken over from the one before.
func (b *backend) turn() {
	if b.link != nil {
		b.link.cancel()
	}
	b.link, b.next = b.next, nil
	b.welcome, b.attached, b.listed = nil, map[uint32]bool{}, 0
	b.isOpen, b.isLeaving, b.acked, b.attempts = false, false, 0, 0
}

// lost says what to do after the end of a stream.
func (b *backend) lost(event event) error {
	if event.link == b.next {
		b.next = nil
	} else {
		b.link, b.isOpen = nil, false
	}
	event.link.cancel()
	told := status.Convert(event.err)
	switch told.Code() {
	case codes.Aborted: // TAKEN_OVER: by the next stream of this process, or by another process.
		if b.next == nil {
			return errTakenOver
		}
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied,
		codes.Unauthenticated, codes.Unimplemented:
		return event.err
	}
	if b.next == nil && b.again == nil {
		wait := 100 * time.Millisecond << b.attempts
		wait += b.delay + time.Duration(rand.Int63n(int64(wait)))
		b.again, b.delay = time.After(wait), 0
		if b.attempts < 5 {
			b.attempts++
		}
		say("the stream was lost: %v: %s", told.Code(), told.Message())
	}
	return nil
}

// take takes a message that came down.
func (b *backend) take(event event) error {
	if event.link == b.next {
		b.turn()
	}
	response := event.response
	b.heardAt = time.Now()
	b.figures.down(response)
	if response.Welcome != nil {
		b.welcome = response.Welcome
	}
	for _, ended := range response.Ended {
		say("%s ended: %v", userID(ended.Handle), ended.Reason)
		delete(b.world, ended.Handle)
		delete(b.attached, ended.Handle)
	}
	for _, attached := range response.Attached {
		b.attached[attached.Handle] = true
		b.listed++
	}
	for _, refusal := range response.Refusals {
		if err := b.refused(refusal); err != nil {
			return err
		}
	}
	for _, delivery := range response.Updates {
		if ended := delivery.Update.GetEnded(); ended != nil {
			if !b.isLeaving {
				say("the view of %s ended: %v", sessionID(delivery.Handle), ended.Reason)
			}
			delete(b.copies, delivery.Handle)
		} else if err := b.copies[delivery.Handle].take(delivery.Update); err != nil {
			return err
		}
	}
	if response.AckedSeq != 0 {
		if err := b.ack(response.AckedSeq); err != nil {
			return err
		}
	}
	if response.GoAway != nil {
		b.goAway(response.GoAway)
	}
	if b.welcome != nil && !b.isOpen && b.listed >= int(b.welcome.AttachedUsers) {
		b.begin()
	}
	return nil
}

// goAway opens the next stream before the deadline. Until its first message comes, this one goes on.
func (b *backend) goAway(away *sessiond.GoAway) {
	b.delay = away.ReconnectDelay.AsDuration()
	if away.Deadline == nil { // Now: the end of the stream follows.
		return
	}
	until := time.Until(away.Deadline.AsTime())
	say("go_away %v in %v: opens the next stream", away.Reason, until.Round(time.Second))
	if b.delay > until/2 {
		b.delay = until / 2
	}
	b.again, b.delay = time.After(b.delay), 0
}

// refused says what to do without something that was asked for.
func (b *backend) refused(refusal *sessiond.Refusal) error {
	switch {
	case refusal.Reason == sessiond.ErrorReason_ERROR_REASON_UNKNOWN_HANDLE,
		refusal.Reason == sessiond.ErrorReason_ERROR_REASON_NOT_A_MEMBER:
		// A write that crossed the end of its user. `ended` tells of that.
		b.figures.refused++
	case refusal.Reason == sessiond.ErrorReason_ERROR_REASON_NO_VIEW:
		delete(b.copies, refusal.Handle)
	case refusal.Handle != 0:
		say("%s is refused: %v: %s", userID(refusal.Handle), refusal.Reason, refusal.Message)
		delete(b.world, refusal.Handle)
	default:
		return fmt.Errorf("refused: %v", refusal)
	}
	return nil
}

// ack takes note of messages that are done.
func (b *backend) ack(seq uint64) error {
	if seq <= b.acked || seq > b.seq {
		return fmt.Errorf("acked %d after %d, while %d was the last one sent", seq, b.acked, b.seq)
	}
	b.acked = seq
	for len(b.unacked) > 0 && b.unacked[0].seq <= seq {
		b.figures.acked(b.unacked[0].sentAt)
		b.unacked = b.unacked[1:]
	}
	if b.isReading && len(b.unacked) == 0 {
		b.isReading = false
		return b.read()
	}
	return nil
}

// begin sends the first message after hello, once all attached users are named: what the
// stream needs first, and then what was sent before and not dealt with.
func (b *backend) begin() {
	last := b.welcome.LastSeq
	if !b.welcome.Resumed {
		// Nobody is attached, and what was sent before may have been applied or not. What counts is where
		// everybody is now.
		b.unacked = nil
		if b.isReading {
			b.world, b.isReading = nil, false
		}
	}
	for len(b.unacked) > 0 && b.unacked[0].seq <= last {
		b.unacked = b.unacked[1:]
	}
	if b.seq < last {
		b.seq = last
	}
	first := &sessiond.GatewayRequest{Dictionary: names()}
	switch {
	case last == 0:
		if b.world == nil {
			b.world = everybody()
		}
		for _, runner := range b.world.runners() {
			if !b.attached[runner] {
				first.Attach = append(first.Attach, attach(runner))
			}
		}
		say("attaches %d users in %d rooms", len(first.Attach), len(b.world.races()))
	case b.world == nil:
		// A new process. Its runners are the users that are attached, and the views tell where they are.
		b.world = world{}
		for runner := range b.attached {
			b.world[runner] = place{}
		}
		b.isReading = true
		say("takes over %d users after seq %d", len(b.world), last)
	default:
		for runner := range b.world {
			if !b.attached[runner] {
				delete(b.world, runner)
			}
		}
		say("goes on with %d users after seq %d; sends %d messages again", len(b.world), last, len(b.unacked))
	}
	for _, race := range b.world.races() {
		if b.copies[race] == nil {
			b.copies[race] = &copyOf{}
		}
		first.Subscribe = append(first.Subscribe, &sessiond.ViewSubscription{
			Handle: race, SessionId: sessionID(race), Resume: b.copies[race].resume(),
			Options: &sessiond.DeliveryOptions{Encoding: sessiond.Encoding_ENCODING_COLUMNS},
		})
	}
	b.isOpen = true
	if len(b.unacked) == 0 {
		var blocks []*sessiond.Block
		if last == 0 {
			blocks = b.world.blocks()
		}
		b.send(first, blocks)
		return
	}
	for at := range b.unacked {
		again := &b.unacked[at]
		first.Seq, first.Blocks, again.sentAt = again.seq, again.blocks, time.Now()
		b.put(first)
		first = &sessiond.GatewayRequest{}
	}
}

func attach(runner uint32) *sessiond.Attach {
	return &sessiond.Attach{
		Handle: runner, UserId: userID(runner), SessionId: sessionID(raceOf(runner)),
		Join: &sessiond.JoinOptions{}, OpenIfMissing: &sessiond.OpenSharedSessionRequest{},
	}
}

// read has the views tell where everybody is.
func (b *backend) read() error {
	for runner := range b.world {
		place, err := b.shown(runner)
		if err != nil {
			return err
		}
		b.world[runner] = place
	}
	return nil
}

// shown is where the view of its race shows a runner.
func (b *backend) shown(runner uint32) (place, error) {
	known := b.copies[raceOf(runner)]
	if known == nil || known.members[userID(runner)] == nil {
		return place{}, fmt.Errorf("%s is not shown", userID(runner))
	}
	props := known.members[userID(runner)].props
	return place{props["x"].GetNumber(), props["y"].GetNumber()}, nil
}

// tick has everybody make a step, and looks whether the other side is still there.
func (b *backend) tick() {
	silence := 20 * time.Second
	if b.welcome != nil {
		silence = 5 * b.welcome.HeartbeatInterval.AsDuration() / 2
	}
	if b.again == nil && time.Since(b.heardAt) > silence {
		say("nothing has come for %v: the next stream", silence)
		b.open()
	}
	if !b.isOpen || b.isReading || b.isStopping || len(b.unacked) >= mostUnacked {
		return
	}
	if len(b.world) > 0 {
		b.world.step()
		b.send(&sessiond.GatewayRequest{}, b.world.blocks())
	} else if time.Since(b.saidAt) > quiet {
		b.send(&sessiond.GatewayRequest{Heartbeat: &sessiond.Heartbeat{}}, nil)
	}
}

// send gives a message the next number, keeps what may have to be sent again, and sends it.
func (b *backend) send(request *sessiond.GatewayRequest, blocks []*sessiond.Block) {
	b.seq++
	b.unacked = append(b.unacked, message{b.seq, blocks, time.Now()})
	request.Seq, request.Blocks = b.seq, blocks
	b.put(request)
}

func (b *backend) put(request *sessiond.GatewayRequest) {
	b.figures.up(request)
	b.saidAt = time.Now()
	// If it fails, the link's last event says why.
	_ = b.link.stream.Send(request)
}

// leave ends it in good order: the views show what was sent, and everybody leaves.
func (b *backend) leave() error {
	for runner, sent := range b.world {
		shown, err := b.shown(runner)
		if err != nil {
			return err
		}
		if shown != sent {
			return fmt.Errorf("%s is shown at %v, and was sent to %v", userID(runner), shown, sent)
		}
	}
	say("all is acked, and the views show what was sent; everybody leaves after %d steps", b.world.steps())
	b.isLeaving = true
	b.seq++
	request := &sessiond.GatewayRequest{Seq: b.seq}
	for _, runner := range b.world.runners() {
		request.Detach = append(request.Detach, &sessiond.Detach{Handle: runner, Leave: true})
	}
	b.put(request)
	return b.link.stream.CloseSend()
}
