package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lowestPort    = 1024 // lower ones are privileged
	highestPort   = 65535
	maxPortRanges = 64
	maxPorts      = 64 // of a list that the peer gets (R-SERVICES-3)
	maxPortPause  = 10 * time.Second
	ownerTime     = time.Second // of a processor, for finding the programs of new ports; the next look continues
)

// portRange is an inclusive range of ports.
type portRange struct{ first, last int }

var portServices = regexp.MustCompile(`^port\.\d+$`)

var portRangeForm = regexp.MustCompile(`^(\d{1,5})(?:-(\d{1,5}))?$`)

// parsePortRanges parses ranges such as 3000-9999,18080.
func parsePortRanges(text string) (ranges []portRange, err error) {
	for _, part := range strings.Split(text, ",") {
		found := portRangeForm.FindStringSubmatch(part)
		if found == nil {
			found = make([]string, 3)
		}
		first, _ := strconv.Atoi(found[1])
		last, notGiven := strconv.Atoi(found[2])
		if notGiven != nil {
			last = first
		}
		if first < lowestPort || last < first || last > highestPort {
			return nil, failf("bad-argument", `--announce-ports: "%s": not a port or a range FROM-TO, from %d to %d`,
				escape(part, 64), lowestPort, highestPort)
		}
		ranges = append(ranges, portRange{first, last})
	}
	if len(ranges) > maxPortRanges {
		return nil, failf("bad-argument", "--announce-ports: too many port ranges: %d (max %d)", len(ranges), maxPortRanges)
	}
	return ranges, nil
}

// openPort is a port on which a program of this machine listens.
type openPort struct {
	number  int
	host    string // to be dialled
	program string // empty if it cannot be seen
}

func (p openPort) service() string { return "port." + strconv.Itoa(p.number) }

func (p openPort) String() string {
	if p.program == "" {
		return strconv.Itoa(p.number)
	}
	return strconv.Itoa(p.number) + " (" + p.program + ")"
}

// announcer offers open ports to the peer as services, and announces them (R-SERVICES-3).
type announcer struct {
	channel *channel
	ranges  []portRange
	owners  map[string]owner // by the inode of the socket
}

// owner is the process that has a socket; the zero value is for one that cannot be seen.
type owner struct {
	program string
	isThis  bool
}

// run looks once a second while there is a session: at the announced ports, and for new ones less often if that takes more
// than 1 % of a processor. Only processor time counts, since a look takes longer on a busy machine.
func (a *announcer) run() {
	for newAt := time.Now(); ; time.Sleep(time.Second) {
		a.channel.Lock()
		session, changed := a.channel.session, a.channel.changed
		a.channel.Unlock()
		if session == nil {
			<-changed
			continue
		}
		if time.Now().Before(newAt) {
			a.announce(a.stillOpen())
			continue
		}
		runtime.LockOSThread()
		before := threadTime()
		found := a.look()
		cost := threadTime() - before
		runtime.UnlockOSThread()
		a.announce(found)
		newAt = time.Now().Add(least(100*cost, maxPortPause))
	}
}

