// A game controller as an object stream: one program writes it, several read it, each at its own pace.
// Everything that is printed is checked; the exit code is not 0 if anything is not as it should be.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"sessiond.example/object_streams/gen/sessiond"
)

const (
	app      = "object_streams"
	pad      = "pad"      // creates and writes
	screen   = "screen"   // is sent what is new, every 20 ms
	recorder = "recorder" // asks for what is new, whenever it likes
	stranger = "stranger" // may read nothing
)

// The server has to answer the first call in this time, and the whole takes no longer than that.
const (
	patience = 5 * time.Second
	atMost   = 50 * time.Second
)

func main() {
	address := "localhost:7000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintf(os.Stderr, "object streams: %s is no address: %v\n", address, err)
		os.Exit(1)
	}
	defer connection.Close()
	service := &service{ctx: ctx, client: sessiond.NewObjectStreamServiceClient(connection)}
	service.startOver(address)

	controller(service)
	sensor(service)
	refusals(service)
	removal(service)
	fmt.Printf("object streams: ok: %d checks passed\n", passed)
}

// Modes, functions and nested keys, and a reader that is sent what is new.
func controller(service *service) {
	chapter("a controller is set up")
	// A pull of the trigger is news when it starts, and not while it lasts or when it ends.
	service.addFunc("pulled", "value >= 0.5 && (last == null || last < 0.5) ? value : null")
	service.setStream(&sessiond.SetStreamRequest{
		Name: "controller",
		Object: object{
			"frame":   integer(0),
			"stick":   entries(object{"x": number(0), "y": number(0)}),
			"trigger": number(0),
			"buttons": texts("start"),
			"gyro":    numbers(0.01, 0.02),
			"serial":  text("R2-0815"),
		},
		// `serial` is not watched.
		Keys: []string{"frame", "stick", "trigger", "buttons", "gyro"},
		Funcs: map[string]*sessiond.StreamFunc{
			"buttons": mode(sessiond.StreamMode_STREAM_MODE_LATEST),
			"gyro":    mode(sessiond.StreamMode_STREAM_MODE_ALL_LATEST),
			"trigger": function("pulled"),
		},
		Readers: []string{screen, recorder},
	})

	chapter("the screen subscribes; what is new comes by itself")
	subscriber := service.subscribe(screen, "controller")
	whole := `reset buttons="start" frame=0 gyro*=[0.01 0.02] stick.x=0 stick.y=0`
	subscriber.hears("controller", whole)

	for _, frame := range []struct {
		does  string
		set   object
		add   object
		hears string
	}{
		{
			does: "the stick moves, as a nested key; the gyro goes on",
			set:  object{"stick.x": number(0.5)},
			add:  object{"gyro": numbers(0.03)},
			// ALL_LATEST: the elements that are new. Of the map only the key that is new.
			hears: "frame=1 gyro=[0.03] stick.x=0.5",
		},
		{
			does:  "the trigger is touched, which is no pull",
			set:   object{"trigger": number(0.2)},
			add:   object{"gyro": numbers(0.04, 0.05)},
			hears: "frame=2 gyro=[0.04 0.05]",
		},
		{
			does: "the trigger is pulled and two buttons are pressed",
			set:  object{"trigger": number(0.9)},
			add:  object{"buttons": texts("a", "b")},
			// LATEST: the last element.
			hears: `buttons="b" frame=3 trigger=0.9`,
		},
		{
			does:  "the trigger stays pulled; the stick is set as a whole, and half of it is as before",
			set:   object{"trigger": number(0.95), "stick": entries(object{"x": number(0.5), "y": number(-1)})},
			hears: "frame=4 stick.y=-1",
		},
	} {
		fmt.Printf("  pad: %s\n", frame.does)
		frame.set["frame"] = integer(service.nextFrame())
		service.update("controller", frame.set, frame.add)
		subscriber.hears("controller", frame.hears)
	}
	state := `buttons="b" frame=4 gyro=[0.01 0.02 0.03 0.04 0.05] stick.x=0.5 stick.y=-1 trigger=0.9`
	equal("the screen knows", subscriber.copies["controller"].String(), state)

	chapter("the mode of a key changes while it is read")
	service.setFunc("controller", "buttons", mode(sessiond.StreamMode_STREAM_MODE_ALL_LATEST))
	service.update("controller", object{}, object{"buttons": texts("x", "y")})
	subscriber.hears("controller", `buttons=["x" "y"]`)

	chapter("an array that is set to a shorter one starts again")
	service.update("controller", object{"gyro": numbers(0)}, object{})
	subscriber.hears("controller", "gyro*=[0]")
	equal("the screen knows", subscriber.copies["controller"]["gyro"], []any{0.0})
	service.subscriber = subscriber
}

