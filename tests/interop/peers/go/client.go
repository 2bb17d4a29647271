package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-msgio"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

func protocolID(s string) protocol.ID { return protocol.ID(s) }

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func since(t time.Time) float64 { return ms(time.Since(t)) }

func orDefault[T int | int64](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (q *request) bytesOr(def int64) int64 {
	if q.Bytes == nil {
		return def
	}
	return *q.Bytes
}

func addrTexts(addrs []ma.Multiaddr) []string {
	out := []string{}
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// remote is the peer a command names; there has to be a connection to it.
func (h *node) remote(q *request) (peer.ID, error) {
	p, err := peer.Decode(q.Peer)
	if err != nil {
		return "", fmt.Errorf("peer %q: %w", q.Peer, err)
	}
	if h.host.Network().Connectedness(p) != network.Connected && !h.limited(p) {
		return "", fmt.Errorf("not connected to %s", p)
	}
	return p, nil
}

func (h *node) open(ctx context.Context, p peer.ID, id string) (network.Stream, error) {
	ctx = network.WithAllowLimitedConn(network.WithNoDial(ctx, "test"), "test")
	s, err := h.host.NewStream(ctx, p, protocol.ID(id))
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		s.SetDeadline(d)
	}
	return s, nil
}

func cmdConnect(ctx context.Context, h *node, q *request) (reply, error) {
	a, err := peer.AddrInfoFromString(q.Addr)
	if err != nil {
		return nil, err
	}
	already := h.host.Network().Connectedness(a.ID) == network.Connected || h.limited(a.ID)
	start := time.Now()
	if _, err = h.dial(ctx, q.Addr); err != nil {
		return nil, err
	}
	return reply{"peer": a.ID.String(), "ms": since(start), "already": already}, nil
}

func cmdDisconnect(_ context.Context, h *node, q *request) (reply, error) {
	p, err := peer.Decode(q.Peer)
	if err != nil {
		return nil, err
	}
	n := len(h.host.Network().ConnsToPeer(p))
	return reply{"closed": n}, h.host.Network().ClosePeer(p)
}

func cmdPeers(_ context.Context, h *node, _ *request) (reply, error) {
	out := []reply{}
	for _, c := range h.host.Network().Conns() {
		dir := "out"
		if c.Stat().Direction == network.DirInbound {
			dir = "in"
		}
		_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
		out = append(out, reply{"id": c.RemotePeer().String(), "addr": c.RemoteMultiaddr().String(), "dir": dir,
			"relayed": err == nil, "limited": c.Stat().Limited, "opened": float64(c.Stat().Opened.UnixNano()) / 1e6})
	}
	return reply{"peers": out}, nil
}

func cmdIdentify(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	ev, err := h.waitIdentify(ctx, p)
	if err != nil {
		return nil, err
	}
	protos := []string{}
	for _, id := range ev.Protocols {
		protos = append(protos, string(id))
	}
	r := reply{"agent": ev.AgentVersion, "protocolVersion": ev.ProtocolVersion, "protocols": protos,
		"listenAddrs": addrTexts(ev.ListenAddrs), "observedAddr": nil, "publicKey": nil,
		"signedRecord": "absent", "recordAddrs": nil, "recordSeq": nil}
	if ev.ObservedAddr != nil {
		r["observedAddr"] = ev.ObservedAddr.String()
	}
	if key := h.host.Peerstore().PubKey(p); key != nil {
		if b, err := crypto.MarshalPublicKey(key); err == nil {
			r["publicKey"] = hex.EncodeToString(b)
		}
	}
	raw, err := h.rawRecord(ctx, p)
	if err != nil {
		return r, err
	}
	if raw == nil {
		return r, nil
	}
	r["signedRecord"] = "rejected"
	var rec peer.PeerRecord
	env, err := record.ConsumeTypedEnvelope(raw, &rec)
	if err == nil && rec.PeerID == p && p.MatchesPublicKey(env.PublicKey) && ev.SignedPeerRecord != nil {
		r["signedRecord"] = "verified"
		r["recordAddrs"] = addrTexts(rec.Addrs)
		r["recordSeq"] = rec.Seq
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "signed record of %s: %v\n", p, err)
	}
	return r, nil
}

