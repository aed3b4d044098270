package main

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestLinger: a program that uploads without reading gets the answer sent before, if it ends within bounds; else the stream is reset,
// or the socket closed (R-STREAM-9). See also spec/guest-program/early-answers.slow.spec.ts.
func TestLinger(t *testing.T) {
	defer func(usual time.Duration) { lingerLook = usual }(lingerLook)
	lingerLook = 20 * time.Millisecond
	forEver := func(program net.Conn) error {
		for {
			if _, err := program.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	}
	for _, each := range []struct {
		what     string
		isEnded  bool // the peer has ended its direction, too
		isReset  bool
		writing  func(program net.Conn) error
		isClosed bool // before the program closes
	}{
		{"a long upload", true, false, func(program net.Conn) error {
			_, err := program.Write(make([]byte, 1<<25))
			return err
		}, false},
		{"an endless one", true, false, forEver, true},
		{"an endless one, whose peer goes on", false, true, forEver, true},
		{"no more output", true, false, func(program net.Conn) error { return nil }, false},
		{"a little for ever", true, false, func(program net.Conn) error {
			for {
				if _, err := program.Write([]byte("x")); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
		}, true},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		program, _ := net.Dial("tcp", listener.Addr().String())
		conn, _ := listener.Accept()
		listener.Close()
		s, spliced := newTestSession(false), make(chan bool)
		s.link.Lock()
		s.lastPeerID = 2
		st := newStream(s, 2, &s.peers)
		st.setAnswered()
		s.link.Unlock()
		go func() {
			splice(st, conn.(socket), nil)
			close(spliced)
		}()
		s.link.Lock()
		st.handleStop(failf("cancelled", "reads no more"))
		s.handleData(header{stream: 2}, []byte("answer"))
		if each.isEnded {
			st.handleFin(header{stream: 2})
		}
		st.deliver()
		s.link.Unlock()
		if err := each.writing(program); (err != nil) != each.isClosed {
			t.Errorf("%s: %v", each.what, err)
		}
		if !each.isClosed {
			if answer, err := io.ReadAll(program); string(answer) != "answer" || err != nil {
				t.Errorf("%s: %q, %v", each.what, answer, err)
			}
		}
		<-spliced // also if the program stays
		if (st.reason != nil) != each.isReset {
			t.Errorf("%s: %v", each.what, st.reason)
		}
		program.Close()
	}
}

// TestDropTurn: programs that write for ever pause together, so that others have their turns.
func TestDropTurn(t *testing.T) {
	began, done := time.Now(), make(chan bool)
	for program := 0; program < 4; program++ {
		go func() {
			for read := 0; read < 50; read++ {
				dropTurn(dropSlice / 2)
			}
			done <- true
		}()
	}
	for program := 0; program < 4; program++ {
		<-done
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("100 slices took %s", took)
	}
}
