// vproxy-guest is the guest's side of vproxy in a few megabytes: one channel, forwards, announced ports, commands, copies,
// storage calls, facts about the machine, its clock, and freezes of its file systems. It speaks the protocol of
// docs/protocol.md, without TLS and datagrams.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const maxName = 256 // characters

// version is set by the linker.
var version = "0.0.0"

// refusedOptions says what is in effect instead of the service's options, if these were refused: "last", "none", or "".
var refusedOptions string

func main() {
	name := filepath.Base(os.Args[0])
	if name == freezerName {
		os.Exit(runFreezer(os.Args[1:]))
	}
	// Low memory matters more than few collections. Windows bound what streams hold: above a memory limit, the
	// collector would run all the time.
	debug.SetGCPercent(50)
	// Goroutines switch faster on one processor, and they seldom compute.
	runtime.GOMAXPROCS(1)
	if name == "vproxy-storage" || !strings.HasPrefix(name, "vproxy") && isLink(os.Args[0]) {
		os.Exit(callStorage(os.Args))
	}
	if len(os.Args) > 1 && os.Args[1] == "nft" {
		rules, failed := nftUsage, (*failure)(nil)
		if len(os.Args) != 3 || !isWord(os.Args[2], "--help -h") {
			rules, failed = printRules(os.Args[2:])
		}
		if failed != nil {
			fmt.Fprintf(os.Stderr, "vproxy: error: %s\n", failed.message)
			os.Exit(failed.exitStatus())
		}
		fmt.Print(rules)
		return
	}
	o, err := parseOptions(os.Args[1:])
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "vproxy: error: %s\n", err)
		os.Exit(toFailure(err, "bad-argument").exitStatus())
	case o.isHelp:
		fmt.Print(usage())
	case o.isChecked:
		c := newChannel(o.channel, o.name)
		failed := c.readKeys(o.keys)
		if failed == nil {
			failed = toFailure(offer(o, c, newExecService(o.programs), new(freezeService)), "internal")
		}
		if failed != nil {
			fmt.Fprintf(os.Stderr, "vproxy: error: %s\n", failed.message)
			os.Exit(failed.exitStatus())
		}
	case o.isVersion:
		fmt.Printf("vproxy-guest %s (protocol %d)\n", version, protocolVersion)
	default:
		go writeLog()
		failed := run(o)
		if failed != nil {
			logLine(logError, "failed", "%s", failed.message)
		}
		log.Lock() // no line may follow the last one
		close(log.lines)
		select {
		case <-log.written:
		case <-time.After(logTime):
		}
		if failed != nil {
			os.Exit(failed.exitStatus())
		}
	}
}

// isLink reports whether the program was called through a symbolic link; a copy with another name is not a storage utility.
func isLink(name string) bool {
	if found, err := exec.LookPath(name); err == nil {
		name = found
	}
	_, err := os.Readlink(name)
	return err == nil
}

// run serves the channel until a signal, or until it fails for good.
func run(o *options) *failure {
	log.level, log.isJSON = o.logLevel, o.isJSON
	if told := os.Getenv("VPROXY_OPTIONS_REFUSED"); isWord(told, "last none") {
		refusedOptions = told
	}
	for _, variable := range []string{"VPROXY_OPTIONS_REFUSED", "NOTIFY_SOCKET"} { // not for commands
		os.Unsetenv(variable)
	}
	refuseHugePages(1)
	debug.FreeOSMemory() // what was allocated before that
	sealDescriptors()
	if failed := keepCapabilities(); failed != nil {
		return failed
	}
	orphans := adoptOrphans()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// Caught, since commands would inherit an ignored signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	c := newChannel(o.channel, o.name)
	if failed := c.readKeys(o.keys); failed != nil {
		return failed
	}
	commands := newExecService(o.programs)
	freezes := &freezeService{hooks: "/etc/vproxy/freeze.d"}
	if err := offer(o, c, commands, freezes); err != nil {
		return toFailure(err, "internal")
	}
	if o.announced != nil {
		go (&announcer{channel: c, ranges: o.announced}).run()
	}
	for _, path := range o.programs {
		if !exists(path) {
			logLine(logWarn, "exec-missing", "allowed command %s: does not exist", escape(path, maxFact))
		}
	}
	// Keep reaping orphans: a command has ended only once its group has gone.
	stop := func() {
		stopped := make(chan struct{})
		go func() {
			freezes.stop()
			commands.stop()
			close(stopped)
		}()
		for {
			select {
			case <-orphans:
				reapOrphans()
			case <-stopped:
				return
			}
		}
	}
	ended := make(chan *failure, 1)
	go func() { ended <- c.run() }()
	for {
		select {
		case <-orphans:
			reapOrphans()
		case reason := <-ended:
			stop()
			if o.channel.kind != "stdio" || reason.code != "channel-closed" {
				return reason
			}
			logLine(logInfo, "ended", "the other end closed %s", o.channel.text)
			return nil
		case received := <-signals:
			if received != syscall.SIGHUP {
				signal.Reset(syscall.SIGINT, syscall.SIGTERM) // a second one kills
				stop()
				c.stop()
				return nil
			}
			select {
			case c.retry <- struct{}{}:
			default: // it retries anyway
			}
			if failed := c.readKeys(o.keys); failed != nil {
				logLine(logError, "reload-failed", "%s", failed.message)
			}
		}
	}
}