// rawRecord asks for identify once more and returns the signedPeerRecord field as it was sent: the library
// does not tell a missing record from one that it threw away.
func (h *node) rawRecord(ctx context.Context, p peer.ID) ([]byte, error) {
	s, err := h.open(ctx, p, identify.ID)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	in := msgio.NewVarintReaderSize(s, 64<<10)
	var rec []byte
	for {
		m, err := in.ReadMsg()
		if err == io.EOF {
			return rec, nil
		}
		if err != nil {
			return nil, err
		}
		for len(m) > 0 {
			num, typ, n := protowire.ConsumeTag(m)
			if n < 0 {
				return nil, errors.New("identify message does not parse")
			}
			m = m[n:]
			n = protowire.ConsumeFieldValue(num, typ, m)
			if n < 0 {
				return nil, errors.New("identify message does not parse")
			}
			if num == 8 && typ == protowire.BytesType {
				v, _ := protowire.ConsumeBytes(m)
				rec = bytes.Clone(v)
			}
			m = m[n:]
		}
	}
}

func (h *node) pings(ctx context.Context, p peer.ID, count int) ([]float64, error) {
	ctx, cancel := context.WithCancel(network.WithAllowLimitedConn(ctx, "test"))
	defer cancel()
	rtts := []float64{}
	results := ping.Ping(ctx, h.host, p)
	for len(rtts) < count {
		select {
		case r, ok := <-results:
			if !ok {
				return rtts, errors.New("ping ended early")
			}
			if r.Error != nil {
				return rtts, r.Error
			}
			rtts = append(rtts, ms(r.RTT))
		case <-ctx.Done():
			return rtts, ctx.Err()
		}
	}
	return rtts, nil
}

func cmdPing(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	rtts, err := h.pings(ctx, p, orDefault(q.Count, 1))
	return reply{"rtts": rtts}, err
}

// exchange sends total bytes of payload and checks that the same come back, then EOF.
// passGate is called after the first byte came back.
func exchange(s network.Stream, total int64, from int, passGate func()) error {
	sent, check := payload{from % len(payloadBlock)}, payload{from % len(payloadBlock)}
	left := total
	expect := func(n int64) error {
		buf := make([]byte, ioChunk)
		for n > 0 {
			got, err := s.Read(buf[:min(n, ioChunk)])
			for b := buf[:got]; len(b) > 0; {
				want := check.next(len(b))
				if !bytes.Equal(b[:len(want)], want) {
					return errors.New("echoed bytes differ")
				}
				b = b[len(want):]
			}
			n -= int64(got)
			if err != nil && n > 0 {
				return fmt.Errorf("%d bytes missing: %w", n, err)
			}
		}
		return nil
	}
	if passGate != nil && total > 0 {
		if _, err := s.Write(sent.next(1)); err != nil {
			return err
		}
		if err := expect(1); err != nil {
			return err
		}
		left--
		passGate()
	}
	wrote := make(chan error, 1)
	go func() {
		for n := left; n > 0; {
			b := sent.next(int(min(n, ioChunk)))
			if _, err := s.Write(b); err != nil {
				wrote <- err
				return
			}
			n -= int64(len(b))
		}
		wrote <- s.CloseWrite()
	}()
	if err := expect(left); err != nil {
		return err
	}
	if err := <-wrote; err != nil {
		return err
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("expected EOF, got %d bytes, %v", n, err)
	}
	return nil
}

func (h *node) echoOnce(ctx context.Context, p peer.ID, total int64, from int, passGate func()) error {
	s, err := h.open(ctx, p, protoEcho)
	if err != nil {
		return err
	}
	if err = exchange(s, total, from, passGate); err != nil {
		s.Reset()
		return err
	}
	h.counters.BytesOut.Add(total)
	h.counters.BytesIn.Add(total)
	return s.Close()
}

