package main

import (
	"context"
	"encoding/binary"
	"errors"
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
	maxCommands   = 256
	maxStartBytes = 16 * execRequestBytes // of requests whose command does not run yet
	startTime     = 10 * time.Second      // for a complete START
	maxSending    = 16                    // readers of jobs with a buffer
	maxDeciding   = 4                     // commands that are looked up at a time, unless a file system hangs
	outputGrace   = 500 * time.Millisecond
	terminalBytes = 131072 // more than a terminal holds
	maxKillAfter  = 30 * time.Second
	killAtStop    = 250 * time.Millisecond

	// When so many reads of an output in a row had to wait for less than quickTime, the command writes all the time. Unless
	// a read brings gathered bytes, the next one waits for gatherTime then: a record costs the same, however short it is.
	quickReads = 8
	quickTime  = 10 * time.Millisecond
	gathered   = 32768
	gatherTime = time.Millisecond

	outputBytes = 65536 // two frames
)

// execService runs commands for the peer (docs/exec.md).
type execService struct {
	mutex
	calls      map[*execCall]bool // that start or run, including jobs, and whether each has a slot
	slots      int                // taken
	waiting    []*execCall        // for a slot, in the order of arrival
	running    []*job             // that start or run, the oldest first
	ended      []*job             // that have ended, the first to end first
	programs   []string           // that are allowed; nil: any
	isStopped  bool
	startBytes atomic.Int32
	listBytes  atomic.Int32
	looking    sync.Mutex     // held during a look at what jobs have used
	lookedAt   time.Time      // when the last one began
	used       map[int]fields // what it found
	following  atomic.Int32   // readers of jobs
	lastStart  time.Time      // when a START was complete, or its command was started or refused
	readers    chan struct{}  // of jobs, to which bytes are being sent
	deciding   chan struct{}  // calls whose command is looked up
	startTime  time.Duration
}

func newExecService(programs []string) *execService {
	return &execService{calls: map[*execCall]bool{}, programs: programs, readers: make(chan struct{}, maxSending), deciding: make(chan struct{}, maxDeciding),
		startTime: startTime}
}

type execCall struct {
	stream  *stream // nil: it runs as a job
	request *execRequest
	line    string        // the command, for the log
	name    string        // the process, for the log
	slot    chan *failure // receives nil, or why the waiting command will not run
	due     time.Time     // when the time of one that waits is over; zero: never
	child   *child        // nil: it does not run yet
	job     *job          // nil: it ends with its caller

	terminal *os.File    // nil: pipes
	outputs  [2]*os.File // this side's ends of standard output and error; a terminal has one
	stdin    *os.File    // nil: none
	credit   atomic.Int64
	quick    atomic.Int32 // quick reads of outputs in a row
	input    chan []byte  // for stdin: what waits, so that the caller's other records are read meanwhile; nil: it has ended
	isCut    bool         // the caller or the command has gone within the input: what came is not the whole; set before input is closed

	writing  mutex // one record at a time
	timedOut atomic.Bool
	isOver   atomic.Bool // EXIT was sent

	ends   mutex         // guards the next three
	killer *time.Timer   // nil: the command was not told to end
	killAt time.Time     // when KILL is due, or was
	ending chan struct{} // closed when the command was told to end

	killed    context.Context // done some time after KILL
	setKilled func()
}

func (e *execService) serve(st *stream) {
	if !st.accept() {
		return
	}
	kind, payload, reserved, failed := e.receive(st)
	var c *execCall
	if failed == nil && kind == execStart {
		c, failed = e.start(st, payload)
	}
	e.startBytes.Add(-reserved)
	if failed == nil && kind != execStart {
		failed = e.serveJobs(st, kind, payload)
	}
	switch {
	case c == nil && failed == nil:
		st.CloseWrite()
	case c == nil && failed.code == "protocol-error":
		st.Reset(failed.code, "exec: %s", failed.message)
	case c == nil:
		st.Write(record(execExit, encodeRefusal(failed)))
		st.CloseWrite()
	case failed != nil:
		e.forget(c)
		logLine(logWarn, "exec-refused", "command %s: refused: %s (%s)", c.line, failed.message, failed.code)
		c.write(execExit, encodeRefusal(failed))
	case c.job != nil:
		go e.run(c)
		st.Write(record(execStarted, encode(fields{"pid": c.pid(), "job": c.job.id})))
		st.CloseWrite()
	default:
		e.run(c)
	}
	st.drain()
}