// offer starts the services and listeners of the options, or only checks them. A forward replaces a service of the same name,
// unless an option offers that.
func offer(o *options, c *channel, commands *execService, freezes *freezeService) error {
	risky := map[string]bool{"--allow-exec": o.allowsExec, "--allow-copy": o.copies != nil, "--info": o.allowsInfo,
		"--follow-clock": o.clock != nil, "--allow-freeze": o.allowsFreeze}
	for _, option := range []string{"--allow-exec", "--allow-copy", "--info", "--follow-clock", "--allow-freeze"} {
		if o.channel.kind == "vsock-listen" && len(c.keys) == 0 && !o.isInsecure && risky[option] {
			return failf("bad-argument", `channel "%s": %s: the peer could be any virtual machine of this host; give both `+
				"sides a --key FILE, or this one --insecure", o.channel.text, option)
		}
	}
	leadsToHost := o.channel.leadsToHost()
	if leadsToHost && !o.noInfo || o.allowsInfo {
		c.services["info"] = new(infoService).serve
	}
	if o.allowsExec {
		keepThreads()
		c.services["exec"] = commands.serve
	}
	if o.copies != nil {
		c.services["copy"], c.services["sftp"] = o.copies.serve, (&sftpService{copies: o.copies}).serve
	}
	if o.clock != nil {
		c.services["clock"] = o.clock.serve
	}
	if o.allowsFreeze {
		c.services["freeze"] = freezes.serve
	}
	needsStorage := !o.noStorage && (leadsToHost || o.storageSocket != "")
	isNamed := map[string]bool{"info": o.allowsInfo}
	for _, f := range o.incoming {
		if isNamed[f.service] {
			return failf("bad-argument", "service %s is offered twice", f.service)
		}
		if o.announced != nil && portServices.MatchString(f.service) {
			return failf("bad-argument", "-i %s: not allowed with --announce-ports, which names its services port.NUMBER",
				f.service)
		}
		isNamed[f.service], c.services[f.service] = true, f.serve
		needsStorage = needsStorage && f.service != storageName
	}
	if o.isChecked {
		return nil
	}
	for _, f := range o.outgoing {
		needsStorage = needsStorage && f.service != storageName
		if err := f.listen(c); err != nil {
			return err
		}
	}
	if needsStorage {
		b := &broker{channel: c, attached: map[*emulator]bool{}}
		c.services[storageName] = b.attach
		return b.listen(o.storageSocket)
	}
	return nil
}

// options are the options of the command line.
type options struct {
	channel                                                      *channelSpec
	incoming, outgoing                                           []*forward
	name, storageSocket                                          string
	keys                                                         []string
	copies                                                       *copyService // nil: not allowed
	clock                                                        *clockService
	programs                                                     []string // that the peer may run; nil: any
	logLevel                                                     int
	isJSON                                                       bool
	allowsExec, allowsInfo, noInfo, noStorage, isHelp, isVersion bool
	isInsecure, allowsFreeze, isChecked                          bool
	announced                                                    []portRange
}

// option is an option, which vproxy has, too.
type option struct {
	names, value string // long and short; the value's name in the help, in brackets if it is optional, or ""
	isMany       bool
	help         string
	set          func(value string) error
}

