// A test peer on go-libp2p: see ../README.md for the contract.
// This file: flags, the JSON line loop and the table of commands.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3

	bootstrapGap  = 250 * time.Millisecond // between the starts of two hosts' bootstrap
	bootstrapWait = 10 * time.Second       // for the dialled node to enter the routing table
)

type options struct {
	listen    []string
	hosts     int
	key       string
	seed      string
	dht       string
	dhtPrefix string
	bootstrap []string
	limits    string
	psk       string
	transport string
	security  string
	mdns      bool
	agent     string
	record    string

	relay       bool
	relayLimits string
	circuit     bool
	dcutr       bool
	autonat     string
	reach       string
	announce    []string
}

type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, ",") }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

func die(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(code)
}

func oneOf(flagName, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	die(exitUsage, "--%s is one of %s, not %q", flagName, strings.Join(allowed, ", "), value)
}

func parseOptions() options {
	var o options
	flag.Var((*repeated)(&o.listen), "listen", "address to listen on, repeatable, or none")
	flag.IntVar(&o.hosts, "hosts", 1, "number of hosts")
	flag.StringVar(&o.key, "key", "ed25519", "key type")
	flag.StringVar(&o.seed, "seed", "", "number that keys are derived from")
	flag.StringVar(&o.dht, "dht", "off", "server, client or off")
	flag.StringVar(&o.dhtPrefix, "dht-prefix", "/ipfs", "DHT protocol prefix")
	flag.Var((*repeated)(&o.bootstrap), "bootstrap", "address with /p2p/ID, repeatable")
	flag.StringVar(&o.limits, "limits", "lifted", "default or lifted")
	flag.StringVar(&o.psk, "psk", "", "private network key file")
	flag.StringVar(&o.transport, "transport", "tcp", "tcp, quic or both")
	flag.StringVar(&o.security, "security", "noise", "noise or tls")
	flag.BoolVar(&o.mdns, "mdns", false, "multicast DNS discovery")
	flag.StringVar(&o.agent, "agent", "", "identify agent version")
	flag.StringVar(&o.record, "signed-record", "default", "default or legacy")
	flag.BoolVar(&o.relay, "relay", false, "serve as a relay")
	flag.StringVar(&o.relayLimits, "relay-limits", "", "NAME=VALUE,...")
	flag.BoolVar(&o.circuit, "circuit", false, "dial and listen through relays")
	flag.BoolVar(&o.dcutr, "dcutr", false, "hole punching")
	flag.StringVar(&o.autonat, "autonat", "", "v1 and v2, separated by a comma")
	flag.StringVar(&o.reach, "reach", "", "public, private or auto")
	flag.Var((*repeated)(&o.announce), "announce", "address to announce besides, repeatable")
	flag.Parse()
	if flag.NArg() > 0 {
		die(exitUsage, "unexpected argument %q", flag.Arg(0))
	}
	oneOf("key", o.key, "ed25519", "rsa", "ecdsa", "secp256k1")
	oneOf("dht", o.dht, "server", "client", "off")
	oneOf("limits", o.limits, "default", "lifted")
	oneOf("transport", o.transport, "tcp", "quic", "both")
	oneOf("reach", o.reach, "", "public", "private", "auto")
	oneOf("security", o.security, "noise", "tls")
	oneOf("signed-record", o.record, "default", "legacy")
	if o.record == "legacy" {
		die(exitUnsupported, "go-libp2p makes no legacy signed records")
	}
	if o.hosts < 1 {
		die(exitUsage, "--hosts is at least 1")
	}
	if len(o.listen) == 0 {
		o.listen = []string{"/ip4/127.0.0.1/tcp/0"}
		switch o.transport {
		case "quic":
			o.listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
		case "both":
			o.listen = append(o.listen, "/ip4/127.0.0.1/udp/0/quic-v1")
		}
	}
	if len(o.listen) == 1 && o.listen[0] == "none" {
		o.listen = nil
	}
	return o
}

// request is the union of all commands' arguments.
type request struct {
	N        int64  `json:"n"`
	Cmd      string `json:"cmd"`
	Host     int    `json:"host"`
	Timeout  int64  `json:"timeout"`
	Addr     string `json:"addr"`
	Peer     string `json:"peer"`
	Count    int    `json:"count"`
	Streams  int    `json:"streams"`
	Bytes    *int64 `json:"bytes"`
	Hold     bool   `json:"hold"`
	Chunk    int    `json:"chunk"`
	Pause    int64  `json:"pause"`
	Pings    int    `json:"pings"`
	Up       int64  `json:"up"`
	Down     int64  `json:"down"`
	Key      string `json:"key"`
	Value    string `json:"value"`
	Cid      string `json:"cid"`
	Ns       string `json:"ns"`
	Parallel int    `json:"parallel"`
}

