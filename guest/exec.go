package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxCommands    = 256
	maxStarting    = 16 // requests in memory whose command does not run yet
	startTime      = 10 * time.Second
	outputGrace    = 500 * time.Millisecond
	killAfterUsual = 5 * time.Second
	maxKillAfter   = 30 * time.Second
	killAtStop     = 250 * time.Millisecond
)

// execService runs commands for the peer (docs/exec.md).
type execService struct {
	mutex
	calls     map[*execCall]bool // that run
	isStopped bool
}

type execCall struct {
	stream  *stream
	request *execRequest
	cmd     *exec.Cmd

	terminal *os.File         // nil: pipes
	outputs  [2]io.ReadCloser // this side's ends of standard output and error; a terminal has one
	stdin    io.WriteCloser   // nil: none
	credit   atomic.Int64     // of the caller, which bounds the bytes of input
	input    chan []byte      // for stdin, so that the caller's other records are read meanwhile; nil: it has ended

	writing  mutex // one record at a time
	sent     atomic.Int64
	timedOut atomic.Bool
	isOver   atomic.Bool                // EXIT was sent
	killer   atomic.Pointer[time.Timer] // nil: the command was not told to end
	ending   chan struct{}              // closed when it was
}

var starting = make(chan struct{}, maxStarting)

func (e *execService) serve(st *stream) {
	if !st.accept() {
		return
	}
	starting <- struct{}{}
	c := e.start(st)
	<-starting
	if c == nil {
		st.drain()
		return
	}
	c.run()
	e.Lock()
	delete(e.calls, c)
	e.Unlock()
	st.waitEnd()
}

// start reads a request, and starts its command; nil if there is none.
func (e *execService) start(st *stream) *execCall {
	late := time.AfterFunc(startTime, func() { st.Reset("stalled", "exec: no complete START within 10 s") })
	defer late.Stop()
	kind, payload, err := readRecord(st, func(byte) int { return execRequestBytes })
	request, failed := parseExecRequest(payload)
	if err != nil || kind != execStart {
		failed = failf("protocol-error", "exec: the first record is not a START of at most %d bytes", execRequestBytes)
	}
	if failed != nil {
		st.Reset(failed.code, "%s", failed.message)
		return nil
	}
	c := &execCall{stream: st, request: request, input: make(chan []byte, 1024), ending: make(chan struct{})}
	c.credit.Store(execCreditBytes)
	cmd, user, failed := request.command()
	if failed == nil {
		failed = e.launch(c, cmd)
	}
	if failed != nil {
		logLine(logWarn, "command %s: refused: %s (%s)", request.line(), failed.message, failed.code)
		c.write(execExit, encode(fields{"error": fields{"code": failed.code, "message": failed.message},
			"status": nil, "signal": nil, "durationMs": 0, "timedOut": false}))
		return nil
	}
	logLine(logInfo, "command %s: started as %s, PID %d", request.line(), escape(user, 64), c.pid())
	c.write(execStarted, encode(fields{"pid": c.pid()}))
	return c
}

// launch connects a command, and starts it.
func (e *execService) launch(c *execCall, cmd *exec.Cmd) *failure {
	defer e.lock()()
	if e.isStopped {
		return failf("command-failed", "shutting down")
	} else if len(e.calls) >= maxCommands {
		return failf("command-failed", "too many commands running (max %d)", maxCommands)
	}
	q := c.request
	var slave *os.File
	var errs [4]error
	if q.columns > 0 {
		c.terminal, slave, errs[0] = openTerminal(uint16(q.columns), uint16(q.rows), cmd.SysProcAttr.Credential)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr.Setctty = slave, slave, slave, true
		c.stdin, c.outputs[0] = c.terminal, c.terminal
		defer slave.Close()
	} else {
		c.outputs[0], errs[0] = cmd.StdoutPipe()
		c.outputs[1], errs[1] = cmd.StderrPipe()
		if q.hasInput {
			c.stdin, errs[2] = cmd.StdinPipe()
		}
	}
	if errs == [4]error{} {
		errs[3] = cmd.Start()
	}
	if os.IsNotExist(errs[3]) {
		errs[3] = failf("command-failed", "%s: its interpreter does not exist", escape(cmd.Path, 200))
	}
	for _, err := range errs {
		if err != nil {
			c.terminal.Close() // nil only fails
			return toFailure(err, "command-failed")
		}
	}
	c.cmd, e.calls[c] = cmd, true
	return nil
}

// stop ends all commands within some 0.4 s, and refuses new ones.
func (e *execService) stop() {
	defer e.lock()()
	e.isStopped = true
	for c := range e.calls {
		c.end(killAtStop)
	}
	await(e, 400*time.Millisecond, func() bool { return len(e.calls) == 0 })
}

func (c *execCall) write(kind byte, payload []byte) error {
	defer c.writing.lock()()
	if c.isOver.Load() {
		return io.ErrClosedPipe
	}
	_, err := c.stream.Write(record(kind, payload))
	if kind == execExit {
		c.isOver.Store(true)
		c.stream.CloseWrite()
	}
	return err
}

func (c *execCall) pid() int { return c.cmd.Process.Pid }