// table returns all options, which set fields of o.
func (o *options) table() []option {
	yes := func(to *bool) func(string) error { return func(string) error { *to = true; return nil } }
	level := func(level int) func(string) error { return func(string) error { o.logLevel = level; return nil } }
	forwards := func(letter string, to *[]*forward) func(string) error {
		return func(value string) error {
			f, err := parseForward(letter, value)
			*to = append(*to, f)
			return err
		}
	}
	return []option{
		{"channel c", "CHANNEL", true, "channel (required): KIND:ADDRESS[,key=value...], of the kinds below", o.setChannel},
		{"outgoing o", "FORWARD", true,
			"listen here for the peer's SERVICE: SERVICE:[redirect:|udp:][ADDR:]PORT or SERVICE:/path[,mode=0660]",
			forwards("-o", &o.outgoing)},
		{"incoming i", "FORWARD", true, "offer SERVICE to the peer: SERVICE:[ADDR:]PORT or SERVICE:/path",
			forwards("-i", &o.incoming)},
		{"name", "TEXT", false, "name of this side, shown to the peer",
			func(value string) error { o.name = value; return nil }},
		{"key", "FILE", true, "file with a key that the peer must have too; vproxy genkey makes one",
			func(value string) error { o.keys = append(o.keys, value); return nil }},
		{"allow-exec", "[=/PATH,...]", false, "let the peer run commands here, with =/PATH only these programs", o.setPrograms},
		{"allow-copy", "[=/DIR]", false, "let the peer copy files here and from here, with =/DIR only in that folder",
			o.setCopies},
		{"allow-freeze", "", false, "let the peer freeze file systems here, for a snapshot", yes(&o.allowsFreeze)},
		{"insecure", "", false, "let any machine that reaches vsock-listen run commands, copy or ask, without a key",
			yes(&o.isInsecure)},
		{"info", "", false, "let the peer ask about this machine, even if the peer is not a host", yes(&o.allowsInfo)},
		{"no-info", "", false, "never let the peer ask about this machine [default: a host may]", yes(&o.noInfo)},
		{"follow-clock", "[=THRESHOLD][,back=TIME]", false,
			"set this machine's clock to the peer's, and take random numbers after a restore [default: 1s,back=24h]", o.setClock},
		{"reseed", "", false, "take random numbers from the peer after a restore, and leave the clock alone", o.setReseed},
		{"announce-ports", "RANGE[,RANGE...]", false, "announce the listening TCP ports of these ranges to the peer",
			func(value string) (err error) { o.announced, err = parsePortRanges(value); return err }},
		{"storage-socket", "PATH", false, "path of the storage broker's socket; runs the broker on any kind of channel",
			func(value string) (err error) { o.storageSocket, err = parsePath(value); return err }},
		{"no-storage", "", false, "never run the storage broker", yes(&o.noStorage)},
		{"log-format", "FORMAT", false, "text or json: how the log is written [default: text]", o.setLogFormat},
		{"verbose v", "", true, "log every stream and call", level(logDebug)},
		{"quiet q", "", true, "log only warnings and errors", level(logWarn)},
		{"print-config", "", false, "check the options and keys, and exit", yes(&o.isChecked)},
		{"version V", "", true, "show the version", yes(&o.isVersion)},
		{"help h", "", true, "show this help", yes(&o.isHelp)},
	}
}

func (o *options) setChannel(value string) (err error) {
	if o.channel != nil {
		return failf("bad-argument", "-c: vproxy-guest has one channel; use vproxy for several")
	}
	o.channel, err = parseChannel(value)
	return err
}

// setPrograms allows commands: any, or these programs with any arguments.
func (o *options) setPrograms(list string) error {
	o.allowsExec = true
	if list == "" {
		return nil
	}
	o.programs = strings.Split(list, ",")
	for _, path := range o.programs {
		if !filepath.IsAbs(path) {
			return failf("bad-argument", `--allow-exec: "%s" is not the absolute path of a program, such as /usr/bin/uname`,
				escape(path, 256))
		}
	}
	return nil
}

func (o *options) setLogFormat(format string) error {
	o.isJSON = format == "json"
	if !isWord(format, "json text") {
		return failf("bad-argument", `--log-format: "%s" is neither text nor json`, escape(format, 64))
	}
	return nil
}

