package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// The function main keeps the first thread, and starts no process: then only orphans are its children.
func init() { runtime.LockOSThread() }

// adoptOrphans makes orphans of commands children of this process, since PID 1 of a container may reap nothing. (It
// fails before Linux 3.4.) The channel receives SIGCHLD.
func adoptOrphans() chan os.Signal {
	const setChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	return ended
}

// reapOrphans reaps the children of main's thread: os/exec waits for those of the others.
func reapOrphans() {
	const ofThread = 0x20000000 // __WNOTHREAD
	for pid := 1; pid > 0; {
		pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG|ofThread, nil)
	}
}

// spareThreads is more than a busy program uses at a time.
const spareThreads = 12

// keepThreads starts threads in advance, which then wait for work: if commands used up the limit of the user or unit, the runtime
// would abort when it needs one.
func keepThreads() {
	var locked sync.WaitGroup
	unlock := make(chan struct{})
	for count := 0; count < spareThreads; count++ {
		locked.Add(1)
		go func() {
			runtime.LockOSThread() // each has a thread of its own until it ends
			locked.Done()
			<-unlock
			runtime.UnlockOSThread()
		}()
	}
	locked.Wait()
	close(unlock)
}

// sealDescriptors keeps inherited descriptors from commands.
func sealDescriptors() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, each := range entries {
		if fd, _ := strconv.Atoi(each.Name()); fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

var starting mutex

// refuseHugePages keeps the memory of this process in pages of 4 kB: the few that it needs may otherwise take 2 MB each.
func refuseHugePages(isRefused uintptr) {
	const setThpDisable = 41
	syscall.RawSyscall6(syscall.SYS_PRCTL, setThpDisable, isRefused, 0, 0, 0, 0)
}

// child is a process that this one started, the leader of a session and of a group. Once it has exited, it stays a zombie until
// release: no other process or group gets its number, so a signal reaches nobody else.
type child struct {
	pid        int
	exited     chan struct{}
	status     syscall.WaitStatus // once it has exited, as usage
	usage      syscall.Rusage
	hasExited  bool
	isReleased bool
}

// children have not exited, or not been released. SIGCHLD reports their exits, so no thread waits for them.
var children = struct {
	mutex
	all   map[*child]bool
	watch sync.Once
}{all: map[*child]bool{}}

// start starts a command in a session of its own; nobody else may wait for it. It may have huge pages: the setting is inherited.
// When it is its turn, unwanted returns why it must not start any more.
func start(command *exec.Cmd, unwanted func() *failure) (*child, error) {
	children.watch.Do(func() {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGCHLD)
		go func() {
			for range ended {
				lookAtChildren()
			}
		}()
	})
	defer starting.lock()()
	if failed := unwanted(); failed != nil {
		return nil, failed
	}
	refuseHugePages(0)
	defer refuseHugePages(1)
	if err := command.Start(); err != nil {
		return nil, err
	}
	c := &child{pid: command.Process.Pid, exited: make(chan struct{})}
	defer children.lock()()
	children.all[c] = true
	c.look() // SIGCHLD may have come before
	return c, nil
}

func lookAtChildren() {
	defer children.lock()()
	for c := range children.all {
		c.look()
	}
}

// look notes that the child has exited, and reaps it if it was released. The caller holds the lock.
func (c *child) look() {
	if !c.hasExited {
		const (
			byNumber = 1 // P_PID
			options  = syscall.WEXITED | syscall.WNOHANG | syscall.WNOWAIT
			statusAt = 5 + unsafe.Sizeof(uintptr(0))/8
			byItself = 1 // CLD_EXITED; then CLD_KILLED, CLD_DUMPED
		)
		var info [32]int32 // siginfo_t; the first field remains 0 while the child runs
		_, _, number := syscall.RawSyscall6(syscall.SYS_WAITID, byNumber, uintptr(c.pid), uintptr(unsafe.Pointer(&info)), options, uintptr(unsafe.Pointer(&c.usage)), 0)
		switch code, status := info[infoCode], syscall.WaitStatus(info[statusAt]); {
		case number == syscall.ECHILD: // reaped elsewhere
			c.status, c.isReleased = syscall.WaitStatus(syscall.SIGKILL), true
		case info[0] == 0:
			return
		case code == byItself:
			c.status = status << 8
		default:
			c.status = status
		}
		c.hasExited = true
		close(c.exited)
	}
	if c.isReleased {
		syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
		delete(children.all, c)
	}
}

