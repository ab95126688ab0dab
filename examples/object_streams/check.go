package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var passed int

func chapter(title string) {
	fmt.Printf("\n%s\n", title)
}

// equal prints what is there, unless it is only a number, and ends the program if something else
// should be.
func equal(what string, actual, expected any) {
	if !reflect.DeepEqual(actual, expected) {
		fail("%s:\n    %v\n  instead of\n    %v", what, actual, expected)
	}
	passed++
	switch actual.(type) {
	case bool, int:
		return
	}
	if actual == "" {
		actual = "nothing"
	}
	fmt.Printf("  %s: %v\n", what, actual)
}

// refused checks why a call was refused, and that the refusal names these fields.
func refused(what string, err error, code codes.Code, reason string, fields ...string) {
	told, isStatus := status.FromError(err)
	if err == nil || !isStatus {
		fail("%s was not refused: %v", what, err)
	}
	var because string
	var named []string
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			because = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				named = append(named, violation.Field)
			}
		}
	}
	sort.Strings(named)
	equal(what, fmt.Sprint(told.Code(), " ", because, " ", named), fmt.Sprint(code, " ", reason, " ", fields))
}

func done(call string, err error) {
	if err != nil {
		fail("%s: %v", call, err)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "object streams: FAILED: "+format+"\n", args...)
	os.Exit(1)
}
