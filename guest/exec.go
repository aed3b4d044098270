package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxCommands    = 256
	maxStartBytes  = 16 << 20
	startTime      = 10 * time.Second
	outputGrace    = 500 * time.Millisecond
	killAfterUsual = 5 * time.Second
	maxKillAfter   = 30 * time.Second
	killAtStop     = 250 * time.Millisecond
)

// execService runs commands for the peer (docs/exec.md).
type execService struct {
	programs []string // the only ones that may be run; nil: any

	mu         sync.Mutex
	calls      map[*execCall]bool // that run
	startBytes int                // of STARTs whose command does not run yet
	isStopped  bool
}

// execCall is one command.
type execCall struct {
	stream  *stream
	request *execRequest
	cmd     *exec.Cmd
	input   *execInput

	terminal *os.File    // nil: pipes
	outputs  [2]*os.File // this side's ends of standard output and error
	writing  sync.Mutex  // one record at a time
	sent     atomic.Int64
	timedOut atomic.Bool
	isOver   atomic.Bool   // EXIT was sent
	ending   chan struct{} // closed when the command was told to end
	ended    sync.Once
	killer   atomic.Pointer[time.Timer]
}

// serve handles one call.
func (e *execService) serve(st *stream) {
	if !st.accept() {
		return
	}
	late := time.AfterFunc(startTime, func() { st.Reset("stalled", "exec: no complete START within 10 s") })
	c := &execCall{stream: st, ending: make(chan struct{})}
	reserved := 0
	defer func() { e.reserve(-reserved) }()
	kind, length, err := readRecord(st)
	switch {
	case err != nil || kind != execStart || length > execRequestBytes:
		st.Reset("protocol-error", "exec: the first record is not a START of at most %d bytes", execRequestBytes)
		return
	case !e.reserve(length):
		st.Reset("too-many-streams", "exec: no room for a START of %d bytes (max %d)", length, maxStartBytes)
		return
	}
	reserved = length
	payload := make([]byte, length)
	_, err = io.ReadFull(st, payload)
	late.Stop()
	request, failed := parseExecRequest(payload)
	if c.request = request; err != nil || failed != nil {
		st.Reset("protocol-error", "exec: START is not valid: %v", failed)
		return
	}
	began := time.Now()
	user, failed := c.start(e)
	e.reserve(-reserved)
	reserved = 0
	if failed != nil {
		logLine(logWarn, "command %s: refused: %s (%s)", request.line(), failed.message, failed.code)
		c.exit(fields{"error": fields{"code": failed.code, "message": failed.message}, "durationMs": 0,
			"timedOut": false})
		st.drain()
		return
	}
	logLine(logInfo, "command %s: started as %s, PID %d", request.line(), escape(user, 64), c.pid())
	c.write(execStarted, encode(fields{"pid": c.pid()}))
	c.run(began)
	e.mu.Lock()
	delete(e.calls, c)
	e.mu.Unlock()
	st.waitEnd()
}

func (e *execService) reserve(bytes int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.startBytes+bytes > maxStartBytes {
		return false
	}
	e.startBytes += bytes
	return true
}

// stop ends all commands within some 0.4 s, and refuses new ones.
func (e *execService) stop() {
	e.mu.Lock()
	e.isStopped = true
	for c := range e.calls {
		c.end(killAtStop)
	}
	for deadline := time.Now().Add(400 * time.Millisecond); len(e.calls) > 0 && time.Now().Before(deadline); {
		e.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		e.mu.Lock()
	}
	e.mu.Unlock()
}

// write sends a record.
func (c *execCall) write(kind byte, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.stream.Write(record(kind, payload))
	return err
}

// exit tells the caller how the command ended.
func (c *execCall) exit(result fields) {
	for _, name := range []string{"status", "signal", "error"} {
		if result[name] == nil {
			result[name] = nil // present, as null
		}
	}
	c.write(execExit, encode(result))
	c.isOver.Store(true)
	c.stream.CloseWrite()
}