type reply map[string]any

type unsupported string

func (u unsupported) Error() string { return string(u) }

type command func(ctx context.Context, h *node, q *request) (reply, error)

var commands = map[string]command{
	"connect": cmdConnect, "disconnect": cmdDisconnect, "peers": cmdPeers, "identify": cmdIdentify,
	"ping": cmdPing, "echo": cmdEcho, "sink": cmdSink, "source": cmdSource, "slow": cmdSlow,
	"reset": cmdReset, "reset-out": cmdResetOut, "wrongid": cmdWrongID, "perf": cmdPerf,
	"key": cmdKey, "counters": cmdCounters, "gc": cmdGC,

	"dht-refresh": cmdDhtRefresh, "dht-table": cmdDhtTable, "dht-closest": cmdDhtClosest,
	"dht-query": cmdDhtQuery, "dht-find-peer": cmdDhtFindPeer, "dht-provide": cmdDhtProvide,
	"dht-find-providers": cmdDhtFindProviders, "dht-put": cmdDhtPut, "dht-get": cmdDhtGet,
	"advertise": cmdAdvertise, "find-ns": cmdFindNs, "mdns-peers": cmdMdnsPeers,

	"reserve": cmdReserve, "nat": cmdNat, "addrs": cmdAddrs, "punches": cmdPunches, "known": cmdKnown,
	"announce": cmdAnnounce,

	"bench-conns": cmdBenchConns, "bench-streams": cmdBenchStreams, "bench-ping": cmdBenchPing,
	"bench-findnode": cmdBenchFindnode, "hold": nil, // hold needs the list of all hosts
}

var outLock sync.Mutex

func emit(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		die(exitFailed, "cannot encode a reply: %v", err)
	}
	outLock.Lock()
	defer outLock.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func run(nodes []*node, q *request) (r reply, err error) {
	if q.Host < 0 || q.Host >= len(nodes) {
		return nil, fmt.Errorf("there is no host %d", q.Host)
	}
	timeout := 30 * time.Second
	if q.Timeout > 0 {
		timeout = time.Duration(q.Timeout) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if q.Cmd == "hold" {
		return cmdHold(ctx, nodes, q)
	}
	c := commands[q.Cmd]
	if c == nil {
		return nil, unsupported("unknown command " + q.Cmd)
	}
	return c(ctx, nodes[q.Host], q)
}

func answer(nodes []*node, q *request) {
	r, err := run(nodes, q)
	if r == nil {
		r = reply{}
	}
	r["n"] = q.N
	r["ok"] = err == nil
	if err != nil {
		r["error"] = err.Error()
		var u unsupported
		if errors.As(err, &u) {
			r["unsupported"] = true
		}
	}
	emit(r)
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return strings.TrimPrefix(d.Version, "v")
		}
	}
	return ""
}

func main() {
	o := parseOptions()
	if o.limits == "lifted" {
		os.Setenv("LIBP2P_SWARM_FD_LIMIT", "100000")
	}
	nodes, err := makeNodes(&o)
	if err != nil {
		var u unsupported
		if errors.As(err, &u) {
			die(exitUnsupported, "%v", err)
		}
		die(exitFailed, "%v", err)
	}

	var hosts []reply
	for _, h := range nodes {
		hosts = append(hosts, reply{"id": h.host.ID().String(), "addrs": h.listenAddrs()})
	}
	ready := reply{"event": "ready", "impl": "go", "version": moduleVersion("github.com/libp2p/go-libp2p"),
		"dht": nil, "hosts": hosts}
	if o.dht != "off" {
		ready["dht"] = o.dhtPrefix + "/kad/1.0.0"
	}
	emit(ready)
	for i, h := range nodes {
		time.AfterFunc(time.Duration(i)*bootstrapGap, func() { h.bootstrap(o.bootstrap) })
	}

	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-sigs; os.Exit(0) }()

	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(strings.TrimSpace(string(line))) > 0 {
			q := new(request)
			if jerr := json.Unmarshal(line, q); jerr != nil {
				emit(reply{"n": q.N, "ok": false, "error": "bad request: " + jerr.Error()})
			} else {
				go answer(nodes, q)
			}
		}
		if err != nil {
			os.Exit(0)
		}
	}
}