func cmdEcho(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	streams := orDefault(q.Streams, 1)
	total := q.bytesOr(1024)
	start := time.Now()
	errs := make([]error, streams)
	var gate, done sync.WaitGroup // gate: everyone has passed its first byte or failed
	gate.Add(streams)
	for i := range streams {
		done.Add(1)
		go func() {
			defer done.Done()
			var once sync.Once
			leave := func() { once.Do(gate.Done) }
			defer leave()
			var pass func()
			if q.Hold {
				pass = func() { leave(); gate.Wait() }
			}
			errs[i] = h.echoOnce(ctx, p, total, i*8191, pass)
		}()
	}
	done.Wait()
	texts := []string{}
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
			if len(texts) < 5 {
				texts = append(texts, err.Error())
			}
		}
	}
	r := reply{"good": streams - failed, "failed": failed, "errors": texts, "ms": since(start)}
	if failed > 0 {
		return r, fmt.Errorf("%d of %d streams failed: %s", failed, streams, texts[0])
	}
	return r, nil
}

func cmdSink(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	s, err := h.open(ctx, p, protoSink)
	if err != nil {
		return nil, err
	}
	total := q.bytesOr(1 << 20)
	sum := sha256.New()
	src := payload{}
	for left := total; left > 0; {
		b := src.next(int(min(left, int64(orDefault(q.Chunk, ioChunk)))))
		sum.Write(b)
		if _, err = s.Write(b); err != nil {
			s.Reset()
			return nil, err
		}
		left -= int64(len(b))
	}
	if err = s.CloseWrite(); err != nil {
		s.Reset()
		return nil, err
	}
	got, err := io.ReadAll(s)
	if err != nil {
		s.Reset()
		return nil, err
	}
	s.Close()
	h.counters.BytesOut.Add(total)
	want := binary.BigEndian.AppendUint64(sum.Sum(nil), uint64(total))
	if !bytes.Equal(got, want) {
		return nil, fmt.Errorf("the sink answered %x, not %x", got, want)
	}
	return reply{"sha256": hex.EncodeToString(want[:32]), "ms": since(start)}, nil
}

// download asks the source for total bytes and checks the hash; between is called after each chunk.
func (h *node) download(ctx context.Context, p peer.ID, total int64, chunk int, between func()) (string, error) {
	s, err := h.open(ctx, p, protoSource)
	if err != nil {
		return "", err
	}
	sum, err := func() (string, error) {
		if _, err := s.Write(binary.BigEndian.AppendUint64(nil, uint64(total))); err != nil {
			return "", err
		}
		if err := s.CloseWrite(); err != nil {
			return "", err
		}
		sum := sha256.New()
		buf := make([]byte, chunk)
		for left := total; left > 0; {
			n, err := io.ReadFull(s, buf[:min(left, int64(chunk))])
			sum.Write(buf[:n])
			left -= int64(n)
			if err != nil {
				return "", fmt.Errorf("%d bytes missing: %w", left, err)
			}
			if between != nil {
				between()
			}
		}
		tail, err := io.ReadAll(s)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(tail, sum.Sum(nil)) {
			return "", fmt.Errorf("the source's hash is %x, of what came it is %x", tail, sum.Sum(nil))
		}
		return hex.EncodeToString(tail), nil
	}()
	if err != nil {
		s.Reset()
		return "", err
	}
	h.counters.BytesIn.Add(total)
	return sum, s.Close()
}

func cmdSource(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	sum, err := h.download(ctx, p, q.bytesOr(1<<20), ioChunk, nil)
	return reply{"sha256": sum, "ms": since(start)}, err
}

func cmdSlow(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	pause := time.Duration(orDefault(q.Pause, 20)) * time.Millisecond
	start := time.Now()
	total, chunk, count := q.bytesOr(4<<20), orDefault(q.Chunk, ioChunk), orDefault(q.Pings, 5)
	gap := pause * time.Duration(total/int64(chunk)) / time.Duration(count+1)
	var rtts []float64
	pinged := make(chan error, 1)
	go func() {
		for range count {
			time.Sleep(gap)
			rtt, err := h.pings(ctx, p, 1)
			if err != nil {
				pinged <- err
				return
			}
			rtts = append(rtts, rtt...)
		}
		pinged <- nil
	}()
	sum, err := h.download(ctx, p, total, chunk, func() { time.Sleep(pause) })
	if err != nil {
		return nil, err
	}
	if err = <-pinged; err != nil {
		return nil, fmt.Errorf("ping while reading slowly: %w", err)
	}
	return reply{"sha256": sum, "ms": since(start), "rtts": rtts}, nil
}

