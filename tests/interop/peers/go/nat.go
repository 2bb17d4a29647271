package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

const relayWait = 200 * time.Millisecond // between two looks of AutoRelay at the relays it was given

// relayResources reads --relay-limits: the library's own, with what the flag names in their place.
func relayResources(text string) (relay.Resources, error) {
	rc := relay.DefaultResources()
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(pair, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return rc, fmt.Errorf("--relay-limits %s: %w", pair, err)
		}
		switch name {
		case "duration":
			rc.Limit.Duration = time.Duration(n) * time.Second
		case "data":
			rc.Limit.Data = n
		case "reservations":
			rc.MaxReservations, rc.MaxReservationsPerIP, rc.MaxReservationsPerASN = int(n), int(n), int(n)
		case "circuits":
			rc.MaxCircuits = int(n)
		case "ttl":
			rc.ReservationTTL = time.Duration(n) * time.Second
		default:
			return rc, fmt.Errorf("--relay-limits has no %q", name)
		}
	}
	if rc.Limit.Duration == 0 && rc.Limit.Data == 0 {
		rc.Limit = nil
	}
	return rc, nil
}

// natOptions are those of reachability, relays and hole punching.
func (h *node) natOptions(o *options) ([]libp2p.Option, error) {
	var opts []libp2p.Option
	if o.circuit || o.dcutr {
		opts = append(opts, libp2p.EnableRelay(), libp2p.EnableAutoRelayWithPeerSource(h.relaySource,
			autorelay.WithMinCandidates(1), autorelay.WithBootDelay(0), autorelay.WithMinInterval(relayWait)))
	} else {
		opts = append(opts, libp2p.DisableRelay())
	}
	if o.dcutr {
		opts = append(opts, libp2p.EnableHolePunching(holepunch.WithTracer(h)))
	}
	if o.relay {
		rc, err := relayResources(o.relayLimits)
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2p.EnableRelayService(relay.WithResources(rc)))
	}
	if o.limits == "lifted" {
		// A host that has not yet dialled five others over UDP takes it for blocked and refuses to dial back.
		opts = append(opts, libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil))
	}
	switch {
	case o.reach == "public" || o.reach == "" && o.relay:
		opts = append(opts, libp2p.ForceReachabilityPublic())
	case o.reach == "private":
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	}
	for _, version := range strings.FieldsFunc(o.autonat, func(r rune) bool { return r == ',' }) {
		switch version {
		case "v1":
			opts = append(opts, libp2p.EnableNATService())
			if o.limits == "lifted" {
				opts = append(opts, libp2p.AutoNATServiceRateLimit(math.MaxInt32, math.MaxInt32, time.Minute))
			}
		case "v2":
			opts = append(opts, libp2p.EnableAutoNATv2())
		default:
			return nil, fmt.Errorf("--autonat has no %q", version)
		}
	}
	for _, text := range o.announce {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, err
		}
		h.announced = append(h.announced, a)
	}
	return append(opts, libp2p.AddrsFactory(h.announceAddrs)), nil
}

func (h *node) announceAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return ma.Unique(append(append([]ma.Multiaddr{}, addrs...), h.announced...))
}

// relaySource is where AutoRelay gets its candidates: the relays that reserve was told of.
func (h *node) relaySource(ctx context.Context, count int) <-chan peer.AddrInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := make(chan peer.AddrInfo, len(h.relays))
	for _, info := range h.relays {
		found <- info
	}
	close(found)
	return found
}

// Trace is called by hole punching.
func (h *node) Trace(e *holepunch.Event) {
	p := reply{"peer": e.Remote.String(), "what": e.Type}
	switch ev := e.Evt.(type) {
	case *holepunch.DirectDialEvt:
		p["what"], p["ok"], p["ms"], p["error"] = "dial", ev.Success, ms(ev.EllapsedTime), ev.Error
	case *holepunch.StartHolePunchEvt:
		p["what"], p["addrs"], p["rtt"] = "start", ev.RemoteAddrs, ms(ev.RTT)
	case *holepunch.HolePunchAttemptEvt:
		p["what"], p["attempt"] = "attempt", ev.Attempt
	case *holepunch.EndHolePunchEvt:
		p["what"], p["ok"], p["ms"], p["error"] = "punch", ev.Success, ms(ev.EllapsedTime), ev.Error
	case *holepunch.ProtocolErrorEvt:
		p["what"], p["ok"], p["error"] = "protocol", false, ev.Error
	}
	h.mu.Lock()
	h.punches = append(h.punches, p)
	h.mu.Unlock()
}

