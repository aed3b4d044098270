package main

import (
	"os"
	"time"
)

// lingerLook is how often linger looks whether to go on; a variable for tests.
var lingerLook = time.Second

// dropping counts what is dropped of all programs together. No window bounds that, so all pause after each dropSlice: others must
// have their turns.
var dropping struct {
	mutex
	bytes int
}

const dropSlice = 1048576

func dropTurn(count int) {
	defer dropping.lock()()
	if dropping.bytes += count; dropping.bytes >= dropSlice {
		dropping.bytes = 0
		time.Sleep(time.Millisecond) // the others wait for the lock
	}
}

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
			dropTurn(count)
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