// start starts the command, and tells the user that it runs as.
func (c *execCall) start(e *execService) (user string, failed *failure) {
	cmd, user, failed := e.choose(c.request)
	if failed != nil {
		return user, failed
	}
	var err error
	theirs := []*os.File{} // ends of the command
	pipe := func() (*os.File, *os.File) {
		read, write, failed := os.Pipe()
		if failed != nil {
			err = failed
		}
		return read, write
	}
	var stdin, input, output, errors *os.File
	if q := c.request; q.columns > 0 {
		c.terminal, output, err = openTerminal(uint16(q.columns), uint16(q.rows), cmd.SysProcAttr.Credential)
		input, errors, stdin, c.outputs[0] = output, output, c.terminal, c.terminal
		cmd.SysProcAttr.Setctty = true
	} else {
		c.outputs[0], output = pipe()
		c.outputs[1], errors = pipe()
		if q.hasInput {
			input, stdin = pipe()
		}
	}
	if input != nil {
		cmd.Stdin = input
	}
	cmd.Stdout, cmd.Stderr = output, errors
	theirs = append(theirs, input, output, errors)
	c.input = newExecInput(c, stdin)
	if err == nil {
		e.mu.Lock()
		switch {
		case e.isStopped:
			err = failf("command-failed", "shutting down")
		case len(e.calls) >= maxCommands:
			err = failf("command-failed", "too many commands running (max %d)", maxCommands)
		default:
			if err = cmd.Start(); err == nil {
				c.cmd = cmd
				e.calls[c] = true
			}
		}
		e.mu.Unlock()
	}
	for _, each := range theirs {
		each.Close()
	}
	if err != nil {
		c.close()
		if os.IsNotExist(err) {
			return user, failf("command-failed", "%s: its interpreter does not exist", escape(cmd.Path, 200))
		}
		return user, toFailure(err, "command-failed")
	}
	return user, nil
}

func (c *execCall) pid() int { return c.cmd.Process.Pid }

// close closes this side's ends: the command can write no more.
func (c *execCall) close() {
	c.outputs[0].Close() // a nil file only fails
	c.outputs[1].Close()
	c.input.drop()
}

// run carries input and output until the command has ended.
func (c *execCall) run(began time.Time) {
	outputs := make(chan struct{})
	var sending sync.WaitGroup
	for index, kind := range []byte{execStdout, execStderr} {
		if c.outputs[index] != nil {
			sending.Add(1)
			go func(output *os.File, kind, fd byte) {
				c.send(output, kind, fd)
				sending.Done()
			}(c.outputs[index], kind, byte(index+1))
		}
	}
	go func() {
		sending.Wait()
		close(outputs)
	}()
	go c.input.run()
	if c.request.timeout > 0 {
		timer := time.AfterFunc(c.request.timeout, func() {
			c.timedOut.Store(true)
			c.end(c.request.killAfter)
		})
		defer timer.Stop()
	}
	c.stream.notify(
		// A caller that has stopped reading cannot receive the result.
		func() { go c.stream.Reset("cancelled", "the caller no longer reads") },
		func(reason *failure) {
			if reason != nil && !c.isOver.Load() {
				go c.vanish()
			}
		})
	go func() {
		// After EXIT, what the caller sends does not matter.
		if failed := c.read(); failed != nil && !c.isOver.Load() {
			c.stream.Reset(failed.code, "%s", failed.message)
		}
		c.stream.drain()
	}()
	c.cmd.Wait()
	if c.terminal != nil {
		// Another process may have the terminal open; what was written to it is read within this time.
		c.closeWhenIdle(outputs)
	}
	select {
	case <-outputs:
	case <-c.ending:
		// As with ssh, a process that holds an output open keeps the call open, unless the command was told to end.
		c.waitGroup()
		c.closeWhenIdle(outputs)
	}
	<-outputs
	result := fields{"timedOut": c.timedOut.Load(), "durationMs": float64(time.Since(began).Microseconds()) / 1000}
	how := ""
	if state := c.cmd.ProcessState.Sys().(syscall.WaitStatus); state.Signaled() {
		how = signalNames[state.Signal()]
		result["signal"] = how
	} else {
		result["status"] = state.ExitStatus()
		how = "exit status " + strconv.Itoa(state.ExitStatus())
	}
	if c.timedOut.Load() {
		how += ", timed out"
	}
	logLine(logInfo, "command %s, PID %d: %s, %d ms", c.request.line(), c.pid(), how, time.Since(began).Milliseconds())
	c.exit(result)
	c.close()
	select {
	case <-c.ending:
		c.waitGroup()
	default:
	}
	if killer := c.killer.Load(); killer != nil {
		killer.Stop()
	}
}

