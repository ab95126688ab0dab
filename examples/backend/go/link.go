package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sessiond.example/backend/gen/sessiond"
)

// link is one Gateway stream, on a connection of its own: a load balancer may place each elsewhere.
type link struct {
	cancel context.CancelFunc
	// Set once a message came.
	stream sessiond.DeliveryService_GatewayClient
}

// event is a message that came down a link, or why the link ended.
type event struct {
	link     *link
	response *sessiond.GatewayResponse
	err      error
}

// dial opens a stream and says hello. What comes of it arrives as events, the last one with an error.
func dial(address string, hello *sessiond.GatewayHello, events chan<- event) *link {
	ctx, cancel := context.WithCancel(context.Background())
	link := &link{cancel: cancel}
	go func() {
		tell := func(response *sessiond.GatewayResponse, err error) {
			select {
			case events <- event{link, response, err}:
			case <-ctx.Done():
			}
		}
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			tell(nil, err)
			return
		}
		defer connection.Close()
		link.stream, err = sessiond.NewDeliveryServiceClient(connection).Gateway(ctx)
		if err != nil {
			tell(nil, err)
			return
		}
		// If it fails, Recv says why.
		_ = link.stream.Send(&sessiond.GatewayRequest{Seq: helloSeq, Hello: hello})
		for {
			response, err := link.stream.Recv()
			tell(response, err)
			if err != nil {
				return
			}
		}
	}()
	return link
}
