package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// node is one libp2p host of this process.
type node struct {
	host     host.Host
	key      crypto.PrivKey
	dht      *dht.IpfsDHT // nil when off
	counters counters

	mu           sync.Mutex
	identified   map[peer.ID]event.EvtPeerIdentificationCompleted
	heard        map[peer.ID]bool // by multicast
	announced    []ma.Multiaddr   // besides what the library announces by itself
	relays       []peer.AddrInfo  // to hold reservations with
	punches      []reply
	reachability network.Reachability
	verdicts     event.EvtHostReachableAddrsChanged
}

func makeKey(o *options, i int) (crypto.PrivKey, error) {
	seed := make([]byte, 32)
	rand.Read(seed)
	if o.seed != "" {
		s := sha256.Sum256([]byte(fmt.Sprintf("warren-test-key:%s:%d", o.seed, i)))
		seed = s[:]
	}
	switch o.key {
	case "ed25519":
		return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	case "secp256k1":
		return crypto.UnmarshalSecp256k1PrivateKey(seed)
	case "rsa":
		k, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
		return k, err
	case "ecdsa":
		k, _, err := crypto.GenerateECDSAKeyPair(rand.Reader)
		return k, err
	}
	return nil, unsupported("no keys of type " + o.key)
}

// liftedLimits takes away every bound of the resource manager, per-IP ones included.
func liftedLimits() ([]libp2p.Option, error) {
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: math.MaxInt}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: math.MaxInt}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{}))
	if err != nil {
		return nil, err
	}
	return []libp2p.Option{libp2p.ResourceManager(rm), libp2p.ConnectionManager(connmgr.NullConnMgr{})}, nil
}

func makeNode(o *options, i int) (*node, error) {
	key, err := makeKey(o, i)
	if err != nil {
		return nil, err
	}
	h := &node{key: key, identified: map[peer.ID]event.EvtPeerIdentificationCompleted{}, heard: map[peer.ID]bool{}}
	opts, err := h.natOptions(o)
	if err != nil {
		return nil, err
	}
	opts = append(opts, libp2p.Identity(key), libp2p.DisableMetrics())
	if len(o.listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	}
	for _, l := range o.listen {
		l = strings.ReplaceAll(l, "{h}", fmt.Sprint(1+i/250))
		l = strings.ReplaceAll(l, "{l}", fmt.Sprint(1+i%250))
		opts = append(opts, libp2p.ListenAddrStrings(l))
	}
	if o.transport != "tcp" {
		opts = append(opts, libp2p.Transport(quic.NewTransport))
		if *retry {
			opts = append(opts, retryOption())
		}
	}
	if o.transport != "quic" {
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport), libp2p.Muxer(yamux.ID, yamux.DefaultTransport))
	}
	if o.security == "tls" {
		opts = append(opts, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	} else {
		opts = append(opts, libp2p.Security(noise.ID, noise.New))
	}
	if o.psk != "" {
		text, err := os.ReadFile(o.psk)
		if err != nil {
			return nil, err
		}
		psk, err := pnet.DecodeV1PSK(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2p.PrivateNetwork(psk))
	}
	if o.agent != "" {
		opts = append(opts, libp2p.UserAgent(o.agent))
	}
	if o.limits == "lifted" {
		lifted, err := liftedLimits()
		if err != nil {
			return nil, err
		}
		opts = append(opts, lifted...)
	}

	if h.host, err = libp2p.New(opts...); err != nil {
		return nil, err
	}
	if err = h.watchIdentify(); err != nil {
		return nil, err
	}
	if err = h.watchReachability(); err != nil {
		return nil, err
	}
	h.host.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(network.Network, network.Conn) { h.counters.ConnsOpened.Add(1) },
		DisconnectedF: func(network.Network, network.Conn) { h.counters.ConnsClosed.Add(1) },
	})
	h.serve()
	if o.mdns {
		if err = mdns.NewMdnsService(h.host, "", h).Start(); err != nil {
			return nil, err
		}
	}
	if o.dht != "off" {
		mode := dht.ModeServer
		if o.dht == "client" {
			mode = dht.ModeClient
		}
		h.dht, err = dht.New(h.host, dht.Mode(mode), dht.ProtocolPrefix(protocol.ID(o.dhtPrefix)))
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

func makeNodes(o *options) ([]*node, error) {
	var nodes []*node
	for i := 0; i < o.hosts; i++ {
		h, err := makeNode(o, i)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, h)
	}
	return nodes, nil
}

func (h *node) listenAddrs() []string {
	out := []string{}
	for _, a := range h.host.Network().ListenAddresses() {
		out = append(out, a.String())
	}
	return out
}

// watchIdentify keeps what the library's own identify round with each peer gave.
func (h *node) watchIdentify() error {
	sub, err := h.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(4096))
	if err != nil {
		return err
	}
	go func() {
		for e := range sub.Out() {
			ev := e.(event.EvtPeerIdentificationCompleted)
			h.mu.Lock()
			h.identified[ev.Peer] = ev
			h.mu.Unlock()
		}
	}()
	return nil
}

// waitIdentify returns the identify result for the newest connection to p.
func (h *node) waitIdentify(ctx context.Context, p peer.ID) (ev event.EvtPeerIdentificationCompleted, err error) {
	conns := h.host.Network().ConnsToPeer(p)
	if len(conns) == 0 {
		return ev, fmt.Errorf("not connected to %s", p)
	}
	ids := h.host.(interface{ IDService() identify.IDService }).IDService()
	select {
	case <-ids.IdentifyWait(conns[len(conns)-1]):
	case <-ctx.Done():
		return ev, fmt.Errorf("identify did not finish: %w", ctx.Err())
	}
	for wait := time.Now().Add(2 * time.Second); time.Now().Before(wait); time.Sleep(time.Millisecond) {
		h.mu.Lock()
		ev, ok := h.identified[p]
		h.mu.Unlock()
		if ok {
			return ev, nil
		}
	}
	return ev, fmt.Errorf("identify with %s failed", p)
}

// HandlePeerFound is called by mdns.
func (h *node) HandlePeerFound(info peer.AddrInfo) {
	h.mu.Lock()
	h.heard[info.ID] = true
	h.mu.Unlock()
	h.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
}

// join dials a bootstrap node and waits until it is in the routing table.
func (h *node) join(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := h.dial(ctx, addr)
	if err != nil || h.dht == nil {
		return err
	}
	for end := time.Now().Add(bootstrapWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if h.dht.RoutingTable().Size() > 0 {
			return nil
		}
	}
	// identify or the check for the routing table failed, which is not tried again on the same connection
	return errors.Join(errors.New("connected, but it did not enter the routing table"), h.host.Network().ClosePeer(c.RemotePeer()))
}

func (h *node) bootstrap(addrs []string) {
	for _, a := range addrs {
		for try := 0; try < 60; try++ {
			err := h.join(a)
			if err == nil {
				break
			}
			fmt.Fprintf(os.Stderr, "bootstrap %s: %v\n", a, err)
			time.Sleep(time.Second)
		}
	}
	if h.dht != nil && len(addrs) > 0 {
		<-h.dht.ForceRefresh()
	}
}

// dial opens a connection to exactly the given address, /p2p/ID included.
func (h *node) dial(ctx context.Context, addr string) (network.Conn, error) {
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return nil, err
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return nil, err
	}
	if sw, ok := h.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(info.ID)
	}
	h.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	return h.host.Network().DialPeer(ctx, info.ID)
}