// encodeRefusal returns the EXIT of a command that was not run.
func encodeRefusal(failed *failure) []byte {
	return encode(fields{"error": fields{"code": failed.code, "message": failed.message},
		"status": nil, "signal": nil, "durationMs": 0, "timedOut": false})
}

// run serves a started command until its end. A caller that has its result may start the next one at once: what this one had is
// free before.
func (e *execService) run(c *execCall) {
	exit := record(execExit, encode(c.run()))
	select {
	case <-c.ending:
		e.conclude(c, exit)
		c.waitGroup()
		c.release()
	default: // what the command left in the background continues
		c.release()
		e.Lock()
		e.freeSlot(c)
		e.Unlock()
		e.conclude(c, exit)
	}
	e.forget(c)
}

// conclude gives a caller its result.
func (e *execService) conclude(c *execCall, exit []byte) {
	if c.job != nil { // which waits for no reader
		defer e.lock()()
		e.keepJob(c.job)
	}
	c.writeRecord(exit)
}

// freeSlot lets the next command start. The caller holds the lock.
func (e *execService) freeSlot(c *execCall) {
	if !e.calls[c] {
		return
	}
	e.calls[c] = false
	e.slots--
	if len(e.waiting) > 0 {
		next := e.waiting[0]
		e.waiting = e.waiting[1:]
		e.giveSlot(next)
		next.slot <- nil
	}
}

func (e *execService) giveSlot(c *execCall) {
	e.calls[c] = true
	e.slots++
}

// forget removes a call that is over, or was not started.
func (e *execService) forget(c *execCall) {
	defer e.lock()()
	e.freeSlot(c)
	delete(e.calls, c)
	if c.job != nil && c.child == nil {
		e.dropJob(c.job, "it did not start")
		c.job = nil
	}
}

// firstRecords are the records that a caller may begin with.
var firstRecords = map[byte]struct {
	name string
	most int
}{execStart: {"START", execRequestBytes}, execList: {"LIST", 0}, execAttach: {"ATTACH", jobRequestBytes},
	execStop: {"STOP", jobRequestBytes}}

// receive reads the first record. The caller subtracts the reserved bytes from startBytes.
func (e *execService) receive(st *stream) (kind byte, payload []byte, reserved int32, failed *failure) {
	defer e.expire(st)()
	var header [recordHeaderBytes]byte
	if _, err := io.ReadFull(st, header[:]); err != nil {
		return 0, nil, 0, failf("protocol-error", "the stream ended before START")
	}
	kind, length := header[0], binary.BigEndian.Uint32(header[1:])
	switch first, isFirst := firstRecords[kind]; {
	case !isFirst:
		return 0, nil, 0, failf("protocol-error", "a first record of kind %d is not valid", kind)
	case length > uint32(first.most):
		return 0, nil, 0, failf("bad-argument", "%s too long: %d bytes (max %d)", first.name, length, first.most)
	}
	if used := e.startBytes.Add(int32(length)) - int32(length); used+int32(length) > maxStartBytes {
		e.startBytes.Add(-int32(length))
		return 0, nil, 0, failf("too-many-streams", "no room for a START of %d bytes: others use %d of %d", length, used, maxStartBytes)
	}
	payload, err := readPayload(st, int(length))
	if err != nil {
		failed = failf("protocol-error", "the stream ended within a record")
	}
	return kind, payload, int32(length), failed
}