// used returns what the child used, with the processes that it waited for, once it has exited; nil: unknown.
func (c *child) used() any {
	defer children.lock()()
	if !c.hasExited || c.usage.Maxrss == 0 {
		return nil
	}
	cpu := time.Duration(c.usage.Utime.Nano() + c.usage.Stime.Nano())
	used := fields{"cpuMs": float64(cpu.Microseconds()) / 1000, "peakBytes": nil}
	// Linux counts what this process had when the child shared its memory, before it executed its program.
	var own syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	if c.usage.Maxrss > own.Maxrss {
		used["peakBytes"] = int64(c.usage.Maxrss) * 1024
	}
	return used
}

// signal signals the whole group, unless the child was released.
func (c *child) signal(number syscall.Signal) {
	defer children.lock()()
	if !c.isReleased {
		syscall.Kill(-c.pid, number)
	}
}

// release gives up the child's number, once it has exited.
func (c *child) release() {
	defer children.lock()()
	c.isReleased = true
	c.look()
}

// groups counts the processes in each group. One look at all processes serves everyone who waits for it.
var groups = struct {
	mutex
	at     time.Time
	counts map[int]int
}{}

// hasOthers reports whether the child's group may have another process, or another zombie.
func (c *child) hasOthers() bool {
	asked := time.Now()
	defer groups.lock()()
	if !groups.at.After(asked) {
		groups.at, groups.counts = time.Now(), map[int]int{}
		forEachProcess(func(_ string, stat []int) { groups.counts[stat[statGroup]]++ })
	}
	return groups.counts[c.pid] != 1
}

// Fields of a process's stat from the state on: its group and session; user and system time, and those of the children that it
// waited for, in hundredths of a second on all architectures (proc_pid_stat(5)).
const (
	statGroup   = 2
	statSession = 3
	statTimes   = 11
	statRest    = 15
	tickMs      = 10
)

// forEachProcess calls use with the number of each process, as text, and the fields of its stat from the state on.
func forEachProcess(use func(pid string, stat []int)) {
	forEachName("/proc", func(name string) bool {
		if name[0] < '1' || name[0] > '9' {
			return true
		}
		text := readFile("/proc/" + name + "/stat")
		stat := []int{}
		// Its name, in parentheses, may contain anything.
		for _, field := range strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) {
			number, _ := strconv.Atoi(field)
			stat = append(stat, number)
		}
		if len(stat) > statRest {
			use(name, stat)
		}
		return true
	})
}

// usageOfSessions returns what the processes of each session have used, with those that they waited for; a session without
// processes is missing.
func usageOfSessions(sessions map[int]bool) map[int]fields {
	cpuMs, peakKib := map[int]int{}, map[int]int{}
	if len(sessions) > 0 {
		forEachProcess(func(pid string, stat []int) {
			session := stat[statSession]
			if !sessions[session] {
				return
			}
			for _, ticks := range stat[statTimes:statRest] {
				cpuMs[session] += ticks * tickMs
			}
			peak, _ := strconv.Atoi(found(`^VmHWM:\s*(\d+)`, readFile("/proc/"+pid+"/status")))
			if peak > peakKib[session] {
				peakKib[session] = peak
			}
		})
	}
	used := map[int]fields{}
	for session := range cpuMs {
		used[session] = fields{"cpuMs": cpuMs[session], "peakBytes": nil}
		if peakKib[session] > 0 { // zombies have no memory
			used[session]["peakBytes"] = int64(peakKib[session]) * 1024
		}
	}
	return used
}
