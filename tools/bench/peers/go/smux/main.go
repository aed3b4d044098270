// A port forward over smux, to measure beside: one process on each side of one unix socket.
//
//	smux near LISTEN_ADDRESS UNIX_PATH    listens on both; a stream for each connection
//	smux far UNIX_PATH TARGET_ADDRESS     dials the socket; a connection to the target for each stream
//
// Everything is at its default: the multiplexer's windows and frames, io.Copy's buffers of 32 KiB (or what the two
// ends do among themselves), TCP_NODELAY, which Go sets on every TCP connection.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/xtaci/smux"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: near LISTEN_ADDRESS UNIX_PATH | far UNIX_PATH TARGET_ADDRESS")
	}
	if os.Args[1] == "near" {
		near(os.Args[2], os.Args[3])
	} else {
		far(os.Args[2], os.Args[3])
	}
}

func near(address, path string) {
	channels, err := net.Listen("unix", path)
	check(err)
	// Not before there is a session: who connects earlier is refused, and comes again.
	channel, err := channels.Accept()
	check(err)
	session, err := smux.Client(channel, nil)
	check(err)
	listener, err := net.Listen("tcp", address)
	check(err)
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			stream, err := session.OpenStream()
			if err != nil {
				log.Print(err)
				connection.Close()
				return
			}
			join(connection, stream)
		}()
	}
}

func far(path, target string) {
	session, err := smux.Server(dial(path), nil)
	check(err)
	for {
		stream, err := session.AcceptStream()
		check(err)
		go func() {
			connection, err := net.Dial("tcp", target)
			if err != nil {
				log.Print(err)
				stream.Close()
				return
			}
			join(connection, stream)
		}()
	}
}

// The near side may not listen yet.
func dial(path string) net.Conn {
	for {
		channel, err := net.Dial("unix", path)
		if err == nil {
			return channel
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// smux has no half-close: an end of one direction ends both, as its users do it.
func join(connection net.Conn, stream *smux.Stream) {
	done := make(chan struct{}, 2)
	go func() {
		io.Copy(stream, connection)
		done <- struct{}{}
	}()
	go func() {
		io.Copy(connection, stream)
		done <- struct{}{}
	}()
	<-done
	stream.Close()
	connection.Close()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