// send sends an output, and its end.
func (c *execCall) send(output *os.File, kind, fd byte) {
	buffer := make([]byte, 32768)
	for {
		count, err := output.Read(buffer)
		c.sent.Add(int64(count))
		if count > 0 && c.write(kind, buffer[:count]) != nil {
			output.Close() // the caller has gone: what the command writes from now on fails
			return
		}
		if err != nil {
			c.write(execEof, []byte{fd})
			return
		}
	}
}

// read handles what the caller sends.
func (c *execCall) read() *failure {
	for {
		var payload [15]byte
		kind, length, err := readRecord(c.stream)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return toFailure(err, "protocol-error")
		case kind == execStdin:
			if failed := c.input.take(length); failed != nil {
				return failed
			}
			continue
		}
		isValid := length <= len(payload)
		if isValid {
			_, err = io.ReadFull(c.stream, payload[:length])
			isValid = err == nil
		}
		switch {
		case isValid && kind == execResize && length == 4:
			columns, rows := binary.BigEndian.Uint16(payload[:]), binary.BigEndian.Uint16(payload[2:])
			if isValid = columns > 0 && rows > 0; c.terminal != nil {
				resize(c.terminal, columns, rows)
			}
		case isValid && kind == execSignal:
			number := signalNumber(string(payload[:length]))
			if isValid = number != 0; isValid {
				c.signal(number)
			}
		case isValid && kind == execEof && length == 1 && payload[0] == 0:
			isValid = c.input.end()
		case isValid && kind == execEof && length == 1 && payload[0] <= 2:
			c.outputs[payload[0]-1].Close()
		default:
			isValid = false
		}
		if !isValid {
			return failf("protocol-error", "exec: a record of kind %d and %d bytes is not valid", kind, length)
		}
	}
}

// closeWhenIdle closes the outputs when nothing comes any more.
func (c *execCall) closeWhenIdle(outputs chan struct{}) {
	for sent := int64(-1); sent != c.sent.Load(); {
		sent = c.sent.Load()
		select {
		case <-outputs:
			return
		case <-time.After(outputGrace):
		}
	}
	c.outputs[0].Close()
	c.outputs[1].Close()
}

// signal reaches the whole process group.
func (c *execCall) signal(number syscall.Signal) { syscall.Kill(-c.pid(), number) }

// waitGroup waits until the process group has ended.
func (c *execCall) waitGroup() {
	for syscall.Kill(-c.pid(), 0) != syscall.ESRCH {
		time.Sleep(100 * time.Millisecond)
	}
}

// vanish ends a command whose caller has gone.
func (c *execCall) vanish() {
	killAfter := c.request.killAfter
	if killAfter > maxKillAfter {
		killAfter = maxKillAfter
	}
	c.signal(syscall.SIGHUP)
	c.end(killAfter)
}

// end sends TERM now, and KILL later.
func (c *execCall) end(killAfter time.Duration) {
	c.signal(syscall.SIGTERM)
	// A stopped process receives signals other than KILL only when it continues.
	c.signal(syscall.SIGCONT)
	if earlier := c.killer.Swap(time.AfterFunc(killAfter, func() { c.signal(syscall.SIGKILL) })); earlier != nil {
		earlier.Stop()
	}
	c.ended.Do(func() { close(c.ending) })
}

func (q *execRequest) line() string {
	if len(q.argv) == 0 {
		return "(login shell)"
	}
	return escape(strings.Join(q.argv, " "), 200)
}

// openTerminal opens a pseudo-terminal, which belongs to the user of the command.
func openTerminal(columns, rows uint16, credential *syscall.Credential) (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	var number, locked int32
	err = ioctl(master, syscall.TIOCSPTLCK, &locked)
	if err == nil {
		err = ioctl(master, syscall.TIOCGPTN, &number)
	}
	path := "/dev/pts/" + strconv.Itoa(int(number))
	if err == nil && credential != nil {
		err = os.Chown(path, int(credential.Uid), -1)
	}
	if err == nil {
		resize(master, columns, rows)
		slave, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	return master, slave, err
}

func resize(master *os.File, columns, rows uint16) {
	ioctl(master, syscall.TIOCSWINSZ, &[4]uint16{rows, columns})
}