// expire resets a stream whose first record is late (R-EXEC-3). It may just not have been read yet while others are read or
// started, or this process is held up.
func (e *execService) expire(st *stream) (cancel func()) {
	const heldUp = time.Second
	isComplete := make(chan struct{})
	go func() {
		for left := e.startTime; left > 0; {
			due, timer := time.Now().Add(left), time.NewTimer(left)
			select {
			case <-isComplete:
				timer.Stop()
				return
			case <-timer.C:
			}
			e.Lock()
			left = e.startTime - time.Since(e.lastStart)
			e.Unlock()
			if time.Since(due) > heldUp {
				left = e.startTime
			}
		}
		st.Reset("stalled", "exec: no complete START within 10 s")
	}()
	return func() { close(isComplete) }
}

func (e *execService) noteStart() {
	defer e.lock()()
	e.lastStart = time.Now()
}

// start starts the command of a START. The call is nil if the START is not valid.
func (e *execService) start(st *stream, payload []byte) (*execCall, *failure) {
	request, failed := parseExecRequest(payload)
	if failed != nil {
		return nil, failed
	}
	c := &execCall{stream: st, request: request, line: request.line(), ending: make(chan struct{}), input: make(chan []byte, 1)}
	c.killed, c.setKilled = context.WithCancel(context.Background())
	c.credit.Store(execCreditBytes)
	if request.waits && request.timeout > 0 {
		c.due = time.Now().Add(request.timeout)
	}
	e.noteStart()
	defer e.noteStart()
	return c, e.launch(c)
}

// launch starts a command, without holding a lock: a file system may hang.
func (e *execService) launch(c *execCall) *failure {
	if failed := e.admit(c); failed != nil {
		return failed
	}
	cmd, user, failed := e.decide(c.request)
	if failed != nil {
		return failed
	}
	theirs, err := c.connect(cmd)
	var started *child
	if err == nil {
		started, err = startCommand(cmd, c.unwanted)
	}
	for _, file := range theirs {
		file.Close() // nil only fails, here and below
	}
	if err != nil {
		c.stdin.Close()
		c.closeOutput(0)
		c.closeOutput(1)
		return toFailure(err, "command-failed")
	}
	go c.feed(c.input)
	if !c.request.hasInput {
		c.isCut = c.request.isJob // nobody types an end, either
		c.endInput()
	}
	e.Lock()
	c.child = started
	if e.isStopped {
		c.end(killAtStop)
	}
	c.name = "PID " + strconv.Itoa(c.pid())
	if c.job != nil {
		c.name += ", job " + c.job.id
		c.job.begin(user)
		e.makeRoom()
	}
	e.Unlock()
	logLine(logInfo, "exec-started", "command %s: started as %s, %s", c.line, escape(user, 64), c.name)
	if c.job == nil {
		c.write(execStarted, encode(fields{"pid": c.pid()}))
	}
	return nil
}

// decide looks a command up. Each lookup blocks a thread on the file system, so only a few run at a time.
func (e *execService) decide(q *execRequest) (*exec.Cmd, string, *failure) {
	hang := time.NewTimer(time.Second)
	defer hang.Stop()
	select {
	case e.deciding <- struct{}{}:
		defer func() { <-e.deciding }()
	case <-hang.C:
	}
	return q.command(e.programs)
}

// admit gives a call a slot, and reserves what its job needs. A call with wait waits for a slot (R-EXEC-2).
func (e *execService) admit(c *execCall) *failure {
	e.Lock()
	isFull := e.slots >= maxCommands
	if !e.isStopped && isFull && c.request.waits {
		c.slot = make(chan *failure, 1)
		e.waiting = append(e.waiting, c)
		e.Unlock()
		st := c.stream // a job gives it up when it starts
		st.notify(func() { go st.Reset("cancelled", "the caller no longer reads") }, func(*failure) { go e.leave(c) })
		if c.request.timeout > 0 {
			timer := time.AfterFunc(c.request.timeout, func() { e.leave(c) })
			defer timer.Stop()
		}
		failed := <-c.slot
		e.Lock()
		if failed != nil {
			defer e.Unlock()
			return failed
		}
	}
	defer e.Unlock()
	switch {
	case e.isStopped:
		return failf("command-failed", "shutting down")
	case isFull && !c.request.waits:
		return failf("too-many-streams", "too many commands running (max %d)", maxCommands)
	}
	if !e.calls[c] { // one that has waited got it from the one before
		e.giveSlot(c)
	}
	if c.request.isJob {
		return e.addJob(c)
	}
	return nil
}