// threadTime returns the processor time that this thread has used.
func threadTime() time.Duration {
	const thisThread = 1 // RUSAGE_THREAD
	var used syscall.Rusage
	syscall.Getrusage(thisThread, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// stillOpen returns the announced ports that still have a listener, which takes no search.
func (a *announcer) stillOpen() (open []openPort) {
	isOpen := map[int]bool{}
	for _, row := range a.readTables() {
		isOpen[row.port] = true
	}
	a.channel.Lock()
	defer a.channel.Unlock()
	for _, port := range a.channel.ports {
		if isOpen[port.number] {
			open = append(open, port)
		}
	}
	return open
}

// announce replaces the announced ports. If there are too many, those announced before come first.
func (a *announcer) announce(found []openPort) {
	c := a.channel
	defer c.lock()()
	before := map[int]openPort{}
	for _, port := range c.ports {
		before[port.number] = port
	}
	byNumber := func(one, other int) bool { return found[one].number < found[other].number }
	sort.Slice(found, func(one, other int) bool {
		_, isKnown := before[found[one].number]
		if _, isOtherKnown := before[found[other].number]; isKnown != isOtherKnown {
			return isKnown
		}
		return byNumber(one, other)
	})
	found = found[:least(len(found), maxPorts)]
	sort.Slice(found, byNumber)
	isChanged := c.ports == nil || len(found) != len(c.ports)
	for _, port := range found {
		old, isOld := before[port.number]
		delete(before, port.number)
		if isOld && old == port {
			continue
		}
		isChanged = true
		target := &forward{port.service(), address{"tcp", net.JoinHostPort(port.host, strconv.Itoa(port.number)), 0}, ""}
		c.services[port.service()] = target.serve
		if !isOld {
			logLine(logInfo, "port-announced", "announcing port %s to the peer", port)
		}
	}
	for _, gone := range before {
		delete(c.services, gone.service())
		logLine(logInfo, "port-withdrawn", "no longer announcing port %s", gone)
	}
	if isChanged {
		c.ports = append([]openPort{}, found...)
		if c.session != nil {
			c.session.servicesDue = true
			c.session.link.wake.Broadcast()
		}
	}
}

// listener is a row of /proc/net/tcp or tcp6.
type listener struct {
	ip    net.IP
	port  int
	inode string
}

// parseListener parses such a row; its port is 0 if nothing listens there.
func parseListener(row string) (l listener) {
	columns := strings.Fields(row)
	if len(columns) < 10 || columns[3] != "0A" {
		return l
	}
	host, port, _ := strings.Cut(columns[1], ":")
	number, err := strconv.ParseUint(port, 16, 16)
	l.ip, _ = hex.DecodeString(host)
	if err != nil || len(l.ip) != net.IPv4len && len(l.ip) != net.IPv6len {
		return l
	}
	for word := l.ip; len(word) > 0; word = word[4:] { // each is a number of this machine
		binary.BigEndian.PutUint32(word, binary.LittleEndian.Uint32(word))
	}
	l.port, l.inode = int(number), columns[9]
	return l
}

// rank orders the listeners of a port by how well they can be dialled; -1 means not at all.
func (l listener) rank() int {
	rank := 0
	if l.ip.IsLinkLocalUnicast() && l.ip.To4() == nil {
		return -1
	}
	if !l.ip.IsLoopback() && !l.ip.IsUnspecified() {
		rank = 2
	}
	if l.ip.To4() == nil {
		rank++
	}
	return rank
}

// host is the address to dial: a listener on every IPv6 address usually accepts IPv4, too.
func (l listener) host() string {
	switch {
	case !l.ip.IsUnspecified():
		return l.ip.String()
	case l.ip.To4() == nil && strings.Contains(readFile("/proc/net/if_inet6"), strings.Repeat("0", 31)+"1"):
		return "::1"
	}
	return "127.0.0.1"
}

// look returns the open ports of other processes in the ranges, in no order.
func (a *announcer) look() (found []openPort) {
	best, unknown, owners := map[int]listener{}, map[string]bool{}, map[string]owner{}
	rows := a.readTables()
	for _, row := range rows {
		if known, isKnown := a.owners[row.inode]; isKnown {
			owners[row.inode] = known
		} else {
			unknown[row.inode] = true
		}
	}
	findOwners(unknown, owners)
	a.owners = owners
	for _, row := range rows {
		other, isTaken := best[row.port]
		if !owners[row.inode].isThis && row.rank() >= 0 && (!isTaken || row.rank() < other.rank()) {
			best[row.port] = row
		}
	}
	for number, row := range best {
		found = append(found, openPort{number, row.host(), owners[row.inode].program})
	}
	return found
}

func (a *announcer) readTables() []listener {
	return append(a.readTable("/proc/net/tcp"), a.readTable("/proc/net/tcp6")...)
}

// readTable returns the listeners of a table in the ranges: they come first, before the connections.
func (a *announcer) readTable(path string) (found []listener) {
	file, err := os.Open(path)
	if err != nil {
		return nil // a kernel without IPv6
	}
	defer file.Close()
	rows := bufio.NewScanner(file)
	rows.Scan() // the heading
	for rows.Scan() {
		row := parseListener(rows.Text())
		if row.port == 0 {
			break
		}
		for _, each := range a.ranges {
			if each.first <= row.port && row.port <= each.last {
				found = append(found, row)
				break
			}
		}
	}
	return found
}

// findOwners adds the owners of sockets, of this process first, then of the newest.
func findOwners(missing map[string]bool, owners map[string]owner) {
	if len(missing) == 0 {
		return
	}
	pids := []int{}
	forEachName("/proc", func(name string) bool {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
		return true
	})
	sort.Sort(sort.Reverse(sort.IntSlice(pids)))
	deadline := threadTime() + ownerTime
	for _, pid := range append([]int{os.Getpid()}, pids...) {
		folder := "/proc/" + strconv.Itoa(pid)
		forEachName(folder+"/fd", func(name string) bool {
			target, _ := os.Readlink(folder + "/fd/" + name)
			inode := strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")
			if missing[inode] {
				delete(missing, inode)
				owners[inode] = owner{plainName(readFile(folder + "/comm")), pid == os.Getpid()}
			}
			return len(missing) > 0
		})
		if len(missing) == 0 || threadTime() > deadline {
			return
		}
	}
	for inode := range missing {
		owners[inode] = owner{}
	}
}

// forEachName calls a function for each name in a folder until it returns false, without holding them.
func forEachName(folder string, use func(name string) bool) {
	file, err := os.Open(folder)
	if err != nil {
		return
	}
	defer file.Close()
	for {
		names, err := file.Readdirnames(256)
		for _, name := range names {
			if !use(name) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// plainName replaces characters of a name that JSON would escape.
func plainName(name string) string {
	return strings.Map(func(char rune) rune {
		if char < ' ' || char > '~' || char == '"' || char == '\\' {
			return '?'
		}
		return char
	}, name)
}
