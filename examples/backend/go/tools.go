//go:build tools

// Keeps the versions of the code generators in go.mod; setup.sh runs them.
package main

import (
	_ "google.golang.org/grpc/cmd/protoc-gen-go-grpc"
	_ "google.golang.org/protobuf/cmd/protoc-gen-go"
)
