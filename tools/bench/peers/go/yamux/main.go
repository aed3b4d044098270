// A port forward over yamux, to measure beside: one process on each side of one unix socket.
//
//	yamux near LISTEN_ADDRESS UNIX_PATH    listens on both; a stream for each connection
//	yamux far UNIX_PATH TARGET_ADDRESS     dials the socket; a connection to the target for each stream
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

	"github.com/hashicorp/yamux"
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
	session, err := yamux.Client(channel, nil)
	check(err)
	listener, err := net.Listen("tcp", address)
	check(err)
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			stream, err := session.Open()
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
	session, err := yamux.Server(dial(path), nil)
	check(err)
	for {
		stream, err := session.Accept()
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

// An end of one direction is passed on. What yamux makes of it is its own: Close sends the end of this direction, and
// the version that Debian packages then stops reading the other.
func join(connection net.Conn, stream net.Conn) {
	done := make(chan struct{})
	go func() {
		io.Copy(stream, connection)
		stream.Close()
		close(done)
	}()
	io.Copy(connection, stream)
	connection.(*net.TCPConn).CloseWrite()
	<-done
	connection.Close()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