func (h *node) alive(ctx context.Context, p peer.ID) bool {
	if h.host.Network().Connectedness(p) != network.Connected && !h.limited(p) {
		return false
	}
	_, err := h.pings(ctx, p, 1)
	return err == nil
}

func cmdReset(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	s, err := h.open(ctx, p, protoReset)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err = s.Write([]byte{1}); err != nil {
		return nil, err
	}
	r := reply{"outcome": "reset", "code": nil}
	n, err := s.Read(make([]byte, 1))
	var se *network.StreamError
	switch {
	case n > 0:
		return nil, errors.New("bytes came instead of a reset")
	case err == io.EOF:
		r["outcome"] = "eof"
	case errors.As(err, &se):
		r["code"] = se.ErrorCode
	case !errors.Is(err, network.ErrReset):
		return nil, err
	}
	if r["alive"] = h.alive(ctx, p); r["alive"] == false {
		return r, errors.New("the connection did not survive the reset")
	}
	return r, nil
}

func cmdResetOut(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	s, err := h.open(ctx, p, protoReset)
	if err != nil {
		return nil, err
	}
	op := []byte{2}
	if _, err = s.Write(op); err == nil {
		_, err = io.ReadFull(s, op)
	}
	s.ResetWithError(resetCode)
	if err != nil {
		return nil, err
	}
	if !h.alive(ctx, p) {
		return reply{"alive": false}, errors.New("the connection did not survive the reset")
	}
	return reply{"alive": true}, nil
}

func cmdWrongID(ctx context.Context, h *node, q *request) (reply, error) {
	info, err := peer.AddrInfoFromString(q.Addr)
	if err != nil {
		return nil, err
	}
	h.host.Peerstore().ClearAddrs(info.ID)
	_, err = h.dial(ctx, q.Addr)
	h.host.Peerstore().ClearAddrs(info.ID)
	if err == nil {
		return reply{"refused": false}, errors.New("the dial succeeded")
	}
	var mismatch sec.ErrPeerIDMismatch
	same := errors.As(err, &mismatch) || strings.Contains(err.Error(), "peer id mismatch")
	return reply{"refused": true, "mismatch": same, "error": err.Error()}, nil
}

func cmdPerf(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	s, err := h.open(ctx, p, protoPerf)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (reply, error) { s.Reset(); return nil, err }
	if _, err = s.Write(binary.BigEndian.AppendUint64(nil, uint64(q.Down))); err != nil {
		return fail(err)
	}
	src := payload{}
	for left := q.Up; left > 0; {
		b := src.next(int(min(left, ioChunk)))
		if _, err = s.Write(b); err != nil {
			return fail(err)
		}
		left -= int64(len(b))
	}
	if err = s.CloseWrite(); err != nil {
		return fail(err)
	}
	turn := time.Now()
	buf := make([]byte, ioChunk)
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, buf)
	if err != nil {
		return fail(err)
	}
	if got != q.Down {
		return fail(fmt.Errorf("asked for %d bytes, got %d", q.Down, got))
	}
	s.Close()
	h.counters.BytesOut.Add(q.Up)
	h.counters.BytesIn.Add(q.Down)
	return reply{"ms": since(start), "upMs": ms(turn.Sub(start)), "downMs": since(turn)}, nil
}

func cmdKey(_ context.Context, h *node, _ *request) (reply, error) {
	b, err := crypto.MarshalPublicKey(h.key.GetPublic())
	return reply{"id": h.host.ID().String(), "publicKey": hex.EncodeToString(b),
		"type": strings.ToLower(h.key.Type().String())}, err
}

func cmdCounters(_ context.Context, h *node, _ *request) (reply, error) {
	return reply{"counters": h.counters.export()}, nil
}

func cmdGC(context.Context, *node, *request) (reply, error) {
	runtime.GC()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	read := func(name string) (kib int64) {
		for _, line := range strings.Split(string(status), "\n") {
			if strings.HasPrefix(line, name+":") {
				fmt.Sscan(strings.TrimPrefix(line, name+":"), &kib)
			}
		}
		return kib
	}
	return reply{"rssKiB": read("VmRSS"), "anonKiB": read("RssAnon")}, nil
}