// readVariables reads the environment variables of options that are not given. An empty one counts as unset.
func (o *options) readVariables(table []option, given map[string]int) error {
	for variable, names := range map[string]string{"VPROXY_CHANNEL": "channel c", "VPROXY_NAME": "name", "VPROXY_KEY": "key",
		"VPROXY_LOG_FORMAT": "log-format"} {
		value := os.Getenv(variable)
		for _, each := range table {
			if value == "" || given[names] > 0 || each.names != names {
				continue
			}
			if failed := toFailure(each.set(value), "bad-argument"); failed != nil {
				return failf(failed.code, "%s: %s", variable, strings.TrimPrefix(failed.message, "--log-format: "))
			}
		}
	}
	level := os.Getenv("VPROXY_LOG_LEVEL")
	if level == "" || given["quiet q"]+given["verbose v"] > 0 {
		return nil
	}
	if o.logLevel = indexOf(level, levelNames); o.logLevel < 0 {
		return failf("bad-argument", `VPROXY_LOG_LEVEL: "%s" is not a log level`, escape(level, 64))
	}
	return nil
}

func usage() string {
	text := "Usage: vproxy-guest -c CHANNEL [-o FORWARD]... [-i FORWARD]... [options]\n\n" +
		"Runs the guest's side of a channel, with these options of vproxy. For all others use vproxy.\n\n"
	for _, each := range new(options).table() {
		long, letter, hasLetter := strings.Cut(each.names, " ")
		letter = "-" + letter + ", "
		if !hasLetter {
			letter = "    "
		}
		text += fmt.Sprintf("  %s--%-24s %s\n", letter, strings.Replace(long+" "+each.value, " [", "[", 1), each.help)
	}
	return text +
		"\n" + nftUsage +
		"\nChannels: virtserial-open:NAME or /path, tty-open:/path[,baud=N], unix-connect:/path, unix-listen:/path,\n" +
		"vsock-connect:CID:PORT, vsock-listen:PORT, stdio:\n\n" +
		"Called through a link of another name, such as storcli64, it makes a storage call.\n"
}

func parseOptions(args []string) (*options, error) {
	o, given := &options{logLevel: logInfo}, map[string]int{}
	table := o.table()
	for len(args) > 0 {
		name, value, hasValue := args[0], "", false
		args = args[1:]
		switch {
		case strings.HasPrefix(name, "--") && len(name) > 3:
			name, value, hasValue = strings.Cut(name, "=")
		case len(name) > 1 && name[0] == '-':
			name, value, hasValue = name[:2], name[2:], len(name) > 2
		default:
			return nil, failf("bad-argument", `"%s": no such command; vproxy-guest has only nft, see --help`, escape(name, 128))
		}
		var each *option
		for index := range table {
			if isWord(strings.TrimLeft(name, "-"), table[index].names) {
				each = &table[index]
			}
		}
		isOptional := each != nil && strings.HasPrefix(each.value, "[")
		switch {
		case each == nil:
			return nil, failf("bad-argument", "%s: unknown option; see --help, or use vproxy, which has more",
				escape(name, 64))
		case each.value == "" && hasValue && len(name) == 2: // combined letters, such as -vv
			args = append([]string{"-" + value}, args...)
		case each.value == "" && hasValue:
			return nil, failf("bad-argument", "%s: takes no value", name)
		case isOptional && hasValue && value == "":
			return nil, failf("bad-argument", "%s: empty value", name)
		case each.value == "" || hasValue || isOptional:
		case len(args) == 0 || len(args[0]) > 1 && args[0][0] == '-':
			return nil, failf("bad-argument", "%s: missing value; expected %s", name, each.help)
		default:
			value, args = args[0], args[1:]
		}
		given[each.names]++
		if given[each.names] > 1 && !each.isMany {
			return nil, failf("bad-argument", "%s: given %d times (max 1)", name, given[each.names])
		}
		if err := each.set(value); err != nil {
			return nil, err
		}
	}
	if !o.isHelp && !o.isVersion {
		if err := o.readVariables(table, given); err != nil {
			return nil, err
		}
	}
	switch {
	case o.isHelp || o.isVersion:
	case given["quiet q"] > 0 && given["verbose v"] > 0:
		return nil, failf("bad-argument", "-q: not allowed with -v")
	case given["info"] > 0 && given["no-info"] > 0:
		return nil, failf("bad-argument", "--no-info: not allowed with --info")
	case given["storage-socket"] > 0 && given["no-storage"] > 0:
		return nil, failf("bad-argument", "--no-storage: not allowed with --storage-socket")
	case utf8.RuneCountInString(o.name) > maxName:
		return nil, failf("bad-argument", "--name: too long: %d characters (max %d)", utf8.RuneCountInString(o.name), maxName)
	case o.channel == nil:
		return nil, failf("bad-argument",
			"no channel; give one with -c, such as -c virtserial-open:org.vproxy.0 (see --help)")
	}
	return o, nil
}