// watchReachability keeps the last verdicts.
func (h *node) watchReachability() error {
	sub, err := h.host.EventBus().Subscribe(
		[]any{new(event.EvtLocalReachabilityChanged), new(event.EvtHostReachableAddrsChanged)}, eventbus.BufSize(256))
	if err != nil {
		return err
	}
	go func() {
		for e := range sub.Out() {
			h.mu.Lock()
			switch ev := e.(type) {
			case event.EvtLocalReachabilityChanged:
				h.reachability = ev.Reachability
			case event.EvtHostReachableAddrsChanged:
				h.verdicts = ev
			}
			h.mu.Unlock()
		}
	}()
	return nil
}

// cmdReserve asks once by itself, to see the answer; AutoRelay then has and keeps a reservation of its own.
func cmdReserve(ctx context.Context, h *node, q *request) (reply, error) {
	info, err := peer.AddrInfoFromString(q.Addr)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if _, err = h.dial(ctx, q.Addr); err != nil {
		return nil, err
	}
	rsvp, err := client.Reserve(ctx, h.host, *info)
	if err != nil {
		var refused client.ReservationError
		if errors.As(err, &refused) {
			return reply{"status": int(refused.Status)}, err
		}
		return nil, err
	}
	h.mu.Lock()
	h.relays = append(h.relays, *info)
	h.mu.Unlock()
	r := reply{"relay": info.ID.String(), "ms": since(start), "expire": rsvp.Expiration.Unix(), "status": 100,
		"addrs": addrTexts(rsvp.Addrs), "voucher": "absent", "limitSeconds": nil, "limitBytes": nil}
	if rsvp.Voucher != nil { // the library has checked its signature, signer and peer
		r["voucher"], r["voucherExpire"] = "verified", rsvp.Voucher.Expiration.Unix()
	}
	if rsvp.LimitDuration != 0 || rsvp.LimitData != 0 {
		r["limitSeconds"], r["limitBytes"] = int64(rsvp.LimitDuration.Seconds()), rsvp.LimitData
	}
	return r, nil
}

func cmdNat(_ context.Context, h *node, _ *request) (reply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	addrs := []reply{}
	add := func(list []ma.Multiaddr, verdict string) {
		for _, a := range list {
			addrs = append(addrs, reply{"addr": a.String(), "verdict": verdict})
		}
	}
	add(h.verdicts.Reachable, "reachable")
	add(h.verdicts.Unreachable, "unreachable")
	add(h.verdicts.Unknown, "unknown")
	return reply{"reachability": strings.ToLower(h.reachability.String()), "addrs": addrs}, nil
}

func cmdAddrs(_ context.Context, h *node, _ *request) (reply, error) {
	return reply{"addrs": addrTexts(h.host.Addrs())}, nil
}

func cmdPunches(_ context.Context, h *node, _ *request) (reply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return reply{"punches": append([]reply{}, h.punches...)}, nil
}

// cmdKnown tells what identify and its pushes taught of a peer.
func cmdKnown(_ context.Context, h *node, q *request) (reply, error) {
	p, err := peer.Decode(q.Peer)
	if err != nil {
		return nil, err
	}
	protos, err := h.host.Peerstore().GetProtocols(p)
	if err != nil {
		return nil, err
	}
	return reply{"addrs": addrTexts(h.host.Peerstore().Addrs(p)), "protocols": protos}, nil
}

// cmdAnnounce adds an address; the library notices within its own 5 s and pushes.
func cmdAnnounce(ctx context.Context, h *node, q *request) (reply, error) {
	a, err := ma.NewMultiaddr(q.Addr)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	h.mu.Lock()
	h.announced = append(h.announced, a)
	h.mu.Unlock()
	for ctx.Err() == nil {
		if ma.Contains(h.host.Addrs(), a) {
			return reply{"ms": since(start)}, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("the host does not take the address up")
}

// limited tells whether all connections to p go through a relay that limits them.
func (h *node) limited(p peer.ID) bool {
	return h.host.Network().Connectedness(p) == network.Limited
}