// A second stream, and readers that ask: each with a cursor of its own.
func sensor(service *service) {
	chapter("the recorder asks: its cursor says what it has")
	whole := func(gyro string) string {
		return `reset buttons*=["start" "a" "b" "x" "y"] frame=4 gyro*=` + gyro +
			` stick.x=0.5 stick.y=-1 trigger=0.95`
	}
	first, cursor := service.read(recorder, "controller", "0")
	equal("recorder", first, whole("[0]"))
	nothing, same := service.read(recorder, "controller", cursor)
	equal("recorder", nothing, "")
	equal("its cursor stays", same, cursor)
	service.update("controller", object{}, object{"gyro": numbers(0.1)})
	service.update("controller", object{}, object{"gyro": numbers(0.2)})
	service.subscriber.until("controller", "gyro", []any{0.0, 0.1, 0.2})
	later, _ := service.read(recorder, "controller", cursor)
	equal("recorder", later, "gyro=[0.1 0.2]")
	again, _ := service.read(recorder, "controller", cursor)
	equal("recorder, with the cursor of before", again, later)

	chapter("without a cursor all share one, as in the older system")
	shared, _ := service.read(screen, "controller", "")
	equal("screen", shared, whole("[0 0.1 0.2]"))
	shared, _ = service.read(recorder, "controller", "")
	equal("recorder", shared, "")

	chapter("a second stream, whose name is generated; all streams at once, by name")
	heart := service.setStream(&sessiond.SetStreamRequest{Object: object{"bpm": integer(61)}})
	all, cursors := service.readAll(recorder, "0")
	equal("streams", len(all), 2)
	equal("recorder <- the heart", all[heart], "reset bpm=61")
	equal("stranger sees what is for everybody", keysOf(service.readAllOf(stranger)), []string{heart})
	service.update(heart, object{"bpm": integer(64)}, object{})
	all, _ = service.readAll(recorder, cursors)
	equal("recorder", all, map[string]string{heart: "bpm=64"})
	service.heart, service.cursor = heart, cursors
}

// What is refused changes nothing, and every fault is named.
func refusals(service *service) {
	chapter("what is refused changes nothing")
	_, before := service.read(recorder, "controller", "0")
	_, err := service.client.UpdateStreamData(service.ctx, &sessiond.UpdateStreamDataRequest{
		App: app, UserId: pad, Name: "controller",
		Set:    object{"frame": integer(99), "trigger.deep": number(1)},
		Append: object{"gyro": texts("1"), "frame": numbers(1)},
	})
	refused("an update with three faults", err, codes.InvalidArgument, "INVALID_FIELDS",
		`append["frame"]`, `append["gyro"]`, `set["trigger.deep"]`)
	_, err = service.client.AddStreamFunc(service.ctx, &sessiond.AddStreamFuncRequest{
		App: app, UserId: pad, Name: "loops", Expression: "value.map(x, value.map(y, x * y))",
	})
	refused("a function that could run for long", err, codes.InvalidArgument, "BAD_EXPRESSION", "expression")
	_, err = service.client.UpdateStreamData(service.ctx, &sessiond.UpdateStreamDataRequest{
		App: app, UserId: recorder, Name: "controller", Set: object{"frame": integer(99)},
	})
	refused("a reader that writes", err, codes.PermissionDenied, "ROLE_TOO_LOW")
	_, err = service.client.GetStreamUpdate(service.ctx, &sessiond.GetStreamUpdateRequest{
		App: app, UserId: stranger, Name: "controller",
	})
	refused("a stranger that reads", err, codes.NotFound, "STREAM_NOT_FOUND")
	nothing, _ := service.read(recorder, "controller", before)
	equal("the controller since", nothing, "")
}

// A key, and then the whole stream.
func removal(service *service) {
	chapter("a key is removed, and then the stream")
	service.remove("controller", "stick.y")
	service.subscriber.hears("controller", "-stick.y")
	service.remove("controller", "")
	service.subscriber.hears("controller", "ended")
	_, err := service.client.GetStreamUpdate(service.ctx, &sessiond.GetStreamUpdateRequest{
		App: app, UserId: recorder, Name: "controller",
	})
	refused("reading what is gone", err, codes.NotFound, "STREAM_NOT_FOUND")
	service.remove(service.heart, "")
	all, _ := service.readAll(recorder, service.cursor)
	equal("recorder", all, map[string]string{"controller": "ended", service.heart: "ended"})
}
