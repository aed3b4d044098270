package main

import (
	"os"
	"time"
)

// lingerLook is how often linger looks whether to go on; a variable for tests.
var lingerLook = time.Second

// linger reads and drops what the program still writes after the peer's STOP: a socket that is closed with unread input is reset,
// and the program could lose its answer. It drops droppedBytes and as many as the peer sends from then on, and ends lingerLooks
// after the last of them, or after the stream and the answer (R-STREAM-9).
func linger(st *stream, conn socket, local *quick, written <-chan struct{}) {
	stopped, _, before := st.unread()
	dropped, isEnded := int64(0), false
	for looks := 0; stopped != nil && looks < lingerLooks; looks++ {
		// Not for each read: a program that always writes a little is closed, too.
		conn.SetReadDeadline(time.Now().Add(lingerLook))
		hasRoom := false
		for {
			_, isOver, received := st.unread()
			select {
			case <-written:
				isEnded = isOver
			default:
			}
			hasRoom = dropped < droppedBytes+received-before
			buffer, count, readErr, err := local.readLent(hasRoom)
			if os.IsTimeout(err) {
				break
			}
			if err != nil { // reset
				return
			}
			buffers.Put(buffer)
			dropped += int64(count)
			if readErr != nil {
				st.Reset("local-error", "%s", describe(readErr))
			}
			if count <= 0 {
				return
			}
		}
		if hasRoom && !isEnded {
			looks = -1
		}
	}
	if stopped != nil && !isEnded {
		st.Reset(stopped.code, "the local program keeps writing output that no one reads")
		abort(conn)
	}
}
