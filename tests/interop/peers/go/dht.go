package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

var errNoDht = errors.New("this process runs without a DHT (--dht)")

func peerTexts(ids []peer.ID) []string {
	out := []string{}
	for _, p := range ids {
		out = append(out, p.String())
	}
	return out
}

func nsCid(ns string) cid.Cid {
	sum := sha256.Sum256([]byte(ns))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // only for an unknown hash code
	}
	return cid.NewCidV1(cid.Raw, mh)
}

func cmdDhtRefresh(ctx context.Context, h *node, _ *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	start := time.Now()
	select {
	case err := <-h.dht.ForceRefresh():
		return reply{"ms": since(start)}, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func cmdDhtTable(_ context.Context, h *node, _ *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	return reply{"peers": peerTexts(h.dht.RoutingTable().ListPeers())}, nil
}

func cmdDhtClosest(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	key, err := hex.DecodeString(q.Key)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	ids, err := h.dht.GetClosestPeers(ctx, string(key))
	return reply{"peers": peerTexts(ids), "ms": since(start)}, err
}

// findNode is one FIND_NODE request to one peer.
func (h *node) findNode(ctx context.Context, p peer.ID, key []byte) ([]string, error) {
	m, err := h.dht.MessageSender().SendRequest(ctx, p, pb.NewMessage(pb.Message_FIND_NODE, key, 0))
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, c := range m.GetCloserPeers() {
		id, err := peer.IDFromBytes([]byte(c.Id))
		if err != nil {
			return out, err
		}
		out = append(out, id.String())
	}
	return out, nil
}

func cmdDhtQuery(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	p, err := h.remote(q)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(q.Key)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	ids, err := h.findNode(ctx, p, key)
	return reply{"peers": ids, "ms": since(start)}, err
}

func cmdDhtFindPeer(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	p, err := peer.Decode(q.Peer)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	info, err := h.dht.FindPeer(ctx, p)
	return reply{"addrs": addrTexts(info.Addrs), "ms": since(start)}, err
}

func (h *node) provide(ctx context.Context, c cid.Cid) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	start := time.Now()
	err := h.dht.Provide(ctx, c, true)
	return reply{"ms": since(start)}, err
}

func (h *node) findProviders(ctx context.Context, c cid.Cid, count int) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	start := time.Now()
	out := []reply{}
	for info := range h.dht.FindProvidersAsync(ctx, c, orDefault(count, 20)) {
		out = append(out, reply{"id": info.ID.String(), "addrs": addrTexts(info.Addrs)})
	}
	return reply{"providers": out, "ms": since(start)}, ctx.Err()
}

func cmdDhtProvide(ctx context.Context, h *node, q *request) (reply, error) {
	c, err := cid.Decode(q.Cid)
	if err != nil {
		return nil, err
	}
	return h.provide(ctx, c)
}

func cmdDhtFindProviders(ctx context.Context, h *node, q *request) (reply, error) {
	c, err := cid.Decode(q.Cid)
	if err != nil {
		return nil, err
	}
	return h.findProviders(ctx, c, q.Count)
}

func cmdAdvertise(ctx context.Context, h *node, q *request) (reply, error) {
	return h.provide(ctx, nsCid(q.Ns))
}

func cmdFindNs(ctx context.Context, h *node, q *request) (reply, error) {
	return h.findProviders(ctx, nsCid(q.Ns), q.Count)
}

func cmdDhtPut(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	key, err := hex.DecodeString(q.Key)
	if err != nil {
		return nil, err
	}
	value, err := hex.DecodeString(q.Value)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	err = h.dht.PutValue(ctx, string(key), value)
	return reply{"ms": since(start)}, err
}

func cmdDhtGet(ctx context.Context, h *node, q *request) (reply, error) {
	if h.dht == nil {
		return nil, errNoDht
	}
	key, err := hex.DecodeString(q.Key)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	value, err := h.dht.GetValue(ctx, string(key))
	return reply{"value": hex.EncodeToString(value), "ms": since(start)}, err
}

func cmdMdnsPeers(_ context.Context, h *node, _ *request) (reply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []string{}
	for p := range h.heard {
		out = append(out, p.String())
	}
	return reply{"peers": out}, nil
}
