package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf16"
)

const (
	storageName     = "storage" // the service of emulators, on either side
	storageSocket   = "/run/vproxy/storage.sock"
	requestTime     = 10 * time.Second
	replyTime       = time.Minute
	lingerTime      = 5 * time.Second
	probeEvery      = time.Second
	wrapperTime     = 30 * time.Second
	maxStorageCalls = 32
	maxEmulators    = 64
	singleRead      = 1024    // the most that an emulator with a single recv() reads
	maxReplyBytes   = 4 << 20 // vproxy takes 64 MiB
)

// broker passes wrappers' calls to emulators, one at a time to each: those that the peer attached, or else the
// peer's service (docs/storage.md).
type broker struct {
	channel     *channel
	turn        mutex // held by the call that gets the next idle emulator
	isPeerAsked atomic.Bool
	mutex
	attached map[*emulator]bool
}

// storageCall is a call in progress.
type storageCall struct {
	argv    []string
	request []byte
	began   time.Time
	conn    net.Conn // of its wrapper

	mutex
	isOver bool    // it was answered, or its wrapper has gone
	asked  *stream // of the emulator that was asked, or nil
}

// emulator answers calls on one stream.
type emulator struct {
	broker  *broker
	name    string
	stream  *stream
	isPeer  bool // the peer's service, on a stream for one call
	isAsked bool // guarded by the lock of the stream
}

// listen listens for wrappers at an explicit path, where it must succeed, or at the default, where it may fail.
func (b *broker) listen(explicit string) error {
	path := explicit
	if explicit == "" {
		path = storageSocket
		os.MkdirAll(filepath.Dir(path), 0o700)
	}
	listener, err := address{network: "unix", text: path}.listen()
	switch {
	case err == nil:
		logLine(logInfo, "listening", "listening on %s for storage calls", path)
		b.channel.sockets = append(b.channel.sockets, path)
		go acceptAll(listener.Accept, maxStorageCalls, b.serveWrapper)
	case explicit == "":
		logLine(logWarn, "storage-off", "not serving storage calls: %s", err)
		return nil
	}
	return err
}

func (b *broker) serveWrapper(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTime))
	c := &storageCall{began: time.Now(), conn: conn}
	_, o, failed := readMessage(conn, "request", storageRequestBytes)
	if failed == nil {
		c.argv = o.texts("argv", isAny)
		o.require(len(c.argv) > 0, "argv", "must be a non-empty list of strings")
		failed = *o.failed
	}
	if failed != nil {
		c.write(c.fail(failed))
		return
	}
	request := fields{"argv": c.argv}
	if b.channel.name != "" {
		request["vm"] = b.channel.name
	}
	c.request = encodeASCII(request)
	go c.probe()
	defer time.AfterFunc(wrapperTime, func() { c.refuse(errNoAnswer) }).Stop()
	if e := b.await(c); e != nil {
		e.ask(c)
	}
}

var errNoAnswer = failf("storage-timeout", "no answer within %g s", wrapperTime.Seconds())

// probe detects that the wrapper has gone by writing a space, which JSON ignores.
func (c *storageCall) probe() {
	time.Sleep(probeEvery)
	for c.write([]byte(" ")) == nil {
		time.Sleep(probeEvery)
	}
}

// write writes to the wrapper. It fails if the call is over.
func (c *storageCall) write(bytes []byte) error {
	defer c.lock()()
	if c.isOver {
		return io.ErrClosedPipe
	}
	c.conn.SetDeadline(time.Now().Add(replyTime))
	_, err := c.conn.Write(bytes)
	c.isOver = err != nil || len(bytes) > 1
	if err != nil {
		c.fail(failf("cancelled", "the wrapper disconnected before its answer"))
	}
	if c.isOver && c.asked != nil { // its reply must not reach another call
		c.asked.Reset("cancelled", "storage call cancelled after its request was sent")
	}
	return err
}

// expect records which emulator's reply is for the call; false means that it is over.
func (c *storageCall) expect(from *stream) bool {
	defer c.lock()()
	c.asked = from
	return !c.isOver
}