// unwanted returns why a command must not start any more.
func (c *execCall) unwanted() *failure {
	defer c.stream.lock()()
	switch {
	case c.stream.isOver:
		return failf("command-failed", "the caller has disconnected")
	case !c.due.IsZero() && !time.Now().Before(c.due):
		return failf("too-many-streams", "too many commands running until its time was over")
	}
	return nil
}

// leave ends the wait of a call that is no longer wanted.
func (e *execService) leave(c *execCall) {
	defer e.lock()()
	for index, each := range e.waiting {
		if each == c {
			e.waiting = append(append([]*execCall{}, e.waiting[:index]...), e.waiting[index+1:]...)
			c.slot <- c.unwanted()
			return
		}
	}
}

// connect gives a command its terminal or pipes, and returns its ends of them.
func (c *execCall) connect(cmd *exec.Cmd) (theirs []*os.File, err error) {
	q := c.request
	if q.columns > 0 {
		master, slave, err := openTerminal(uint16(q.columns), uint16(q.rows), cmd.SysProcAttr.Credential)
		c.terminal, c.stdin, c.outputs[0] = master, master, master
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr.Setctty = slave, slave, slave, true
		return []*os.File{slave}, err
	}
	var reads, writes [3]*os.File
	for fd := range reads {
		if fd == 1 || fd == 0 && q.hasInput || fd == 2 && !q.isJob {
			if reads[fd], writes[fd], err = os.Pipe(); err != nil {
				break
			}
		}
	}
	cmd.Stdout, cmd.Stderr = writes[1], writes[2]
	if q.hasInput {
		cmd.Stdin = reads[0]
	}
	if q.isJob {
		cmd.Stderr = writes[1]
	}
	c.stdin, c.outputs = writes[0], [2]*os.File{reads[1], reads[2]}
	return []*os.File{reads[0], writes[1], writes[2]}, err
}

// stop ends all commands within about 0.4 s, and refuses new ones.
func (e *execService) stop() {
	defer e.lock()()
	e.isStopped = true
	for _, c := range e.waiting {
		c.slot <- failf("command-failed", "shutting down")
	}
	e.waiting = nil
	for c := range e.calls {
		if c.child != nil {
			c.end(killAtStop)
		}
	}
	await(e, 400*time.Millisecond, func() bool { return len(e.calls) == 0 })
}

func (c *execCall) write(kind byte, payload []byte) error {
	return c.writeRecord(record(kind, payload))
}

func (c *execCall) writeRecord(record []byte) error {
	defer c.writing.lock()()
	if c.isOver.Load() {
		return io.ErrClosedPipe
	} else if c.job != nil {
		c.job.write(record)
		return nil
	}
	isExit := record[0] == execExit
	c.isOver.Store(isExit) // before the caller has it
	_, err := c.stream.Write(record)
	if isExit {
		c.stream.CloseWrite()
	}
	return err
}

func (c *execCall) pid() int { return c.child.pid }

// run carries input and output until the command has ended, and returns its result.
func (c *execCall) run() fields {
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
	if c.request.timeout > 0 {
		left := c.request.timeout
		if !c.due.IsZero() {
			left = time.Until(c.due)
		}
		timer := time.AfterFunc(left, func() {
			c.timedOut.Store(true)
			c.end(c.request.killAfter)
		})
		defer timer.Stop()
	}
	if c.job == nil {
		c.stream.notify(
			// A caller that has stopped reading cannot receive the result.
			func() { go c.stream.Reset("cancelled", "the caller no longer reads") },
			func(reason *failure) {
				if reason != nil && !c.isOver.Load() {
					go c.vanish()
				}
			})
		go c.read()
	}
	status := syscall.WaitStatus(syscall.SIGKILL)
	select {
	case <-c.child.exited:
		status = c.child.status
	case <-c.killed.Done(): // in vain: it waits for a device
	}
	if c.terminal == nil {
		select {
		case <-outputs:
		case <-c.ending:
			// As with ssh, a process that holds an output open keeps the call open, unless the command was told to end.
			c.waitGroup()
		}
	}
	for _, output := range c.outputs {
		output.SetReadDeadline(time.Now()) // it ends with what it holds
	}
	<-outputs
	duration := time.Since(began)
	result := fields{"status": status.ExitStatus(), "signal": nil, "error": nil, "timedOut": c.timedOut.Load(),
		"durationMs": float64(duration.Microseconds()) / 1000, "usage": c.child.used()}
	how := "exit status " + strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		how = signalName(status.Signal())
		result["status"], result["signal"] = nil, how
	}
	if c.timedOut.Load() {
		how += ", timed out"
	}
	logLine(logInfo, "exec-ended", "command %s, %s: %s, %d ms", c.line, c.name, how, duration.Milliseconds())
	return result
}

