package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sessiond.example/object_streams/gen/sessiond"
)

// service is the server, and what the chapters hand on to each other.
type service struct {
	ctx        context.Context
	client     sessiond.ObjectStreamServiceClient
	frame      int64
	subscriber *subscriber
	heart      string
	cursor     string
}

// asApp is for calls that act as the app itself, above creators and readers: they name no user.
func (s *service) asApp() context.Context {
	return metadata.AppendToOutgoingContext(s.ctx, "sessiond-as", "app")
}

// startOver waits for the server, and removes what a run that was cut off may have left.
func (s *service) startOver(address string) {
	ctx, cancel := context.WithTimeout(s.asApp(), patience)
	defer cancel()
	request := &sessiond.GetAllStreamUpdatesRequest{App: app, Cursor: "0"}
	there, err := s.client.GetAllStreamUpdates(ctx, request, grpc.WaitForReady(true))
	if code := status.Code(err); code == codes.DeadlineExceeded || code == codes.Unavailable {
		fmt.Fprintf(os.Stderr, "object streams: no server at %s; start one: cargo run --release -- serve\n", address)
		os.Exit(1)
	}
	done("GetAllStreamUpdates", err)
	for name := range there.Updates {
		s.remove(name, "")
	}
}

func (s *service) nextFrame() int64 {
	s.frame++
	return s.frame
}

func (s *service) addFunc(name, expression string) {
	fmt.Printf("  pad: AddStreamFunc %s: %s\n", name, expression)
	_, err := s.client.AddStreamFunc(s.ctx, &sessiond.AddStreamFuncRequest{
		App: app, UserId: pad, Name: name, Expression: expression,
	})
	done("AddStreamFunc", err)
}

func (s *service) setStream(request *sessiond.SetStreamRequest) string {
	request.App, request.UserId = app, pad
	reply, err := s.client.SetStream(s.ctx, request)
	done("SetStream", err)
	fmt.Printf("  pad: SetStream %s\n", reply.Name)
	return reply.Name
}

func (s *service) setFunc(name, key string, how *sessiond.StreamFunc) {
	fmt.Printf("  pad: SetStreamFunc %s %s: %v\n", name, key, how)
	_, err := s.client.SetStreamFunc(s.ctx, &sessiond.SetStreamFuncRequest{
		App: app, UserId: pad, Name: name, Key: key, Func: how,
	})
	done("SetStreamFunc", err)
}

// update sets keys, and appends to arrays so that they are not sent again whole.
func (s *service) update(name string, set, add object) {
	_, err := s.client.UpdateStreamData(s.ctx, &sessiond.UpdateStreamDataRequest{
		App: app, UserId: pad, Name: name, Set: set, Append: add,
	})
	done("UpdateStreamData", err)
}

// remove removes a key, or, without one, the stream. The app itself does it.
func (s *service) remove(name, key string) {
	_, err := s.client.RemoveStream(s.asApp(), &sessiond.RemoveStreamRequest{App: app, Name: name, Key: key})
	done("RemoveStream", err)
}

// read asks for what is new since a cursor: the news, and the cursor for the next time.
func (s *service) read(user, name, cursor string) (string, string) {
	reply, err := s.client.GetStreamUpdate(s.ctx, &sessiond.GetStreamUpdateRequest{
		App: app, UserId: user, Name: name, Cursor: cursor,
	})
	done("GetStreamUpdate", err)
	equal("one reply holds it all", reply.More, false)
	return news(reply.Update), reply.Cursor
}

// readAll is read for all streams, by their names.
func (s *service) readAll(user, cursor string) (map[string]string, string) {
	reply, err := s.client.GetAllStreamUpdates(s.ctx, &sessiond.GetAllStreamUpdatesRequest{
		App: app, UserId: user, Cursor: cursor,
	})
	done("GetAllStreamUpdates", err)
	equal("one reply holds it all", reply.More, false)
	all := map[string]string{}
	for name, update := range reply.Updates {
		all[name] = news(update)
	}
	return all, reply.Cursor
}

func (s *service) readAllOf(user string) map[string]string {
	all, _ := s.readAll(user, "0")
	return all
}

// subscriber is sent what is new, and keeps a copy of each stream.
type subscriber struct {
	user   string
	stream sessiond.ObjectStreamService_SubscribeToStreamsClient
	copies map[string]copyOf
}

func (s *service) subscribe(user string, names ...string) *subscriber {
	stream, err := s.client.SubscribeToStreams(s.ctx, &sessiond.SubscribeToStreamsRequest{
		App: app, UserId: user, Names: names, Interval: durationpb.New(20 * time.Millisecond),
	})
	done("SubscribeToStreams", err)
	return &subscriber{user, stream, map[string]copyOf{}}
}

// next is the next message that has news; the others are heartbeats.
func (s *subscriber) next() map[string]*sessiond.StreamUpdate {
	for {
		message, err := s.stream.Recv()
		done("SubscribeToStreams", err)
		if message.Reset_ {
			s.copies = map[string]copyOf{}
		}
		for name, update := range message.Updates {
			if s.copies[name] == nil {
				s.copies[name] = copyOf{}
			}
			s.copies[name].apply(update)
			if update.Ended {
				delete(s.copies, name)
			}
		}
		if len(message.Updates) > 0 {
			return message.Updates
		}
	}
}

// hears checks what the next message says of a stream, and that it says nothing of others.
func (s *subscriber) hears(name, expected string) {
	updates := s.next()
	equal(fmt.Sprintf("%s <- %s", s.user, name), news(updates[name]), expected)
	equal("streams in the message", len(updates), 1)
}

// until reads on until a key holds a value, which may take one message or more.
func (s *subscriber) until(name, key string, expected []any) {
	for fmt.Sprint(s.copies[name][key]) != fmt.Sprint(expected) {
		fmt.Printf("  %s <- %s: %s\n", s.user, name, news(s.next()[name]))
	}
}

func mode(mode sessiond.StreamMode) *sessiond.StreamFunc {
	return &sessiond.StreamFunc{Func: &sessiond.StreamFunc_Mode{Mode: mode}}
}

func function(name string) *sessiond.StreamFunc {
	return &sessiond.StreamFunc{Func: &sessiond.StreamFunc_Name{Name: name}}
}

func keysOf(all map[string]string) []string {
	var keys []string
	for key := range all {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
