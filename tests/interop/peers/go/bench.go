package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// rounds runs count rounds on parallel workers and reports how long they took.
func rounds(ctx context.Context, count, parallel int, round func(worker int) error) (reply, error) {
	count, parallel = orDefault(count, 1), orDefault(parallel, 1)
	var mu sync.Mutex
	var times []float64
	errs := []string{}
	failed, next := 0, 0
	start := time.Now()
	var wg sync.WaitGroup
	for w := range parallel {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				mu.Lock()
				if next >= count || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				t := time.Now()
				err := round(w)
				d := since(t)
				mu.Lock()
				if err == nil {
					times = append(times, d)
				} else if failed++; len(errs) < 5 {
					errs = append(errs, err.Error())
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	r := reply{"done": len(times), "failed": failed, "errors": errs, "ms": since(start)}
	if len(times) > 0 {
		sort.Float64s(times)
		r["p50"] = times[len(times)/2]
		r["p99"] = times[len(times)*99/100]
	}
	if failed > 0 {
		return r, fmt.Errorf("%d of %d rounds failed: %s", failed, count, errs[0])
	}
	if len(times) < count {
		return r, fmt.Errorf("out of time after %d of %d rounds", len(times), count)
	}
	return r, nil
}

// oneByte is the smallest conversation: a byte there, the same byte and EOF back.
func (h *node) oneByte(ctx context.Context, p peer.ID) error {
	s, err := h.open(ctx, p, protoEcho)
	if err != nil {
		return err
	}
	b := []byte{0x5a}
	if _, err = s.Write(b); err == nil {
		err = s.CloseWrite()
	}
	if err == nil {
		_, err = io.ReadFull(s, b)
	}
	if err == nil {
		if n, rerr := s.Read(b); n != 0 || rerr != io.EOF {
			err = errors.New("no EOF after the echo")
		}
	}
	if err != nil {
		s.Reset()
		return err
	}
	return s.Close()
}

func cmdBenchConns(ctx context.Context, h *node, q *request) (reply, error) {
	if q.Parallel > 1 {
		return nil, unsupported("one host holds one connection per peer: run bench-conns on several hosts instead")
	}
	info, err := peer.AddrInfoFromString(q.Addr)
	if err != nil {
		return nil, err
	}
	if h.host.Network().Connectedness(info.ID) == network.Connected {
		return nil, errors.New("already connected")
	}
	return rounds(ctx, q.Count, 1, func(int) error {
		c, err := h.dial(ctx, q.Addr)
		if err != nil {
			return err
		}
		err = h.oneByte(ctx, info.ID)
		return errors.Join(err, c.Close())
	})
}

func cmdBenchStreams(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	return rounds(ctx, q.Count, q.Parallel, func(int) error { return h.oneByte(ctx, p) })
}

func cmdBenchPing(ctx context.Context, h *node, q *request) (reply, error) {
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	rtts, err := h.pings(ctx, p, orDefault(q.Count, 1))
	r := reply{"done": len(rtts), "failed": orDefault(q.Count, 1) - len(rtts), "errors": []string{}, "ms": since(start)}
	if len(rtts) > 0 {
		sort.Float64s(rtts)
		r["p50"] = rtts[len(rtts)/2]
		r["p99"] = rtts[len(rtts)*99/100]
	}
	return r, err
}

func cmdBenchFindnode(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	return rounds(ctx, q.Count, q.Parallel, func(int) error {
		key := make([]byte, 32)
		rand.Read(key)
		_, err := h.findNode(ctx, p, key)
		return err
	})
}

func cmdHold(ctx context.Context, nodes []*node, q *request) (reply, error) {
	count := orDefault(q.Count, 1)
	if q.Host+count > len(nodes) {
		return nil, errors.New("hold needs a host per connection (--hosts)")
	}
	var mu sync.Mutex
	next := q.Host
	return rounds(ctx, count, 16, func(int) error {
		mu.Lock()
		h := nodes[next]
		next++
		mu.Unlock()
		c, err := h.dial(ctx, q.Addr)
		if err == nil {
			_, err = h.waitIdentify(ctx, c.RemotePeer())
		}
		return err
	})
}