// release gives up the input and the number of a command that is over.
func (c *execCall) release() {
	c.stdin.Close()
	c.child.release()
	defer c.ends.lock()()
	c.setKilled()
	if c.killer != nil {
		c.killer.Stop()
	}
}

// send sends an output, and its end. Once the command has ended, what is left of the output is what it wrote, however
// slowly the caller reads; another process may keep it open.
func (c *execCall) send(index int, sending *sync.WaitGroup) {
	defer sending.Done()
	output := c.outputs[index]
	if output == nil {
		return
	}
	defer output.Close()
	from := newQuick(output)
	buffer := make([]byte, outputBytes)
	left, patience := int32(-1), outputGrace // in bytes and in time spent on reading; -1: the command has not ended
	for left != 0 {
		began, most := time.Now(), outputBytes-recordHeaderBytes
		if left > 0 {
			output.SetReadDeadline(began.Add(patience))
			most = least(int(left), most)
		}
		count, err := from.Read(buffer[recordHeaderBytes:][:most])
		spent := time.Since(began)
		if left < 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			left = terminalBytes
			if c.terminal == nil {
				ioctl(output, syscall.TIOCINQ, &left)
			}
			continue
		} else if left > 0 {
			left, patience = left-int32(count), patience-spent
		}
		buffer[0] = execStdout + byte(index)
		binary.BigEndian.PutUint32(buffer[1:], uint32(count))
		if count > 0 && c.writeRecord(buffer[:recordHeaderBytes+count]) != nil {
			return // the caller has gone: what the command writes from now on fails
		}
		if err != nil {
			break
		}
		if spent >= quickTime {
			c.quick.Store(0)
		} else if quick := c.quick.Add(1); quick >= quickReads && count < gathered {
			if quick == quickReads {
				enlargePipe(output)
			}
			time.Sleep(gatherTime)
		}
	}
	c.write(execEof, []byte{byte(index) + 1})
}

// enlargePipe makes room for more in a pipe, if the system allows it.
func enlargePipe(pipe *os.File) {
	const setPipeSize, largePipe = 1031, 262144
	raw, _ := pipe.SyscallConn() // as in ioctl
	raw.Control(func(fd uintptr) { syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, largePipe) })
}

// feed gives the command its input. What it does not read is dropped, and raises the caller's credit like the rest.
func (c *execCall) feed(input <-chan []byte) {
	isBroken, consumed := c.stdin == nil, 0
	to := newQuick(c.stdin)
	for part := range input {
		if !isBroken {
			_, err := to.Write(part)
			isBroken = err != nil
		}
		used := part
		memory.Put(&used)
		if c.request.isJob {
			c.job.Lock()
			c.credit.Add(int64(len(part)))
			c.job.free(len(part))
			c.job.Unlock()
		} else if consumed += len(part); consumed >= execCreditBytes/2 {
			c.credit.Add(int64(consumed))
			c.write(execCredit, binary.BigEndian.AppendUint32(nil, uint32(consumed)))
			consumed = 0
		}
	}
	if c.isCut {
		return
	}
	if c.terminal == nil {
		c.stdin.Close()
		return
	}
	// The end is typed again until the command ends: a program that changes the settings of the terminal as it starts, such
	// as a shell, loses what was typed before.
	err := error(nil)
	for pause := 100 * time.Millisecond; err == nil; pause = least(2*pause, time.Minute) {
		_, err = c.stdin.Write([]byte{4})
		time.Sleep(pause)
	}
}