// await waits for an idle emulator; nil means that the call is over.
func (b *broker) await(c *storageCall) *emulator {
	defer b.turn.lock()()
	for c.write(nil) == nil {
		if e := b.findEmulator(c); e != nil {
			return e
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func (b *broker) findEmulator(c *storageCall) *emulator {
	b.Lock()
	hasAttached := len(b.attached) > 0
	for e := range b.attached {
		if e.take() {
			b.Unlock()
			return e
		}
	}
	b.Unlock()
	if hasAttached || b.isPeerAsked.Load() || !b.channel.isOffered(storageName) {
		return nil
	}
	st, failed := b.channel.open(storageName, "", 0)
	if failed != nil {
		return nil
	}
	e := &emulator{broker: b, name: "peer", stream: st, isPeer: true, isAsked: true}
	b.isPeerAsked.Store(true)
	if c.expect(st) {
		failed = st.waitAnswer()
	}
	if failed != nil { // it has read nothing
		logLine(logDebug, "storage-emulator", "storage emulator %s refused: %s (%s)", e.name, failed.message, failed.code)
		e.end()
		time.Sleep(firstRetry)
		return nil
	}
	return e
}

// attach serves an emulator that the peer attached.
func (b *broker) attach(st *stream) {
	e := &emulator{broker: b, name: fmt.Sprintf("attached on stream %d", st.id), stream: st}
	b.Lock()
	hasRoom := len(b.attached) < maxEmulators
	if hasRoom && st.accept() {
		b.attached[e] = true
	}
	b.Unlock()
	if !hasRoom {
		st.Reset("too-many-streams", "too many emulators (max %d)", maxEmulators)
		return
	}
	logLine(logDebug, "storage-emulator", "storage emulator %s attached", e.name)
	failed := e.waitUnasked()
	b.Lock()
	delete(b.attached, e)
	b.Unlock()
	st.Close()
	logLine(logDebug, "storage-emulator", "storage emulator %s detached: %s (%s)", e.name, failed.message, failed.code)
}

// take reserves the emulator for a call; false means that it is busy or gone.
func (e *emulator) take() bool {
	defer e.stream.lock()()
	isIdle := !e.isAsked && !e.stream.isOver && !e.stream.finCame && isBlank(e.stream.in)
	e.isAsked = e.isAsked || isIdle
	return isIdle
}

// waitUnasked waits until the stream ends, or sends bytes other than white space outside a call.
func (e *emulator) waitUnasked() *failure {
	st := e.stream
	defer st.lock()()
	for !st.isOver && (e.isAsked || !st.finCame && isBlank(st.in)) {
		st.changed.Wait()
	}
	switch {
	case st.reason != nil:
		return st.reason
	case isBlank(st.in):
		return failf("storage-unavailable", "it hung up")
	}
	return unasked()
}

func unasked() *failure { return failf("cancelled", "it sent data that was not asked for") }

func isBlank(bytes []byte) bool { return strings.TrimSpace(string(bytes)) == "" }

// end ends a call. It closes the stream of a service cleanly, or resets it if the peer does not close it, too.
func (e *emulator) end() {
	unlock := e.stream.lock()
	e.isAsked = false
	e.stream.changed.Broadcast()
	unlock()
	if e.isPeer {
		e.broker.isPeerAsked.Store(false)
		e.stream.CloseWrite()
		time.AfterFunc(lingerTime, e.stream.Close)
	}
}

// ask sends a request, and answers the call with the reply, or with why there is none: then the stream has ended. It
// gives the emulator back before the wrapper reads.
func (e *emulator) ask(c *storageCall) {
	if !c.expect(e.stream) {
		e.end()
		return
	}
	before := e.stream.received()
	e.stream.Write(c.request) // a failure shows in reading
	message, o, failed := readMessage(e.stream, "reply", maxReplyBytes)
	var reply *storageReply
	if failed == nil {
		reply, failed = readReply(o)
	}
	isReceived := e.stream.received() > before
	if failed != nil {
		e.stream.Close()
	}
	c.expect(nil)
	e.end()
	if failed == nil {
		logLine(logInfo, "storage-call", "storage call %s: status %d, %d ms", c.line(), reply.status, time.Since(c.began).Milliseconds())
		c.write(append(message, '\n'))
		return
	}
	code, what := "storage-unavailable", failed.message
	if failed.code == "storage-bad-reply" {
		code = failed.code
	} else if failed.code != code {
		what = failed.code + ": " + what
	}
	if length := len(c.request) - 1; length > singleRead && !isReceived {
		what += fmt.Sprintf("; the request has %d bytes, too many for an emulator that reads with a single recv(%d)",
			length, singleRead)
	}
	c.refuse(failf(code, "storage emulator (%s) failed: %s", e.name, what))
}

func (c *storageCall) line() string { return escape(strings.Join(c.argv, " "), 200) }

// fail logs why a call failed, and returns the error for the wrapper.
func (c *storageCall) fail(why *failure) []byte {
	logLine(logWarn, "storage-call", "storage call %s: %s (%s), %d ms", c.line(), why.message, why.code,
		time.Since(c.began).Milliseconds())
	return append(encode(fields{"error": fields{"code": why.code, "message": why.message}}), '\n')
}

// refuse answers with a failure, unless the call is over.
func (c *storageCall) refuse(why *failure) {
	if c.write(nil) == nil {
		c.write(c.fail(why))
	}
}

// ---- the wrapper ----

// callStorage stands in for a storage utility: it makes the storage call for a command line, and returns its exit status.
func callStorage(args []string) int {
	signal.Ignore(syscall.SIGPIPE) // stderr may still have a reader
	reply, failed := askBroker(args)
	if failed != nil {
		fmt.Fprintf(os.Stderr, "vproxy-storage: %s\n", escape(failed.message, 1000))
		return failed.exitStatus()
	}
	for index, to := range []*os.File{os.Stdout, os.Stderr} {
		// A closed pipe is not an error: the reply sets the status.
		if _, err := to.Write(reply.outputs[index]); err != nil && !errors.Is(err, syscall.EPIPE) {
			fmt.Fprintf(os.Stderr, "vproxy-storage: cannot write the output: %s\n", describe(err))
			return 125
		}
	}
	return reply.status
}

func askBroker(args []string) (*storageReply, *failure) {
	// argv[0] is the absolute path of the link.
	name := args[0]
	if found, err := exec.LookPath(name); err == nil {
		name = found
	}
	if path, err := filepath.Abs(name); err == nil {
		name = path
	}
	path := os.Getenv("VPROXY_STORAGE_SOCKET")
	if path == "" {
		path = storageSocket
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, failf("storage-unavailable", "no vproxy answers: %s: %s", path, describe(err))
	}
	conn.SetDeadline(time.Now().Add(wrapperTime))
	conn.Write(encodeASCII(fields{"argv": append([]string{name}, args[1:]...)})) // a failure shows in reading
	_, o, failed := readMessage(conn, "reply", storageReplyBytes+4096)
	switch {
	case failed != nil && failed.code == "storage-timeout":
		return nil, errNoAnswer
	case failed != nil:
		return nil, failed
	case o.has("error") && !o.has("status"): // the broker failed
		why := o.object("error")
		return nil, &failure{why.text("code"), why.text("message")}
	}
	return readReply(o)
}

// encodeASCII returns a line of JSON in ASCII, which no locale can garble.
func encodeASCII(value any) []byte {
	ascii := []byte{}
	for _, unit := range utf16.Encode([]rune(string(encode(value)) + "\n")) {
		if unit < 0x7f {
			ascii = append(ascii, byte(unit))
		} else {
			ascii = fmt.Appendf(ascii, `\u%04x`, unit)
		}
	}
	return ascii
}

// readMessage reads an object of the storage protocol up to its closing brace: not every emulator ends a line.
func readMessage(from io.Reader, what string, max int) (message []byte, o object, failed *failure) {
	limited := &io.LimitedReader{R: from, N: int64(max) + 1}
	decoder := json.NewDecoder(limited)
	var raw json.RawMessage
	err := decoder.Decode(&raw)
	rest, _ := io.ReadAll(decoder.Buffered())
	var syntax *json.SyntaxError
	switch {
	case limited.N == 0:
		failed = failf("storage-bad-"+what, "the %s is too long (max %d bytes)", what, max)
	case errors.As(err, &syntax), err == nil && raw[0] != '{':
		failed = failf("storage-bad-"+what, `storage %s: not a JSON object: "%s"`, what, escape(string(raw), 100))
	case errors.Is(err, os.ErrDeadlineExceeded):
		failed = failf("storage-timeout", "no complete storage %s in time", what)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		failed = failf("storage-unavailable", "it hung up without a %s", what)
	case err != nil:
		failed = toFailure(err, "storage-unavailable")
	case !isBlank(rest):
		failed = unasked()
	case isLargeJSON(raw):
		failed = failf("storage-bad-"+what, "the %s has too many values", what)
	default:
		o = parseObject(bytes.ToValidUTF8(raw, []byte("\uFFFD")), "storage "+what)
		o.code = "storage-bad-" + what
	}
	return raw, o, failed
}

type storageReply struct {
	outputs [2][]byte // standard output and error
	status  int
}

func readReply(o object) (*storageReply, *failure) {
	reply := &storageReply{status: int(o.integer("status", 0, 255))}
	for index, name := range []string{"stdout", "stderr"} {
		if _, isEncoded := o.fields[name+"Base64"]; !isEncoded {
			reply.outputs[index] = []byte(o.text(name))
			continue
		}
		text := o.text(name + "Base64")
		var err error
		reply.outputs[index], err = base64.StdEncoding.DecodeString(text)
		o.require(err == nil && !strings.ContainsAny(text, "\r\n"), name+"Base64", "is not valid base64")
	}
	return reply, *o.failed
}
