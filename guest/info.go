package main

import (
	"context"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	infoAsk, infoAskTime, infoTold, infoToldTime = 1, 2, 16, 17 // kinds of records

	maxAskBytes  = 256
	infoIdleTime = 10 * time.Second
	keptTime     = 500 * time.Millisecond
	toolTime     = 5 * time.Second
	diskTime     = time.Second
	maxFact      = 256 // bytes of a text
	maxRows      = 32  // of a list
)

// infoService answers questions about this machine (docs/info.md), with facts at most half a second old.
type infoService struct {
	mutex
	facts  fields
	readAt time.Time
}

func (s *infoService) serve(st *stream) {
	st.accept()
	for {
		late := time.AfterFunc(infoIdleTime, func() { st.Reset("stalled", "info: no request for 10 s") })
		kind, payload, err := readRecord(st, func(byte) int { return maxAskBytes })
		late.Stop()
		about, _ := parseObject(payload, "info: ASK").fields["about"].(string)
		switch {
		case err == io.EOF:
			st.CloseWrite()
			st.waitEnd()
			return
		case err != nil || kind == infoAsk && !isWord(about, "machine boot"):
			st.Reset("protocol-error", "info: a record of kind %d and %d bytes is not valid", kind, len(payload))
			return
		case kind == infoAskTime:
			st.Write(record(infoToldTime, encode(fields{"timeMs": time.Now().UnixMilli()})))
		case kind == infoAsk:
			st.Write(record(infoTold, encode(fields{"version": 1, about: s.look()[about]})))
		}
	}
}

func (s *infoService) look() fields {
	defer s.lock()()
	if time.Since(s.readAt) >= keptTime {
		machine := readMachine()
		s.facts, s.readAt = fields{"machine": machine, "boot": machine["boot"]}, time.Now()
	}
	return s.facts
}

// readFile returns a small system file, trimmed, or "" if there is none.
func readFile(path string) string {
	content, _ := os.ReadFile(path)
	return strings.TrimSpace(string(content))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fact returns a text as JSON, or null if it is empty.
func fact(text string) any { return orNull(cut(text, maxFact)) }

// number returns a word of a text as a number, or zero.
func number(text string, index int) float64 {
	words := append(strings.Fields(text), make([]string, index+1)...)
	value, _ := strconv.ParseFloat(words[index], 64)
	return value
}

// found returns what a pattern captures in a text, or "".
func found(pattern, text string) string {
	return (append(regexp.MustCompile("(?m)"+pattern).FindStringSubmatch(text), "", ""))[1]
}

// machineHistory is what this process did to its machine.
type machineHistory struct {
	mutex
	restored, stepped, frozen time.Time
	steppedBy                 float64 // ms
}

var history machineHistory

// note records that something happened now.
func (h *machineHistory) note(at *time.Time) {
	defer h.lock()()
	*at = time.Now()
}

func (h *machineHistory) noteStep(by float64) {
	defer h.lock()()
	h.stepped, h.steppedBy = time.Now(), by
}

func (h *machineHistory) describe() fields {
	defer h.lock()()
	moment := func(at time.Time) any { return orNull(isoTime(at)) }
	described := fields{"restoredAt": moment(h.restored), "clockSteppedAt": moment(h.stepped), "clockSteppedByMs": nil,
		"frozenAt": moment(h.frozen), "refusedOptions": orNull(refusedOptions)}
	if !h.stepped.IsZero() {
		described["clockSteppedByMs"] = math.Round(h.steppedBy)
	}
	return described
}

// isoTime formats a time as JSON has it in vproxy; the zero time is empty.
func isoTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z")
}

func readMachine() fields {
	load, memory := readFile("/proc/loadavg"), readFile("/proc/meminfo")
	kernel := func(name string) string { return cut(readFile("/proc/sys/kernel/"+name), maxFact) }
	osRelease := readFile("/etc/os-release") + "\n" + readFile("/usr/lib/os-release")
	release := func(name string) any { return fact(found("^"+name+`=["']?(.*?)["']?$`, osRelease)) }
	bytes := func(name string) float64 { return 1024 * number(found("^"+name+":(.*)", memory), 0) }
	// The static name (hostname(5)) goes first: a sandbox may keep an older one.
	hostName := found(`^\s*([^#\s]+)`, readFile("/etc/hostname"))
	if hostName == "" {
		hostName = kernel("hostname")
	}
	return fields{
		"hostName": cut(hostName, maxFact),
		"os":       fields{"id": release("ID"), "versionId": release("VERSION_ID"), "name": release("PRETTY_NAME")},
		"kernel": fields{"name": kernel("ostype"), "release": kernel("osrelease"),
			"architecture": map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l",
				"riscv64": "riscv64", "mips64le": "mips64"}[runtime.GOARCH]},
		"bootId": fact(kernel("random/boot_id")), "uptimeS": number(readFile("/proc/uptime"), 0),
		"processors": runtime.NumCPU(),
		"load":       []float64{number(load, 0), number(load, 1), number(load, 2)},
		"memory": fields{"totalBytes": bytes("MemTotal"), "availableBytes": bytes("MemAvailable"),
			"swapTotalBytes": bytes("SwapTotal"), "swapFreeBytes": bytes("SwapFree")},
		"disks": readDisks(readFile("/proc/self/mounts")), "interfaces": readInterfaces(), "boot": readBoot(), "history": history.describe(),
	}
}