// read handles what the caller sends, until its end. After EXIT, that does not matter.
func (c *execCall) read() {
	_, _, err := readCaller(c.stream, &c.credit, c.handle)
	if err != io.EOF && !c.isOver.Load() {
		c.stream.Reset("protocol-error", "exec: %s", err)
	}
	if c.input != nil {
		c.isCut = err != io.EOF || c.isOver.Load()
	}
	c.endInput()
	c.stream.drain()
}

// readCaller has records that follow the first one handled until one is not valid or the stream ends. It returns what came of the
// last one.
func readCaller(st *stream, credit *atomic.Int64, handle func(kind byte, payload []byte) bool) (kind byte, payload []byte, err error) {
	most := func(kind byte) int {
		switch kind {
		case execStdin:
			return int(credit.Load())
		case execResize:
			return 4
		case execEof:
			return 1
		}
		return 15
	}
	kind, payload, err = readRecord(st, most)
	for err == nil && handle(kind, payload) {
		kind, payload, err = readRecord(st, most)
	}
	if err == nil {
		err = failf("protocol-error", "a record of kind %d and %d bytes is not valid", kind, len(payload))
	}
	return kind, payload, err
}

// handle handles a record of the caller, and reports whether it is valid.
func (c *execCall) handle(kind byte, payload []byte) bool {
	isEof := kind == execEof && len(payload) == 1
	switch {
	case kind == execStdin && c.input != nil:
		c.quick.Store(0) // what the command answers must not be gathered
		c.credit.Add(-int64(len(payload)))
		select {
		case waiting := <-c.input:
			part := payload
			payload = append(waiting, part...)
			memory.Put(&part)
		default:
		}
		c.input <- payload // has room: nobody else sends
	case isEof && payload[0] == 0 && c.input != nil:
		c.endInput()
	case isEof && (payload[0] == 1 || payload[0] == 2):
		c.closeOutput(int(payload[0]) - 1)
	case kind == execResize && len(payload) == 4:
		if c.terminal != nil {
			resize(c.terminal, binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
		}
	case kind == execSignal && isAmong(string(payload), signalNames[1:]):
		if !c.isOver.Load() {
			c.child.signal(syscall.Signal(indexOf(string(payload), signalNames)))
		}
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

// closeOutput closes an output, if there is one.
func (c *execCall) closeOutput(index int) { c.outputs[index].Close() }

// waitGroup waits until the rest of the group has gone, but not long after KILL: there may be zombies that their parent does not
// reap.
func (c *execCall) waitGroup() {
	for c.child.hasOthers() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-c.killed.Done():
			return
		}
	}
}

// vanish ends a command whose caller has gone.
func (c *execCall) vanish() {
	c.end(least(c.request.killAfter, maxKillAfter), syscall.SIGHUP)
}

// end sends these signals and TERM now, and KILL after killAfter, or earlier if an earlier call set that.
func (c *execCall) end(killAfter time.Duration, signals ...syscall.Signal) {
	c.scheduleKill(killAfter)
	// After that: the command may end at once, and run must know that it was told to. A stopped process receives signals other than
	// KILL only when it continues.
	for _, each := range append(signals, syscall.SIGTERM, syscall.SIGCONT) {
		c.child.signal(each)
	}
}

func (c *execCall) scheduleKill(killAfter time.Duration) {
	defer c.ends.lock()()
	at := time.Now().Add(killAfter)
	switch {
	case c.killed.Err() != nil || c.killer != nil && !at.Before(c.killAt):
		return
	case c.killer == nil:
		close(c.ending)
	default:
		c.killer.Stop()
	}
	c.killAt, c.killer = at, time.AfterFunc(killAfter, func() {
		c.child.signal(syscall.SIGKILL)
		select {
		case <-time.After(outputGrace):
		case <-c.killed.Done():
		}
		c.setKilled()
	})
}
