// vproxy-guest is the guest's side of vproxy in a few megabytes: one channel, forwards, commands, storage calls and
// facts about the machine. It speaks the protocol of docs/protocol.md, without resuming, TLS and datagrams.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// version is that of the package, set when it is built.
var version = "0.0.0"

func main() {
	// Little memory matters more than few collections. Above the limit, which is soft, memory goes back to the system
	// at once.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(32 << 20)
	// Goroutines hand over to each other faster on one processor, and they seldom compute.
	runtime.GOMAXPROCS(1)
	if name := filepath.Base(os.Args[0]); !strings.HasPrefix(name, "vproxy") || name == "vproxy-storage" {
		os.Exit(callStorage(os.Args))
	}
	o, err := parseOptions(os.Args[1:])
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "vproxy: error: %s\n", err)
		os.Exit(toFailure(err, "bad-argument").exitStatus())
	case o.isHelp:
		fmt.Print(usage())
	case o.isVersion:
		fmt.Printf("vproxy-guest %s (protocol %d)\n", version, protocolVersion)
	default:
		go writeLog()
		failed := run(o)
		if failed != nil {
			logLine(logError, "%s", failed.message)
		}
		flushLog()
		if failed != nil {
			os.Exit(failed.exitStatus())
		}
	}
}

// run serves the channel until a signal, or until it can never work again.
func run(o *options) *failure {
	if o.isQuiet {
		log.level = logWarn
	} else if o.verbose > 0 {
		log.level = logDebug
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// Not ignored: commands would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	keys := &keyring{files: o.keys}
	if failed := keys.read(); failed != nil {
		return failed
	}
	c := &channel{spec: o.channel, instance: newNonce(), name: o.name, keys: keys.current,
		services: map[string]func(*stream){}, servicesChanged: func([]string) {}, changed: make(chan struct{}),
		links: map[*link]bool{}}
	commands := &execService{programs: o.programs, calls: map[*execCall]bool{}}
	if err := offer(o, c, commands); err != nil {
		return toFailure(err, "internal")
	}
	for _, f := range o.outgoing {
		if err := f.listen(c); err != nil {
			return toFailure(err, "internal")
		}
	}
	ended := make(chan *failure, 1)
	go func() { ended <- c.run() }()
	for {
		select {
		case reason := <-ended:
			commands.stop()
			if o.channel.kind != "stdio" || reason.code != "channel-closed" {
				return reason
			}
			logLine(logInfo, "the other end closed %s", o.channel.text)
			return nil
		case received := <-signals:
			if received != syscall.SIGHUP {
				go func() {
					<-signals
					os.Exit(1)
				}()
				commands.stop()
				c.stop()
				return nil
			}
			if failed := keys.read(); failed != nil {
				logLine(logError, "%s", failed.message)
			}
		}
	}
}

// offer starts the services that the options ask for. A forward of the same name replaces one of vproxy's own.
func offer(o *options, c *channel, commands *execService) error {
	isNamed := map[string]bool{}
	for _, f := range o.incoming {
		if isNamed[f.service] {
			return failf("bad-argument", "service %s is offered twice", f.service)
		}
		isNamed[f.service], c.services[f.service] = true, f.serve
	}
	if o.allowsExec && !isNamed["exec"] {
		c.services["exec"] = commands.serve
	}
	if o.info == nil && o.channel.leadsToHost() && !isNamed["info"] || o.info != nil && *o.info {
		c.services["info"] = new(infoService).serve
	}
	for _, f := range o.outgoing {
		isNamed[f.service] = true
	}
	if o.noStorage || isNamed[storageName] || !o.channel.leadsToHost() && o.storageSocket == "" {
		return nil
	}
	b := &broker{vm: o.name, calls: make(chan *storageCall), turn: make(chan struct{}, 1), changed: make(chan struct{}),
		open: func() (*stream, *failure) { return c.open(storageName, "", 0) }}
	c.services[storageName] = b.attach
	c.servicesChanged = func(services []string) {
		b.setPeer(func() { b.isOffered = isAmong(storageName, services) })
	}
	return b.listen(o.storageSocket, c)
}
