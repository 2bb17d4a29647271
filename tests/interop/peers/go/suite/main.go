// go-libp2p under the contract of the public interop suites' transport test: ../../../suite/README.md.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

type plan struct {
	dialer, lines                  bool
	transport, security, muxer, ip string
	redis, key                     string
	timeout                        time.Duration
}

func variable(name, missing string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return missing
}

func readPlan() plan {
	test, now := os.LookupEnv("TEST_KEY")
	pick := func(newer, older, missing string) string {
		if now {
			return variable(newer, missing)
		}
		return variable(older, missing)
	}
	p := plan{
		lines:     now,
		dialer:    pick("IS_DIALER", "is_dialer", "false") == "true",
		transport: pick("TRANSPORT", "transport", ""),
		security:  pick("SECURE_CHANNEL", "security", ""),
		muxer:     pick("MUXER", "muxer", ""),
		ip:        pick("LISTENER_IP", "ip", "0.0.0.0"),
		redis:     pick("REDIS_ADDR", "redis_addr", "redis:6379"),
		key:       "listenerAddr",
	}
	if now {
		p.key = test + "_listener_multiaddr"
	}
	seconds, err := strconv.Atoi(pick("TEST_TIMEOUT_SECS", "test_timeout_seconds", "180"))
	if err != nil {
		die("the time-out is no number")
	}
	p.timeout = time.Duration(seconds) * time.Second
	return p
}

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// ask sends Redis one command and returns the last text of its answer.
func ask(conn net.Conn, args ...string) (string, error) {
	fmt.Fprintf(conn, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(a), a)
	}
	r := bufio.NewReader(conn)
	last := ""
	for left := 1; left > 0; left-- {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		body := strings.TrimSpace(line[1:])
		n, _ := strconv.Atoi(body)
		switch {
		case line[0] == '-':
			return "", fmt.Errorf("Redis says %s", body)
		case line[0] == '*' && n < 0, line[0] == '$' && n < 0:
			return "", fmt.Errorf("no value in time")
		case line[0] == '*':
			left += n
		case line[0] == '$':
			text := make([]byte, n+2)
			if _, err := io.ReadFull(r, text); err != nil {
				return "", err
			}
			last = string(text[:n])
		}
	}
	return last, nil
}

func connectRedis(p plan) net.Conn {
	for end := time.Now().Add(p.timeout); ; time.Sleep(200 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.redis)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			die("%v", err)
		}
	}
}

func makeHost(p plan) (host.Host, error) {
	opts := []libp2p.Option{libp2p.DisableRelay(), libp2p.DisableMetrics()}
	listen := ""
	switch p.transport {
	case "quic-v1":
		opts = append(opts, libp2p.Transport(quic.NewTransport))
		listen = fmt.Sprintf("/ip4/%s/udp/0/quic-v1", p.ip)
	case "tcp":
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport))
		listen = fmt.Sprintf("/ip4/%s/tcp/0", p.ip)
		if p.muxer != "yamux" {
			return nil, fmt.Errorf("no muxer %q", p.muxer)
		}
		opts = append(opts, libp2p.Muxer(yamux.ID, yamux.DefaultTransport))
		switch p.security {
		case "noise":
			opts = append(opts, libp2p.Security(noise.ID, noise.New))
		case "tls":
			opts = append(opts, libp2p.Security(libp2ptls.ID, libp2ptls.New))
		default:
			return nil, fmt.Errorf("no security %q", p.security)
		}
	default:
		return nil, fmt.Errorf("no transport %q", p.transport)
	}
	if p.dialer {
		opts = append(opts, libp2p.NoListenAddrs)
	} else {
		opts = append(opts, libp2p.ListenAddrStrings(listen))
	}
	return libp2p.New(opts...)
}

func dial(p plan, h host.Host, redis net.Conn) error {
	text, err := ask(redis, "BLPOP", p.key, strconv.Itoa(int(p.timeout.Seconds())))
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	begun := time.Now()
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	result := <-ping.Ping(ctx, h, info.ID)
	if result.Error != nil {
		return result.Error
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	if p.lines {
		fmt.Printf("latency:\n  handshake_plus_one_rtt: %.3f\n  ping_rtt: %.3f\n  unit: ms\n", ms(time.Since(begun)), ms(result.RTT))
	} else {
		fmt.Printf("{\"handshakePlusOneRTTMillis\": %.3f, \"pingRTTMilllis\": %.3f}\n", ms(time.Since(begun)), ms(result.RTT))
	}
	return nil
}

func listen(p plan, h host.Host, redis net.Conn) error {
	var own ma.Multiaddr
	addrs, err := h.Network().InterfaceListenAddresses()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if own == nil || !manet.IsIPLoopback(a) {
			own = a
		}
	}
	if own == nil {
		return fmt.Errorf("no address to tell others")
	}
	if _, err := ask(redis, "DEL", p.key); err != nil {
		return err
	}
	if _, err := ask(redis, "RPUSH", p.key, fmt.Sprintf("%s/p2p/%s", own, h.ID())); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	select {
	case <-term:
		return nil
	case <-time.After(p.timeout):
		return fmt.Errorf("nobody ended this in %v", p.timeout)
	}
}

func main() {
	p := readPlan()
	h, err := makeHost(p)
	if err != nil {
		die("%v", err)
	}
	redis := connectRedis(p)
	if p.dialer {
		err = dial(p, h, redis)
	} else {
		err = listen(p, h, redis)
	}
	h.Close()
	if err != nil {
		die("%v", err)
	}
}