// run carries input and output until the command has ended.
func (c *execCall) run() {
	began := time.Now()
	var sending sync.WaitGroup
	sending.Add(len(c.outputs))
	for index := range c.outputs {
		go c.send(index, &sending)
	}
	outputs := make(chan struct{}) // closed when they have ended
	go func() {
		sending.Wait()
		close(outputs)
	}()
	go c.feed(c.input)
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
	if !c.request.hasInput {
		c.endInput()
	}
	go c.read()
	state, _ := c.cmd.Process.Wait()
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
	status, duration := state.Sys().(syscall.WaitStatus), time.Since(began)
	result := fields{"status": status.ExitStatus(), "signal": nil, "error": nil, "timedOut": c.timedOut.Load(),
		"durationMs": float64(duration.Microseconds()) / 1000}
	how := "exit status " + strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		how = signalName(status.Signal())
		result["status"], result["signal"] = nil, how
	}
	if c.timedOut.Load() {
		how += ", timed out"
	}
	logLine(logInfo, "command %s, PID %d: %s, %d ms", c.request.line(), c.pid(), how, duration.Milliseconds())
	c.write(execExit, encode(result))
	if c.stdin != nil {
		c.stdin.Close()
	}
	if c.killer.Load() != nil {
		c.waitGroup()
		c.killer.Load().Stop()
	}
}

// send sends an output, and its end.
func (c *execCall) send(index int, sending *sync.WaitGroup) {
	defer sending.Done()
	output := c.outputs[index]
	if output == nil {
		return
	}
	defer output.Close()
	buffer := make([]byte, 32768)
	for {
		count, err := output.Read(buffer)
		c.sent.Add(int64(count))
		if count > 0 && c.write(execStdout+byte(index), buffer[:count]) != nil {
			return // the caller has gone: what the command writes from now on fails
		}
		if err != nil {
			c.write(execEof, []byte{byte(index) + 1})
			return
		}
	}
}

// feed gives the command its input. What it does not read is dropped, and raises the caller's credit like the rest.
func (c *execCall) feed(input <-chan []byte) {
	isBroken, consumed := c.stdin == nil, 0
	for part := range input {
		if !isBroken {
			_, err := c.stdin.Write(part)
			isBroken = err != nil
		}
		if consumed += len(part); consumed >= execCreditBytes/2 {
			c.credit.Add(int64(consumed))
			c.write(execCredit, binary.BigEndian.AppendUint32(nil, uint32(consumed)))
			consumed = 0
		}
	}
	if c.terminal != nil {
		c.stdin.Write([]byte{4}) // the end of input, as typed
	} else if c.stdin != nil {
		c.stdin.Close()
	}
}

// read handles what the caller sends, until its end. After EXIT, that does not matter.
func (c *execCall) read() {
	most := func(kind byte) int {
		if kind == execStdin {
			return int(c.credit.Load())
		}
		return 15
	}
	kind, payload, err := readRecord(c.stream, most)
	for err == nil && c.handle(kind, payload) {
		kind, payload, err = readRecord(c.stream, most)
	}
	if err == nil {
		err = failf("protocol-error", "a record of kind %d and %d bytes is not valid", kind, len(payload))
	}
	if err != io.EOF && !c.isOver.Load() {
		c.stream.Reset("protocol-error", "exec: %s", err)
	}
	c.endInput()
	c.stream.drain()
}

// handle handles a record of the caller, and tells whether it is valid.
func (c *execCall) handle(kind byte, payload []byte) bool {
	isEof := kind == execEof && len(payload) == 1
	switch {
	case kind == execStdin && c.input != nil:
		c.credit.Add(-int64(len(payload)))
		c.input <- payload
	case isEof && payload[0] == 0 && c.input != nil:
		c.endInput()
	case isEof && (payload[0] == 1 || payload[0] == 2):
		c.closeOutput(int(payload[0]) - 1)
	case kind == execResize && len(payload) == 4:
		columns, rows := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
		if columns > 0 && rows > 0 && c.terminal != nil {
			resize(c.terminal, columns, rows)
		}
		return columns > 0 && rows > 0
	case kind == execSignal && isAmong(string(payload), signalNames[1:]):
		c.signal(syscall.Signal(indexOf(string(payload), signalNames)))
	default:
		return false
	}
	return true
}

func (c *execCall) endInput() {
	if c.input != nil {
		close(c.input)
		c.input = nil
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
	c.closeOutput(0)
	c.closeOutput(1)
}

func (c *execCall) closeOutput(index int) {
	if output := c.outputs[index]; output != nil {
		output.Close()
	}
}

// signal reaches the whole process group.
func (c *execCall) signal(number syscall.Signal) { syscall.Kill(-c.pid(), number) }

func (c *execCall) waitGroup() {
	for syscall.Kill(-c.pid(), 0) != syscall.ESRCH {
		time.Sleep(100 * time.Millisecond)
	}
}

// vanish ends a command whose caller has gone.
func (c *execCall) vanish() {
	c.signal(syscall.SIGHUP)
	c.end(least(c.request.killAfter, maxKillAfter))
}

// end sends TERM now, and KILL later.
func (c *execCall) end(killAfter time.Duration) {
	c.signal(syscall.SIGTERM)
	// A stopped process receives signals other than KILL only when it continues.
	c.signal(syscall.SIGCONT)
	earlier := c.killer.Swap(time.AfterFunc(killAfter, func() { c.signal(syscall.SIGKILL) }))
	if earlier == nil {
		close(c.ending)
	} else {
		earlier.Stop()
	}
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