// patience bounds waits for something that may hang: while one does, no other is tried.
type patience struct{ sync.Mutex }

var diskPatience, systemdPatience patience

// await runs work for at most max.
func (p *patience) await(max time.Duration, work func()) bool {
	if !p.TryLock() {
		return false
	}
	done := make(chan struct{})
	go func() {
		work()
		p.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(max):
		return false
	}
}

// readDisks lists the file systems of block devices, and the root, each once. Network and FUSE mounts may hang, so they
// are skipped; while another one hangs, or if one is out of reach, sizes are left out.
func readDisks(mounts string) []fields {
	disks, isKnown := []fields{}, map[string]bool{}
	for _, line := range strings.Split(mounts, "\n") {
		words := append(strings.Fields(line), "", "", "")
		device, kind := words[0], words[2]
		point := strings.NewReplacer(`\040`, " ", `\134`, `\`).Replace(words[1])
		isLocal := strings.HasPrefix(device, "/dev/") || isWord(kind, "zfs overlay tmpfs ramfs rootfs") && point == "/"
		if isKnown[device] || !isLocal || isWord(kind, "squashfs iso9660 fuseblk") || len(disks) == maxRows {
			continue
		}
		isKnown[device] = true
		disk := fields{"mountPoint": cut(point, maxFact), "device": cut(device, maxFact), "type": kind,
			"sizeBytes": nil, "freeBytes": nil, "availableBytes": nil}
		var stat syscall.Statfs_t
		var err error
		if diskPatience.await(diskTime, func() { err = syscall.Statfs(point, &stat) }) && err == nil {
			size := uint64(stat.Bsize)
			disk["sizeBytes"], disk["freeBytes"], disk["availableBytes"] = stat.Blocks*size, stat.Bfree*size, stat.Bavail*size
		}
		disks = append(disks, disk)
	}
	return disks
}

func readInterfaces() []fields {
	list := []fields{}
	interfaces, _ := net.Interfaces()
	for _, each := range interfaces {
		addresses, _ := each.Addrs()
		if len(addresses) == 0 || len(list) == maxRows {
			continue
		}
		texts := []string{}
		for _, address := range addresses[:least(len(addresses), maxRows)] {
			texts = append(texts, address.String())
		}
		list = append(list, fields{"name": cut(each.Name, maxFact), "mac": fact(each.HardwareAddr.String()),
			"addresses": texts})
	}
	return list
}

// readBoot reports how far the machine has booted, according to systemd and cloud-init.
func readBoot() fields {
	boot := fields{"systemd": nil, "systemdError": nil, "failedUnits": []string{}, "cloudInit": nil,
		"cloudInitError": nil}
	if exists("/run/systemd/system") {
		state, why := systemctl("is-system-running")
		units, _ := systemctl("list-units", "--state=failed", "--plain", "--no-legend", "--full", "--no-pager")
		boot["failedUnits"] = append([]string{}, regexp.MustCompile(`(?m)^\S+`).FindAllString(units, maxRows)...)
		boot["systemd"] = state
		if !isWord(state, "initializing starting running degraded maintenance stopping offline") {
			boot["systemd"], boot["systemdError"] = "unknown", cut(why, maxFact)
		}
	}
	for _, state := range [][2]string{{"enabled", "not-started"}, {"disabled", "disabled"}, {"status.json", "running"},
		{"result.json", "done"}} {
		if exists("/run/cloud-init/" + state[0]) {
			boot["cloudInit"] = state[1]
		}
	}
	if why := found(`"errors":\s*\[\s*"([^"]+)`, readFile("/run/cloud-init/result.json")); why != "" {
		boot["cloudInit"], boot["cloudInitError"] = "error", cut(why, maxFact)
	}
	return boot
}

// systemctl returns the output of systemctl, whose exit status is not 0 for most states.
func systemctl(args ...string) (output, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	var stderr strings.Builder
	command := exec.CommandContext(ctx, "systemctl", args...)
	command.Stderr = &stderr
	var bytes []byte
	var err error
	if !systemdPatience.await(toolTime+time.Second, func() { bytes, err = command.Output() }) {
		return "", "systemctl does not answer"
	}
	if why = strings.TrimSpace(stderr.String()); why == "" && err != nil {
		why = err.Error()
	}
	return strings.TrimSpace(string(bytes)), why
}
